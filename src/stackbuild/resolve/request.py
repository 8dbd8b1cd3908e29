"""A request to uv, and its files: settings, requirements, pins and stub wheels.

A stub wheel has no files and replaces a distribution in a resolution. A
requirement that is overridden by the address of a stub wheel is always met.
The resolution contains the stub only if a distribution requires it. So one
request leaves a distribution out and shows whether it was needed. A distribution
that was built from source, which no index has, is a constraint with its real
version and dependencies, so that it must meet the requirements on it.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from stackbuild.tomltext import fields

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.indexes import IndexSettings
    from stackbuild.lock.targets import Target


ADDED = "added"
"""The directory with `ResolveRequest.added`."""
ANSWER = "pylock.answer.toml"
"""The file that uv writes the resolution to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreMetadata:
    """The part of a distribution's core metadata that a resolution depends on."""

    version: Version
    dependencies: tuple[str, ...] = ()
    """Requirements (PEP 508)."""
    extras: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveRequest:
    """A resolution to ask uv for."""

    layer: str
    requirements: tuple[str, ...]
    target: Target
    indexes: IndexSettings
    constraints: Mapping[NormalizedName, Version] = field(default_factory=dict)
    """Required versions: the pins of the layers below."""
    preferences: Mapping[NormalizedName, Version] = field(default_factory=dict)
    """Preferred versions."""
    excluded: Collection[NormalizedName] = ()
    """Distributions that are left out, also if others require them."""
    overrides: Mapping[NormalizedName, str] = field(default_factory=dict)
    """Distribution to the specifier that replaces all others."""
    without_dependencies: Collection[NormalizedName] = ()
    """Distributions whose dependencies are not followed."""
    from_source: Collection[NormalizedName] = ()
    """Distributions that are resolved from source distributions only."""
    sources: Collection[tuple[NormalizedName, CoreMetadata]] = ()
    """Known metadata of source distributions; others are treated as without dependencies."""
    built: Mapping[NormalizedName, CoreMetadata] = field(default_factory=dict)
    """Distributions that are not looked up: inherited, or at a path or address."""
    added: Mapping[str, Path] = field(default_factory=dict)
    """Wheels that are candidates besides those of the indexes, by file name."""
    no_deps: bool = False
    refresh: bool = False
    """Ask the indexes again, even for pages that may be cached."""

    @property
    def left_out(self) -> Collection[NormalizedName]:
        """What uv leaves out: `excluded`, and `exclude-dependencies` of its settings."""
        more = self.indexes.uv_settings.get("exclude-dependencies", ())
        return {*self.excluded, *cast("Collection[NormalizedName]", more)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A distribution that uv chose, and a wheel or the source distribution of it."""

    name: NormalizedName
    version: Version
    file: str
    url: str
    """Without credentials."""
    sha256: str | None
    size: int | None
    """In bytes, if the index gives it."""


def name_of(requirement: str) -> NormalizedName:
    """The name of the distribution that `requirement` (PEP 508) is on."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    return canonicalize_name(Requirement(requirement).name)


def project_name(layer: str) -> str:
    """The name of a layer in uv's messages, which is no distribution's."""
    return "layer-" + re.sub(r"[^a-z0-9]+", "-", layer.lower()).strip("-")


def write_request(
    request: ResolveRequest,
    tables: list[dict[str, object]],
    fixed: Mapping[NormalizedName, Found],
    directory: Path,
) -> None:
    """Write the files of `request` into `directory`, where uv runs.

    `tables` are the package indexes, `fixed` the wheels of overridden
    distributions that are bound to an index.
    """
    if request.added:
        (directory / ADDED).mkdir()
        for file, path in request.added.items():
            try:
                (directory / ADDED / file).symlink_to(path)
            except OSError:  # Windows asks for a privilege.
                shutil.copyfile(path, directory / ADDED / file)
    settings = {**request.indexes.uv_settings, "index": tables}
    # Unlike those of a flat index, they are candidates beside those of other indexes.
    links = request.indexes.find_links()
    links += [str(directory / ADDED)] if request.added else []
    if links:
        settings["find-links"] = links
    if metadata := list(_metadata(request)):
        # uv uses the first entry of a distribution and version.
        given = cast("list[object]", settings.get("dependency-metadata", []))
        settings["dependency-metadata"] = [*metadata, *given]
    (directory / "uv.toml").write_text(fields(settings), encoding="utf-8")
    # uv reads `sources` from a project only, and finds their indexes only there.
    project = {
        "project": {
            "name": project_name(request.layer),
            "version": "0",
            "dependencies": list(request.requirements),
        },
        "tool": {
            "uv": {
                # A workspace, so that uv does not search the parent directories for one.
                "workspace": {},
                "index": tables,
                "sources": {
                    name: {"index": index}
                    for name, index in request.indexes.sources.items()
                    if name not in request.excluded and name not in request.built
                },
            }
        },
    }
    (directory / "pyproject.toml").write_text(fields(project), encoding="utf-8")
    # A constraint requires nothing by itself; it applies if a distribution is needed.
    constraints = [
        f"{name}=={version}"
        for name, version in request.constraints.items()
        if name not in request.excluded and name not in request.built
    ]
    for name, known in sorted(request.built.items()):
        bare = name in request.without_dependencies
        stub = write_stub_wheel(directory, name, replace(known, dependencies=()) if bare else known)
        constraints.append(f"{name} @ {stub.as_uri()}")
    (directory / "constraints.txt").write_text("\n".join(constraints), encoding="utf-8")
    overrides = [
        f"{name} @ {write_stub_wheel(directory, name).as_uri()}"
        for name in sorted(request.excluded)
    ]
    for name, specifier in sorted(request.overrides.items()):
        if name in request.excluded:
            continue
        wheel = fixed.get(name)
        address = f" @ {request.indexes.with_credentials(wheel.url)}" if wheel else specifier
        overrides.append(f"{name}{address}")
    (directory / "overrides.txt").write_text("\n".join(overrides), encoding="utf-8")
    if request.preferences:
        # uv prefers the versions in an existing output file.
        packages = [
            {"name": name, "version": str(version)} for name, version in request.preferences.items()
        ]
        answer = {"lock-version": "1.0", "created-by": "stackbuild", "packages": packages}
        (directory / ANSWER).write_text(fields(answer), encoding="utf-8")


def _metadata(request: ResolveRequest) -> Iterator[dict[str, object]]:
    """The metadata of distributions for uv, so that it does not read or build them."""
    bare = {*request.without_dependencies, *request.from_source}
    for name in sorted(bare):
        yield {"name": name, "requires-dist": []}
    for name, known in request.sources:
        if name not in request.without_dependencies:
            yield {
                "name": name,
                "version": str(known.version),
                "requires-dist": list(known.dependencies),
                "provides-extra": list(known.extras),
            }


def write_stub_wheel(directory: Path, name: str, metadata: CoreMetadata | None = None) -> Path:
    """A wheel of `name` without files, in `directory`; of version 0 without `metadata`."""
    version = metadata.version if metadata else "0"
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    path = directory / f"{stem}-py3-none-any.whl"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    if metadata:
        lines += [f"Provides-Extra: {extra}" for extra in metadata.extras]
        lines += [f"Requires-Dist: {dependency}" for dependency in metadata.dependencies]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", "\n".join([*lines, ""]))
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: stackbuild\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path
