"""Reading and writing the committed lock files, strictly and byte for byte the same.

`pylock.<platform>.toml` is a PEP 751 lock whose wheels are named by a path in
the wheelhouse, never by an address; what PEP 751 has no place for stands in
`[tool.stackbuild]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tomli

from stackbuild.errors import LockError
from stackbuild.files import atomic_write, read_regular
from stackbuild.lock.digests import content_digest, digest_of
from stackbuild.lock.model import (
    Conflict,
    Inherited,
    LayerLock,
    LeftOut,
    RuntimeLock,
)
from stackbuild.lock.packages import inline, inline_package, read_package
from stackbuild.lock.values import DamageError, Reader
from stackbuild.platforms import Platform
from stackbuild.spec.model import Download

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.workspace import Workspace

FORMAT = 1
_CHECKSUM = "checksum"
RUNTIME_FILE = "runtime.toml"

_LOCK = "run `stackbuild lock`"
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
    """Where the lock of a layer on a platform is."""
    return workspace.layers / layer_name / f"pylock.{platform}.toml"


def runtime_lock_path(workspace: Workspace, layer_name: str) -> Path:
    """Where the archives of a runtime are named."""
    return workspace.layers / layer_name / RUNTIME_FILE


def is_ours(path: Path) -> bool:
    """Whether `stackbuild lock` wrote the file."""
    text = read_regular(path).decode(errors="replace")
    return text.startswith(_MADE_BY) and "[tool.stackbuild]" in text


def read_lock(path: Path) -> LayerLock:
    """The lock in the file `path`.

    Raises LockError when it is missing, truncated, edited by hand, of a newer
    format, or that of another layer or platform.
    """
    reader = _load(path)
    try:
        _check_format(path, reader.table("tool").table("stackbuild"))
        lock = _layer_lock(reader)
    except DamageError as damage:
        raise _damaged(path, str(damage)) from None
    expected = path.parent.name, f"pylock.{lock.platform}.toml"
    if (lock.layer, path.name) != expected:
        raise LockError(
            "this is the lock of another layer or platform",
            file=path,
            found=f"that of {lock.layer} on {lock.platform}",
            remedy=_RESTORE,
        )
    return lock


def write_lock(path: Path, lock: LayerLock) -> None:
    """Write `lock` to `path`, whole or not at all."""
    atomic_write(path, lock_text(lock, path.name))


def read_runtime_lock(workspace: Workspace, layer_name: str) -> RuntimeLock:
    """The archives of the runtime `layer_name`. Raises LockError as `read_lock` does."""
    path = runtime_lock_path(workspace, layer_name)
    reader = _load(path)
    try:
        tool = reader.table("tool").table("stackbuild")
        _check_format(path, tool)
        archives = {}
        from_spec = set()
        for key, entry in reader.table("archives").tables():
            if key not in {str(platform) for platform in Platform}:
                raise DamageError(f"archives.{key}: unknown platform")
            archives[Platform(key)] = Download(url=entry.text("url"), sha256=entry.sha256("sha256"))
            if entry.values.get("from-spec") is True:
                from_spec.add(Platform(key))
        return RuntimeLock(
            layer=tool.text("layer"),
            python_version=tool.version("python"),
            archives=archives,
            from_spec=frozenset(from_spec),
        )
    except DamageError as damage:
        raise _damaged(path, str(damage)) from None


def write_runtime_lock(workspace: Workspace, lock: RuntimeLock) -> None:
    """Write `runtime.toml`, whole or not at all."""
    import tomlkit

    archives = {
        str(platform): {
            "url": lock.archives[platform].url,
            "sha256": lock.archives[platform].sha256,
            **({"from-spec": True} if platform in lock.from_spec else {}),
        }
        for platform in Platform
        if platform in lock.archives
    }
    tool = {"format": FORMAT, "layer": lock.layer, "python": str(lock.python_version)}
    text = tomlkit.dumps({"archives": archives, "tool": {"stackbuild": tool}})
    atomic_write(runtime_lock_path(workspace, lock.layer), _RUNTIME_HEADER + "\n" + text)


def lock_text(lock: LayerLock, name: str) -> str:
    """The text of the lock file called `name`."""
    import tomlkit
    from tomlkit.items import AoT, Array, Trivia

    from stackbuild.lock.targets import marker

    document = tomlkit.document()
    document["lock-version"] = "1.0"
    document["environments"] = [marker(lock.platform)]
    document["requires-python"] = f"=={lock.python_version.major}.{lock.python_version.minor}.*"
    document["created-by"] = "stackbuild"
    packages = [inline_package(item) for item in lock.distributions]
    document["packages"] = AoT([tomlkit.item(package) for package in packages]) if packages else []
    tool = tomlkit.table()
    for key, value in _tool_values(lock).items():
        if isinstance(value, list):
            array = Array([], Trivia())
            for item in value:
                array.append(inline(item) if isinstance(item, dict) else item)
            tool[key] = array.multiline(multiline=True)
        else:
            tool[key] = value
    document["tool"] = tomlkit.table(is_super_table=True)
    document["tool"]["stackbuild"] = tool
    tool[_CHECKSUM] = _checksum(tomli.loads(tomlkit.dumps(document)))
    return _HEADER.format(name=name) + "\n" + tomlkit.dumps(document)


def _tool_values(lock: LayerLock) -> dict[str, Any]:
    values: dict[str, Any] = {
        "format": FORMAT,
        "layer": lock.layer,
        "platform": str(lock.platform),
        "python": str(lock.python_version),
        "requirements": list(lock.requirements),
        "inputs": lock.inputs,
        "version": lock.version,
        "locked-at": lock.locked_at,
        "digest": lock.digest,
        _CHECKSUM: "",
    }
    if lock.own:
        values["own"] = lock.own
    if lock.interpreter:
        values["interpreter"] = lock.interpreter
    values["inherited"] = [
        {"name": item.name, "version": str(item.version), "layer": item.layer}
        for item in lock.inherited
    ]
    if lock.conflicts:
        values["conflicts"] = [
            {
                "name": item.name,
                "version": str(item.version),
                "layer": item.layer,
                "hidden-version": str(item.hidden_version),
                "hidden-layer": item.hidden_layer,
                "requirement": item.requirement,
                "asked-by": item.asked_by,
            }
            for item in lock.conflicts
        ]
    for key, items in (("skipped", lock.skipped), ("omitted", lock.omitted)):
        if items:
            values[key] = [{"name": item.name, "reason": item.reason} for item in items]
    return values


def _checksum(values: dict[str, Any]) -> str:
    """The sha256 (hex) of all that a lock says, but for itself and the time of locking."""
    tool = values["tool"]["stackbuild"]
    told = {key: value for key, value in tool.items() if key not in (_CHECKSUM, "locked-at")}
    return digest_of({**values, "tool": {**values["tool"], "stackbuild": told}})


def _load(path: Path) -> Reader:
    try:
        text = read_regular(path).decode()
        return Reader("", tomli.loads(text))
    except FileNotFoundError:
        raise LockError(
            "there is no such lock", file=path, remedy="run `stackbuild lock`"
        ) from None
    except OSError as error:
        raise LockError(
            f"the lock cannot be read ({error.strerror})", file=path, remedy=_RESTORE
        ) from None
    except (UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, found: str) -> LockError:
    return LockError(
        "the lock is damaged or was edited by hand", file=path, found=found, remedy=_RESTORE
    )


def _check_format(path: Path, tool: Reader) -> None:
    found = tool.number("format")
    if found > FORMAT:
        raise LockError(
            "the lock was written by a newer stackbuild",
            file=path,
            expected=f"format {FORMAT} or older",
            found=f"format {found}",
            remedy="update stackbuild",
        )


def _layer_lock(reader: Reader) -> LayerLock:
    tool = reader.table("tool").table("stackbuild")
    interpreter = tool.sha256("interpreter") if "interpreter" in tool.values else None
    distributions = tuple(read_package(package) for package in reader.list_of_tables("packages"))
    own = tool.sha256("own") if "own" in tool.values else None
    digest = content_digest(distributions, interpreter, own)
    if digest != tool.sha256("digest"):
        raise DamageError("tool.stackbuild.digest: the packages are not those that were locked")
    platform = tool.text("platform")
    if platform not in {str(item) for item in Platform}:
        raise DamageError(f"tool.stackbuild.platform: unknown platform {platform!r}")
    lock = LayerLock(
        layer=tool.text("layer"),
        platform=Platform(platform),
        python_version=tool.version("python"),
        requirements=tuple(tool.texts("requirements")),
        inputs=tool.sha256("inputs"),
        version=tool.number("version"),
        locked_at=tool.text("locked-at"),
        distributions=distributions,
        inherited=tuple(
            Inherited(
                name=item.name("name"), version=item.version("version"), layer=item.text("layer")
            )
            for item in tool.list_of_tables("inherited")
        ),
        digest=digest,
        own=own,
        interpreter=interpreter,
        skipped=_left_out(tool, "skipped"),
        omitted=_left_out(tool, "omitted"),
        conflicts=_conflicts(tool),
    )
    if tool.sha256(_CHECKSUM) != _checksum(dict(reader.values)):
        raise DamageError(f"tool.stackbuild.{_CHECKSUM}: the lock says something else than it did")
    return lock


def _conflicts(tool: Reader) -> tuple[Conflict, ...]:
    items = tool.list_of_tables("conflicts") if "conflicts" in tool.values else []
    return tuple(
        Conflict(
            name=item.name("name"),
            version=item.version("version"),
            layer=item.text("layer"),
            hidden_version=item.version("hidden-version"),
            hidden_layer=item.text("hidden-layer"),
            requirement=item.text("requirement"),
            asked_by=item.text("asked-by"),
        )
        for item in items
    )


def _left_out(tool: Reader, key: str) -> tuple[LeftOut, ...]:
    items = tool.list_of_tables(key) if key in tool.values else []
    return tuple(LeftOut(name=item.name("name"), reason=item.text("reason")) for item in items)
