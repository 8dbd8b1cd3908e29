"""The `[[packages]]` of a lock, as PEP 751 and `tool.stackbuild` of each define them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from stackbuild.lock.model import (
    Build,
    BuildRequirement,
    Conflict,
    Inherited,
    LeftOut,
    LockedDistribution,
    LockedFile,
    ProjectSource,
    VcsSource,
)
from stackbuild.reading import Item, ReadError, records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.pylock import Package, PackageSdist, PackageWheel

    from stackbuild.reading import Readers


WHEELHOUSE = "../../wheelhouse/"
"""The wheelhouse as seen from a lock."""


def package_values(item: LockedDistribution) -> dict[str, Any]:
    """The table of `item`."""
    package: dict[str, Any] = {"name": str(item.name), "version": str(item.version)}
    if isinstance(item.source, LockedFile):
        package["sdist"] = _file(item.source)
    package["wheels"] = [_file(item.wheel)]
    own = {
        "index": item.index,
        "vcs": _vcs(item.source) if isinstance(item.source, VcsSource) else None,
        "project": dataclasses.asdict(item.source)
        if isinstance(item.source, ProjectSource)
        else None,
        "build": _build(item.build) if item.build else None,
    }
    if own := {key: value for key, value in own.items() if value}:
        package["tool"] = {"stackbuild": own}
    return package


def plain(value: object) -> object:
    """A value of a lock as TOML."""
    if isinstance(value, tuple):
        return [item if isinstance(item, str) else _by_key(item) for item in value]
    return value if isinstance(value, int) else str(value)


def _by_key(item: Inherited | Conflict | LeftOut | BuildRequirement) -> dict[str, str]:
    return {
        key.name.replace("_", "-"): str(getattr(item, key.name)) for key in dataclasses.fields(item)
    }


def _build(build: Build) -> dict[str, Any]:
    keys = ["recipe", *(["requirements"] if build.requirements is not None else [])]
    keys += [key for key in ("dependencies", "extras") if getattr(build, key)]
    return {key: plain(getattr(build, key)) for key in keys}


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


def parse_packages(values: Mapping[str, Any]) -> Sequence[Package]:
    """The packages of any lock of PEP 751. Raises ReadError."""
    from packaging.pylock import Pylock, PylockValidationError

    try:
        return Pylock.from_dict(values).packages
    except PylockValidationError as error:
        message = f"is not as PEP 751 says: {error.message}"
        raise ReadError(error.context or "", None, None, message) from None


def read_package(package: Package, place: str) -> LockedDistribution:
    """The distribution that `package`, at `place` in the lock, is about. Raises ReadError."""
    if package.version is None or len(package.wheels or ()) != 1:
        raise ReadError(place, None, None, "has no version, or not exactly one wheel")
    (wheel,) = package.wheels or ()
    tool = Item(f"{place}.tool", package.tool or {"stackbuild": {}})
    own: dict[str, Any] = tool["stackbuild"].record(dict, {}, _OWN)
    sdist = _file_of(package.sdist, f"{place}.sdist") if package.sdist else None
    source = own.get("vcs") or own.get("project") or sdist
    if (source is None) != ("build" not in own):
        raise ReadError(place, None, None, "needs a source and how it was built, or neither")
    return LockedDistribution(
        name=package.name,
        version=package.version,
        wheel=_file_of(wheel, f"{place}.wheels[0]"),
        source=source,
        index=own.get("index"),
        build=own.get("build"),
    )


def _file_of(file: PackageWheel | PackageSdist, place: str) -> LockedFile:
    name = Item(f"{place}.name", file.name).text()
    if "/" in name or "\\" in name or file.path != WHEELHOUSE + name:
        path = Item(f"{place}.path", file.path)
        raise path.wrong_type(f"{WHEELHOUSE} and the name of the file")
    return LockedFile(
        name=name,
        size=Item(f"{place}.size", file.size).count(),
        sha256=Item(f"{place}.hashes", file.hashes)["sha256"].sha256(),
    )


def _vcs_source(commit_id: str, requested_revision: str | None = None, **rest: Any) -> VcsSource:
    del rest["type"]
    return VcsSource(commit=commit_id, requested=requested_revision, **rest)


_VCS: Readers = {
    "type": lambda item: item.one_of(["git"]),
    "url": Item.text,
    "commit-id": Item.text,
}
_PINNED: Readers = {"name": Item.distribution, "version": Item.version, "sha256": Item.sha256}
_BUILD: Readers = {
    "requirements": records(BuildRequirement, _PINNED),
    "dependencies": Item.strings,
    "extras": Item.strings,
}
_OWN: Readers = {
    "index": Item.text,
    "vcs": lambda item: item.record(
        _vcs_source, _VCS, {"requested-revision": Item.text, "subdirectory": Item.text}
    ),
    "project": lambda item: item.record(ProjectSource, {"path": Item.text, "sha256": Item.sha256}),
    "build": lambda item: item.record(Build, {"recipe": Item.sha256}, _BUILD),
}
"""The keys of `tool.stackbuild` of a package."""
