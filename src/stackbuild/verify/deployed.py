"""Read deployed layers: their files and distributions."""

from __future__ import annotations

import mmap
import posixpath
from dataclasses import dataclass, field, replace
from email.parser import BytesHeaderParser
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from stackbuild.errors import quoted
from stackbuild.install.generation import stored
from stackbuild.install.root import Root
from stackbuild.install.store import Store
from stackbuild.layout import extension_module, extension_suffixes
from stackbuild.record import record_rows
from stackbuild.spec.model import LayerKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from email.message import Message
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
    """Relative to the layer; a path outside it begins with ``..``."""
    digest: str
    """``sha256=…``, or empty."""
    size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A distribution in the site-packages of a layer."""

    name: NormalizedName
    version: str
    wheel: str
    """The file name of its wheel, or a name made from name and version."""
    requires: tuple[str, ...]
    """The `Requires-Dist` of its metadata."""
    requires_python: str | None
    record: tuple[RecordEntry, ...] | None
    """None if there is no readable RECORD."""
    info: str
    """Its `.dist-info` directory, relative to the layer."""
    from_index: bool = False
    """Whether the layer was published with it, and its wheel was not built from source here."""
    tags: tuple[str, ...] = ()
    """The tags in its WHEEL, such as ``cp312-cp312-win_amd64``."""

    def __str__(self) -> str:
        """``numpy 2.2.6``."""
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedLayer:
    """A layer in a generation of a root."""

    manifest: Manifest
    root: Path
    directory: Path
    layout: Layout
    kinds: Mapping[str, FrameKind]
    """The kind of each installed file, by path relative to the layer."""
    links: frozenset[str]
    """Installed symbolic links, relative to the layer."""
    distributions: tuple[Distribution, ...]
    sums: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Size and CRC-32 of each installed file as it was published."""

    @property
    def interpreter(self) -> Path:
        """The executable that starts Python in this layer."""
        if self.manifest.kind is LayerKind.RUNTIME:
            return self.directory / self.layout.runtime_interpreter
        return self.directory / self.layout.interpreter

    @property
    def stands_in(self) -> bool:
        """Whether the interpreter of a runtime is another than the spec asks for."""
        about = self.manifest.provenance.get("runtime")
        return isinstance(about, dict) and about.get("stands_in") is True

    def remedy(self, path: str) -> str:
        """How to restore the file `path`, relative to the layer."""
        again = f"publish {self.manifest.layer} again, and install it"
        # The installer copies the interpreter of layers for Windows.
        if path in self.kinds or path in self.links or path == self.layout.interpreter:
            repair = f"stackbuild repair {quoted(self.root)} --from PLACE"
            return f"`{repair}` restores what was published; if that is the same, {again}"
        return again


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
    """The layers installed in `root`. Raises InstallError if there are none."""
    where = Root(root)
    trees, state = where.installed_layers()
    store = Store(state.store or where.own_store)
    layers = {
        directory: _layer(manifest, where.path, trees / directory, store)
        for directory, manifest in state.layers.items()
    }
    return Deployment(root=where.path, state=state, layers=layers)


def _layer(manifest: Manifest, root: Path, directory: Path, store: Store) -> DeployedLayer:
    kinds: dict[str, FrameKind] = {}
    links: set[str] = set()
    sums: dict[str, tuple[int, int]] = {}
    for placed in manifest.frames:
        listing = stored(manifest, placed.frame.sha256, store)
        kinds.update(dict.fromkeys((file.path for file in listing.files), placed.frame.kind))
        sums.update((file.path, (file.size, file.crc32)) for file in listing.files)
        links.update(path for path, _ in listing.links)
    return DeployedLayer(
        manifest=manifest,
        root=root,
        directory=directory,
        layout=manifest.layout,
        kinds=kinds,
        links=frozenset(links),
        distributions=_distributions(manifest, directory, manifest.layout),
        sums=sums,
    )


def _distributions(manifest: Manifest, directory: Path, layout: Layout) -> tuple[Distribution, ...]:
    wheels = {shipped.name: shipped.wheel for shipped in manifest.distributions}
    built = manifest.provenance.get("built")
    from_index = set(wheels).difference(map(str, built if isinstance(built, list) else ()))
    infos = sorted((directory / layout.site_packages).glob("*.dist-info"))
    found = [_distribution(info, layout.site_packages, wheels) for info in infos if info.is_dir()]
    return tuple(replace(one, from_index=one.name in from_index) for one in found)


def _distribution(info: Path, site_packages: str, wheels: Mapping[str, str]) -> Distribution:
    from packaging.utils import canonicalize_name

    name, _, version = info.name.removesuffix(".dist-info").partition("-")
    metadata, wheel = _headers(info / "METADATA"), _headers(info / "WHEEL")
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
        tags=tuple(str(value).strip() for value in wheel.get_all("Tag", [])),
    )


def _headers(path: Path) -> Message:
    """The headers in `path`; none if it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError:
        data = b""
    return BytesHeaderParser().parsebytes(data)


def _record(info: Path, site_packages: str) -> tuple[RecordEntry, ...] | None:
    try:
        rows = record_rows((info / "RECORD").read_bytes().decode())
    except (OSError, ValueError):
        return None
    # It lists at least itself, and file names contain no NUL.
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


TEST_SCAFFOLDING = (
    *("test.*", "tests.*", "*.test.*", "*.tests.*"),
    *("_test*", "*._test*", "*_test", "*_tests"),
)
"""Modules for the tests of a distribution."""

_VENDORED = ("*._vendor.*", "*._vendored.*")
"""Copies of other distributions, whose package chooses among them."""

_COMPILED_PARTS = ("*__mypyc", "*.__*")
"""Parts that a compiler generated for neighbouring modules: they cannot be imported alone."""

NOT_CHECKED = (*TEST_SCAFFOLDING, *_VENDORED)
"""Globs on the full names of modules whose files may be for another interpreter."""

LEFT_OUT = (*NOT_CHECKED, *_COMPILED_PARTS)
"""Globs on the full names of modules that are not imported.

Names with one underscore are imported: often they are the only native module (`openmm._openmm`),
and the package may hide their failure.
"""


def native_modules(layer: DeployedLayer, distribution: Distribution) -> Iterator[tuple[str, str]]:
    """Name and file (relative to the layer) of each module, from RECORD.

    Files with the tag of another interpreter and shared libraries are not modules. An untagged file
    is a module if it has an init function (PEP 489), and its file name has no further dots.
    """
    platform = layer.manifest.platform
    plain = extension_suffixes(platform, layer.layout.python)[-1]
    for entry in distribution.record or ():
        found = extension_module(entry.path, platform, layer.layout)
        if found is None:
            continue
        name, suffix = found
        last = entry.path.rpartition("/")[2].removesuffix(suffix)
        if suffix == plain and not _is_module(layer.directory / entry.path, last):
            continue
        yield name, entry.path


def is_left_out(module: str, globs: Iterable[str]) -> bool:
    """Whether `module` matches one of `globs`."""
    return any(fnmatchcase(module, pattern) for pattern in globs)


def _is_module(path: Path, name: str) -> bool:
    function = f"PyInit_{name}" if name.isascii() else "PyInitU_"
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(function.encode() + (b"\0" if name.isascii() else b"")) >= 0
    except (OSError, ValueError):
        return False  # missing or empty: the check of RECORD reports it
