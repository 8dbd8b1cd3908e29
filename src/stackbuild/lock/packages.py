"""The `[[packages]]` of a lock: a wheel of an index, or one built from source.

A wheel is named by its path in the wheelhouse. One that was built has its
source beside it: as `sdist`, or, since PEP 751 allows no wheel beside `vcs`,
as `tool.stackbuild.vcs`; how it was built stands in `tool.stackbuild.build`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stackbuild.lock.model import (
    Build,
    BuildRequirement,
    LockedDistribution,
    LockedFile,
    VcsSource,
)
from stackbuild.lock.values import DamageError, Reader

if TYPE_CHECKING:
    from stackbuild.lock.model import Source

WHEELHOUSE = "../../wheelhouse/"
"""The wheelhouse as seen from a lock."""


def inline_package(item: LockedDistribution) -> dict[str, Any]:
    """The table of `item`, its parts inline."""
    import tomlkit

    package: dict[str, Any] = {"name": str(item.name), "version": str(item.version)}
    if isinstance(item.source, LockedFile):
        package["sdist"] = inline(_file(item.source))
    package["wheels"] = tomlkit.array()
    package["wheels"].append(inline(_file(item.wheel)))
    own: dict[str, Any] = {"index": item.index} if item.index else {}
    own |= {"vcs": _vcs(item.source)} if isinstance(item.source, VcsSource) else {}
    own |= {"build": _build(item.build)} if item.build else {}
    if own:
        package["tool"] = inline({"stackbuild": own})
    return package


def _build(build: Build) -> dict[str, Any]:
    values: dict[str, Any] = {"recipe": build.recipe}
    if build.requirements is not None:
        values["requirements"] = [
            inline({"name": str(one.name), "version": str(one.version), "sha256": one.sha256})
            for one in build.requirements
        ]
    texts = {"dependencies": list(build.dependencies), "extras": list(build.extras)}
    return values | {key: value for key, value in texts.items() if value}


def inline(values: dict[str, Any]) -> Any:
    """`values` as an inline table."""
    import tomlkit

    table = tomlkit.inline_table()
    for key, value in values.items():
        table[key] = inline(value) if isinstance(value, dict) else value
    return table


def _file(file: LockedFile) -> dict[str, Any]:
    return {
        "name": file.name,
        "path": WHEELHOUSE + file.name,
        "size": file.size,
        "hashes": {"sha256": file.sha256},
    }


def _vcs(source: VcsSource) -> dict[str, Any]:
    optional = {"requested-revision": source.requested, "subdirectory": source.subdirectory}
    return {"type": "git", "url": source.url, "commit-id": source.commit} | {
        key: value for key, value in optional.items() if value is not None
    }


def read_package(package: Reader) -> LockedDistribution:
    """What a table of `[[packages]]` says. Raises DamageError."""
    name, version = package.name("name"), package.version("version")
    source: Source | None = None
    if "sdist" in package.values:
        source = _read_file(package.table("sdist"))
    wheels = package.list_of_tables("wheels")
    if len(wheels) != 1:
        raise DamageError(f"{package.place}.wheels: expected exactly one wheel")
    own = Reader(package.place_of("tool"), {})
    if "tool" in package.values:
        own = package.table("tool").table("stackbuild")
    if "vcs" in own.values:
        source = _read_vcs(own.table("vcs"))
    build = _read_build(own.table("build")) if "build" in own.values else None
    if (source is None) != (build is None):
        raise DamageError(f"{package.place}: expected a source and how it was built, or neither")
    return LockedDistribution(
        name=name,
        version=version,
        wheel=_read_file(wheels[0]),
        source=source,
        index=own.text("index") if "index" in own.values else None,
        build=build,
    )


def _read_build(build: Reader) -> Build:
    known = "requirements" in build.values
    requirements = build.list_of_tables("requirements") if known else []
    return Build(
        recipe=build.sha256("recipe"),
        requirements=tuple(
            BuildRequirement(
                name=item.name("name"),
                version=item.version("version"),
                sha256=item.sha256("sha256"),
            )
            for item in requirements
        )
        if known
        else None,
        dependencies=tuple(build.texts("dependencies")) if "dependencies" in build.values else (),
        extras=tuple(build.texts("extras")) if "extras" in build.values else (),
    )


def _read_file(file: Reader) -> LockedFile:
    name = file.text("name")
    if "/" in name or "\\" in name or file.text("path") != WHEELHOUSE + name:
        raise DamageError(f"{file.place}.path: expected {WHEELHOUSE}<name of the file>")
    return LockedFile(
        name=name, size=file.number("size"), sha256=file.table("hashes").sha256("sha256")
    )


def _read_vcs(vcs: Reader) -> VcsSource:
    return VcsSource(
        url=vcs.text("url"),
        commit=vcs.text("commit-id"),
        requested=vcs.text("requested-revision") if "requested-revision" in vcs.values else None,
        subdirectory=vcs.text("subdirectory") if "subdirectory" in vcs.values else None,
    )
