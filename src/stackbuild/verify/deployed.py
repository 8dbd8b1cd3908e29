"""Deployed layers as the checks see them: their files, and the distributions in them."""

from __future__ import annotations

import csv
import posixpath
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from typing import TYPE_CHECKING

from stackbuild.install.generation import stored
from stackbuild.install.root import Root
from stackbuild.install.store import Store
from stackbuild.layout import layout_for
from stackbuild.spec.model import LayerKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from packaging.utils import NormalizedName

    from stackbuild.compose.manifest import Manifest
    from stackbuild.frames.model import FrameKind
    from stackbuild.install.state import State
    from stackbuild.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEntry:
    """A line of a RECORD (binary distribution format)."""

    path: str
    """Relative to the layer; one that leaves it begins with ``..``."""
    digest: str
    """``sha256=…``, or nothing."""
    size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A distribution in the site-packages of a layer."""

    name: NormalizedName
    version: str
    wheel: str
    """The file name of its wheel, or one made up from name and version."""
    requires: tuple[str, ...]
    """The `Requires-Dist` of its metadata."""
    requires_python: str | None
    record: tuple[RecordEntry, ...] | None
    """None where there is no RECORD that can be read."""
    info: str
    """Its `.dist-info` directory, relative to the layer."""

    def __str__(self) -> str:
        """``numpy 2.2.6``."""
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedLayer:
    """A layer in a generation of a root."""

    manifest: Manifest
    directory: Path
    layout: Layout
    kinds: Mapping[str, FrameKind]
    """Each file that was installed, relative to the layer, to what brought it."""
    links: frozenset[str]
    """Symbolic links that were installed, relative to the layer."""
    distributions: tuple[Distribution, ...]

    @property
    def interpreter(self) -> Path:
        """What starts Python in this layer."""
        if self.manifest.kind is LayerKind.RUNTIME:
            return self.directory / self.layout.runtime_interpreter
        return self.directory / self.layout.interpreter


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The generation of a root that is in use."""

    root: Path
    state: State
    layers: Mapping[str, DeployedLayer]
    """By directory, lower layers first."""

    def chain(self, layer: DeployedLayer) -> tuple[DeployedLayer, ...]:
        """`layer`, its frameworks, its runtime."""
        return (layer, *(self.layers[link.directory] for link in layer.manifest.chain))


def open_deployment(root: Path) -> Deployment:
    """What is installed in `root`. Raises InstallError where nothing is."""
    where = Root(root)
    state = where.installed_state()
    generation = where.current()
    assert generation is not None  # noqa: S101 - there is a state, so there is a generation
    store = Store(state.store or where.own_store)
    layers = {
        directory: _layer(manifest, generation / directory, store)
        for directory, manifest in state.layers.items()
    }
    return Deployment(root=where.path, state=state, layers=layers)


def _layer(manifest: Manifest, directory: Path, store: Store) -> DeployedLayer:
    from packaging.version import Version

    layout = layout_for(manifest.platform, Version(manifest.python_version))
    kinds: dict[str, FrameKind] = {}
    links: set[str] = set()
    for placed in manifest.frames:
        listing = stored(manifest, placed.frame.sha256, store)
        kinds.update(dict.fromkeys((file.path for file in listing.files), placed.frame.kind))
        links.update(path for path, _ in listing.links)
    return DeployedLayer(
        manifest=manifest,
        directory=directory,
        layout=layout,
        kinds=kinds,
        links=frozenset(links),
        distributions=_distributions(manifest, directory, layout),
    )


def _distributions(manifest: Manifest, directory: Path, layout: Layout) -> tuple[Distribution, ...]:
    wheels = {shipped.name: shipped.wheel for shipped in manifest.distributions}
    infos = sorted((directory / layout.site_packages).glob("*.dist-info"))
    return tuple(
        _distribution(info, layout.site_packages, wheels) for info in infos if info.is_dir()
    )


def _distribution(info: Path, site_packages: str, wheels: Mapping[str, str]) -> Distribution:
    from packaging.utils import canonicalize_name

    name, _, version = info.name.removesuffix(".dist-info").partition("-")
    try:
        metadata = BytesHeaderParser().parsebytes((info / "METADATA").read_bytes())
    except OSError:
        metadata = BytesHeaderParser().parsebytes(b"")
    normalized = canonicalize_name(str(metadata.get("Name", name)))
    python = metadata.get("Requires-Python")
    return Distribution(
        name=normalized,
        version=str(metadata.get("Version", version)),
        wheel=wheels.get(normalized, f"{name}-{version}.whl"),
        requires=tuple(str(value) for value in metadata.get_all("Requires-Dist", [])),
        requires_python=None if python is None else str(python),
        record=_record(info, site_packages),
        info=f"{site_packages}/{info.name}",
    )


def _record(info: Path, site_packages: str) -> tuple[RecordEntry, ...] | None:
    try:
        with (info / "RECORD").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    # It names itself at least, and no file's name has a NUL in it.
    if not rows or any("\0" in row[0] for row in rows):
        return None
    return tuple(
        RecordEntry(
            path=posixpath.normpath(posixpath.join(site_packages, row[0].replace("\\", "/"))),
            digest=row[1] if len(row) > 1 else "",
            size=row[2] if len(row) > 2 else "",
        )
        for row in rows
    )
