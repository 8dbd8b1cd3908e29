"""The `[[packages]]` of a lock: a wheel of an index, one built here, or a source not built yet.

A wheel is named by its path in the wheelhouse. One that was built has its
source beside it: as `sdist`, or, since PEP 751 allows no wheel beside `vcs`,
as `tool.stackbuild.vcs`. A distribution that was not built yet has `sdist` or
`vcs` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stackbuild.lock.model import (
    LockedDistribution,
    LockedFile,
    UnbuiltDistribution,
    VcsSource,
)
from stackbuild.lock.values import DamageError, Reader

if TYPE_CHECKING:
    from stackbuild.lock.model import Source

WHEELHOUSE = "../../wheelhouse/"
"""The wheelhouse as seen from a lock."""


def inline_package(item: LockedDistribution | UnbuiltDistribution) -> dict[str, Any]:
    """The table of `item`, its parts inline."""
    import tomlkit

    package: dict[str, Any] = {"name": str(item.name), "version": str(item.version)}
    built = isinstance(item, LockedDistribution)
    if isinstance(item.source, LockedFile):
        package["sdist"] = inline(_file(item.source))
    elif item.source and not built:
        package["vcs"] = inline(_vcs(item.source))
    if isinstance(item, LockedDistribution):
        package["wheels"] = tomlkit.array()
        package["wheels"].append(inline(_file(item.wheel)))
        own: dict[str, Any] = {"index": item.index} if item.index else {}
        own |= {"vcs": _vcs(item.source)} if isinstance(item.source, VcsSource) else {}
        if own:
            package["tool"] = inline({"stackbuild": own})
    return package


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


def read_package(package: Reader) -> LockedDistribution | UnbuiltDistribution:
    """What a table of `[[packages]]` says. Raises DamageError."""
    name, version = package.name("name"), package.version("version")
    source: Source | None = None
    if "sdist" in package.values:
        source = _read_file(package.table("sdist"))
    elif "vcs" in package.values:
        source = _read_vcs(package.table("vcs"))
    if source and "wheels" not in package.values:
        return UnbuiltDistribution(name=name, version=version, source=source)
    wheels = package.list_of_tables("wheels")
    if len(wheels) != 1:
        raise DamageError(f"{package.place}.wheels: expected exactly one wheel")
    own = Reader(package.place_of("tool"), {})
    if "tool" in package.values:
        own = package.table("tool").table("stackbuild")
    if "vcs" in own.values:
        source = _read_vcs(own.table("vcs"))
    return LockedDistribution(
        name=name,
        version=version,
        wheel=_read_file(wheels[0]),
        source=source,
        index=own.text("index") if "index" in own.values else None,
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
