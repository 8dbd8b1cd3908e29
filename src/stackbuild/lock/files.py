"""Reads and writes the committed lock files, strictly and reproducibly.

`pylock.<platform>.toml` is a PEP 751 lock whose wheels are named by a path in
the wheelhouse, never by an address. Values that PEP 751 does not define are in
`[tool.stackbuild]`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import tomli

from stackbuild.durable import sync_directory
from stackbuild.errors import LockError
from stackbuild.files import read_regular, work_path
from stackbuild.lock.model import (
    Conflict,
    Inherited,
    LayerLock,
    LeftOut,
    RuntimeLock,
    content_digest,
)
from stackbuild.lock.packages import package_values, parse_packages, plain, read_package
from stackbuild.platforms import Platform
from stackbuild.reading import Item, NewerFormatError, ReadError, records
from stackbuild.spec.model import Download
from stackbuild.strictjson import digest_of
from stackbuild.tomltext import fields, section

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from stackbuild.reading import Readers
    from stackbuild.workspace import Workspace


FORMAT = 3
_OLDER = (1, 2)
"""Locks of these formats do not name their inputs."""
_RUNTIME_FORMAT = 1
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
    tool: dict[str, Any] = value["tool"]["stackbuild"].record(
        dict, _RUNTIME, formats=(_RUNTIME_FORMAT,)
    )
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
    tool = {"format": _RUNTIME_FORMAT, "layer": lock.layer, "python": str(lock.python_version)}
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
    values: dict[str, Any] = {"format": FORMAT}
    for key in _KEYS:
        attribute = "python_version" if key == "python" else key.replace("-", "_")
        value = "" if key == _CHECKSUM else getattr(lock, attribute)
        if value or key not in _OPTIONAL:
            values[key] = plain(value)
    return values


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
    own: dict[str, Any] = tool.record(dict, required, optional, formats=(*_OLDER, FORMAT))
    checksum = own.pop(_CHECKSUM)
    packages = enumerate(parse_packages(values))
    distributions = tuple(read_package(item, f"packages[{number}]") for number, item in packages)
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
    "parts": Item.strings,
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
_OPTIONAL = ("parts", "own", "interpreter", "conflicts", "skipped", "omitted", "tried")
_RUNTIME: Readers = {"layer": Item.text, "python": Item.version}
_ARCHIVE: Readers = {"url": Item.text, "sha256": Item.sha256}
