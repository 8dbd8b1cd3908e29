"""Reads and writes the committed lock files, strictly and reproducibly.

`pylock.<platform>.toml` is a PEP 751 lock whose wheels are named by a path in
the wheelhouse, never by an address. Values that PEP 751 does not define are in
`[tool.stackbuild]`.
"""

from __future__ import annotations

import dataclasses
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import tomli

from stackbuild.durable import sync_directory
from stackbuild.errors import LockError
from stackbuild.files import read_regular, work_path
from stackbuild.lock.model import (
    Build,
    BuildRequirement,
    Conflict,
    Inherited,
    LayerLock,
    LeftOut,
    LockedDistribution,
    LockedFile,
    ProjectSource,
    RuntimeLock,
    VcsSource,
    content_digest,
)
from stackbuild.platforms import Platform
from stackbuild.reading import Item, NewerFormatError, ReadError, records
from stackbuild.spec.model import Download
from stackbuild.strictjson import digest_of
from stackbuild.tomltext import fields, section

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from packaging.pylock import Package, PackageSdist, PackageWheel

    from stackbuild.reading import Readers
    from stackbuild.workspace import Workspace


FORMAT = 1
PROJECTS_FORMAT = 2
"""Of a lock with a project of the repository, or with added wheels that were tried. Others keep the
older format, so that they do not change, and an older stackbuild reads them."""
_CHECKSUM = "checksum"
RUNTIME_FILE = "runtime.toml"
_WRITERS = 8
"""Locks that are written concurrently."""

_RESTORE = "restore it from version control, or remove it and run `stackbuild lock`"
_MADE_BY = "# Made by `stackbuild lock`"
_HEADER = """\
# Made by `stackbuild lock`; changes by hand are refused. Files are found by sha256:
# after `stackbuild fetch`, `uv pip install -r {name}` installs them too.
"""
_RUNTIME_HEADER = """\
# Made by `stackbuild lock`: the interpreter's archive for each platform.
"""


def lock_path(workspace: Workspace, layer_name: str, platform: Platform) -> Path:
    """The lock file of a layer on a platform."""
    return workspace.layers / layer_name / f"pylock.{platform}.toml"


def runtime_lock_path(workspace: Workspace, layer_name: str) -> Path:
    """The file that names the archives of a runtime."""
    return workspace.layers / layer_name / RUNTIME_FILE


def is_ours(path: Path) -> bool:
    """Whether `stackbuild lock` wrote the file."""
    text = read_regular(path).decode(errors="replace")
    return text.startswith(_MADE_BY) and "[tool.stackbuild]" in text


def read_lock(path: Path) -> LayerLock:
    """The lock in the file `path`.

    Raises LockError if it is missing, truncated, edited by hand, of a newer
    format, or that of another layer or platform.
    """
    values = _load(path)
    try:
        lock = _layer_lock(values)
    except ReadError as error:
        raise _refused(path, error) from None
    expected = path.parent.name, f"pylock.{lock.platform}.toml"
    if (lock.layer, path.name) != expected:
        raise LockError(
            "this is the lock of another layer or platform",
            file=path,
            found=f"that of {lock.layer} on {lock.platform}",
            remedy=_RESTORE,
        )
    return lock


def write_locks(
    workspace: Workspace, runtimes: Iterable[RuntimeLock], locks: Iterable[LayerLock]
) -> None:
    """Write the lock files. If one cannot be written, none is changed. Raises OSError."""
    from concurrent.futures import ThreadPoolExecutor

    texts = {runtime_lock_path(workspace, one.layer): runtime_text(one) for one in runtimes}
    for lock in locks:
        path = lock_path(workspace, lock.layer, lock.platform)
        texts[path] = lock_text(lock, path.name)
    works = {path: work_path(path) for path in texts}

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with works[path].open("xb") as file:
            file.write(texts[path].encode())
            file.flush()
            os.fsync(file.fileno())

    with ThreadPoolExecutor(_WRITERS) as pool:
        try:
            list(pool.map(write, texts))
            for path, work in works.items():
                work.replace(path)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            for work in works.values():
                with suppress(OSError):  # never created
                    work.unlink()
            raise
        list(pool.map(sync_directory, {path.parent for path in texts}))


def read_runtime_lock(workspace: Workspace, layer_name: str) -> RuntimeLock:
    """The archives of the runtime `layer_name`. Raises LockError as `read_lock` does."""
    path = runtime_lock_path(workspace, layer_name)
    try:
        return _runtime_lock(Item("", _load(path)))
    except ReadError as error:
        raise _refused(path, error) from None


def _runtime_lock(value: Item[object]) -> RuntimeLock:
    tool: dict[str, Any] = value["tool"]["stackbuild"].record(dict, _RUNTIME, formats=(FORMAT,))
    archives: dict[Platform, Download] = {}
    from_spec: set[Platform] = set()
    for key, entry in value["archives"].pairs():
        platform = key.choice(Platform)
        found: dict[str, Any] = entry.record(dict, _ARCHIVE, {"from-spec": Item.flag})
        if found.pop("from_spec", False):
            from_spec.add(platform)
        archives[platform] = Download(**found)
    return RuntimeLock(
        layer=tool["layer"],
        python_version=tool["python"],
        archives=archives,
        from_spec=frozenset(from_spec),
    )


def runtime_text(lock: RuntimeLock) -> str:
    """The text of `runtime.toml`."""
    text = _RUNTIME_HEADER + ("" if lock.archives else section("[archives]", {}))
    for platform in Platform:
        if platform in lock.archives:
            archive = lock.archives[platform]
            values: dict[str, object] = {"url": archive.url, "sha256": archive.sha256}
            values |= {"from-spec": True} if platform in lock.from_spec else {}
            text += section(f"[archives.{platform}]", values)
    tool = {"format": FORMAT, "layer": lock.layer, "python": str(lock.python_version)}
    return text + section("[tool.stackbuild]", tool)


def lock_text(lock: LayerLock, name: str) -> str:
    """The text of the lock file called `name`.

    Raises LockError for a file whose name is not valid in a lock (PEP 751).
    """
    from stackbuild.lock.targets import marker

    head: dict[str, Any] = {
        "lock-version": "1.0",
        "environments": [marker(lock.platform)],
        "requires-python": f"=={lock.python_version.major}.{lock.python_version.minor}.*",
        "created-by": "stackbuild",
    }
    packages = [package_values(item) for item in lock.distributions]
    tool = _tool_values(lock)
    values = {**head, "packages": packages, "tool": {"stackbuild": tool}}
    try:
        parse_packages(values)
    except ReadError as error:
        raise LockError(
            "a resolved file cannot be written to a lock",
            layer=lock.layer,
            platform=lock.platform,
            expected="a valid name of a wheel or source distribution",
            found=str(error),
            remedy="require another version of the distribution",
        ) from None
    tool[_CHECKSUM] = _checksum(values)
    text = _HEADER.format(name=name) + "\n" + fields(head if packages else {**head, "packages": []})
    text += "".join(section("[[packages]]", package) for package in packages)
    return text + section("[tool.stackbuild]", tool, multiline=True)


def _tool_values(lock: LayerLock) -> dict[str, Any]:
    newer = lock.tried or any(isinstance(one.source, ProjectSource) for one in lock.distributions)
    values: dict[str, Any] = {"format": PROJECTS_FORMAT if newer else FORMAT}
    for key in _KEYS:
        attribute = "python_version" if key == "python" else key.replace("-", "_")
        value = "" if key == _CHECKSUM else getattr(lock, attribute)
        if value or key not in _OPTIONAL:
            values[key] = _plain(value)
    return values


def _plain(value: object) -> object:
    """A value of a lock as TOML."""
    if isinstance(value, tuple):
        return [item if isinstance(item, str) else _by_key(item) for item in value]
    return value if isinstance(value, int) else str(value)


def _by_key(item: Inherited | Conflict | LeftOut | BuildRequirement) -> dict[str, str]:
    return {
        key.name.replace("_", "-"): str(getattr(item, key.name)) for key in dataclasses.fields(item)
    }


def _checksum(values: dict[str, Any]) -> str:
    """The sha256 (hex) of a lock without the checksum itself and the time of locking."""
    tool = values["tool"]["stackbuild"]
    covered = {key: value for key, value in tool.items() if key not in (_CHECKSUM, "locked-at")}
    return digest_of({**values, "tool": {**values["tool"], "stackbuild": covered}})


def _load(path: Path) -> dict[str, Any]:
    try:
        text = read_regular(path).decode()
        return tomli.loads(text)
    except FileNotFoundError:
        raise LockError(
            "the lock does not exist", file=path, remedy="run `stackbuild lock`"
        ) from None
    except OSError as error:
        raise LockError(
            f"the lock cannot be read ({error.strerror})", file=path, remedy=_RESTORE
        ) from None
    except (UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise _refused(path, error) from None


def _refused(path: Path, error: Exception) -> LockError:
    if isinstance(error, NewerFormatError):
        return LockError(
            "the lock was written by a newer stackbuild",
            file=path,
            expected=f"format {error.expected} or older",
            found=f"format {error.found}",
            remedy="update stackbuild",
        )
    message = "the lock is damaged or was edited by hand"
    return LockError(message, file=path, found=str(error), remedy=_RESTORE)


def _layer_lock(values: dict[str, Any]) -> LayerLock:
    tool = Item("", values)["tool"]["stackbuild"]
    required = {key: read for key, read in _KEYS.items() if key not in _OPTIONAL}
    optional = {key: _KEYS[key] for key in _OPTIONAL}
    own: dict[str, Any] = tool.record(dict, required, optional, formats=(FORMAT, PROJECTS_FORMAT))
    checksum = own.pop(_CHECKSUM)
    packages = enumerate(parse_packages(values))
    distributions = tuple(_package(item, f"packages[{number}]") for number, item in packages)
    digest = content_digest(distributions, own.get("interpreter"), own.get("own"))
    if digest != own["digest"]:
        raise tool["digest"].error("does not match the packages", digest)
    if checksum != _checksum(values):
        raise tool[_CHECKSUM].error("does not match the contents of the lock")
    return LayerLock(python_version=own.pop("python"), distributions=distributions, **own)


_LEFT_OUT: Readers = {"name": Item.distribution, "reason": Item.string}
_INHERITED: Readers = {
    "name": Item.distribution,
    "version": Item.version,
    "layer": Item.text,
}
_CONFLICT: Readers = {
    **_INHERITED,
    "hidden-version": Item.version,
    "hidden-layer": Item.text,
    "requirement": Item.string,
    "asked-by": Item.text,
}
_KEYS: Readers = {
    "layer": Item.text,
    "platform": lambda item: item.choice(Platform),
    "python": Item.version,
    "requirements": Item.strings,
    "inputs": Item.sha256,
    "version": Item.count,
    "locked-at": Item.text,
    "digest": Item.sha256,
    _CHECKSUM: Item.sha256,
    "own": Item.sha256,
    "interpreter": Item.sha256,
    "inherited": records(Inherited, _INHERITED),
    "conflicts": records(Conflict, _CONFLICT),
    "skipped": records(LeftOut, _LEFT_OUT),
    "omitted": records(LeftOut, _LEFT_OUT),
    "tried": Item.strings,
}
"""The keys of `tool.stackbuild` of a lock, in the order of the file."""
_OPTIONAL = ("own", "interpreter", "conflicts", "skipped", "omitted", "tried")
_RUNTIME: Readers = {"layer": Item.text, "python": Item.version}
_ARCHIVE: Readers = {"url": Item.text, "sha256": Item.sha256}


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


def _build(build: Build) -> dict[str, Any]:
    keys = ["recipe", *(["requirements"] if build.requirements is not None else [])]
    keys += [key for key in ("dependencies", "extras") if getattr(build, key)]
    return {key: _plain(getattr(build, key)) for key in keys}


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


def _package(package: Package, place: str) -> LockedDistribution:
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
