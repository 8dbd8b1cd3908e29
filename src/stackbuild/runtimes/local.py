"""Pack an interpreter of this machine, and remember the choice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from stackbuild import strictjson
from stackbuild.errors import ComposeError, FetchError
from stackbuild.files import atomic_directory, atomic_write, locked, remove_tree, sha256_file
from stackbuild.runtimes.model import RuntimeArchive
from stackbuild.workspace import home_directory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.runtimes.probe import Facts
    from stackbuild.spec.model import RuntimeSettings
    from stackbuild.workspace import Workspace


def local_archive(
    version: Version,
    settings: RuntimeSettings,
    platform: Platform,
    workspace: Workspace,
    messages: Messages,
) -> RuntimeArchive:
    """The archive of an interpreter of this machine to use instead of CPython `version`.

    It has the same minor version: the one in `settings`, or the nearest that can be packed. The
    choice is remembered while the directories with interpreters do not change. Raises FetchError if
    there is none; for an interpreter in `settings` UsageError or ComposeError.
    """
    directory = workspace.runtimes / "local"
    choice = directory / f"choice-{_choice_key(version, settings)}.json"
    known = _remembered(choice, directory)
    if known is not None:
        return known
    with locked(directory / "lock", messages):
        facts, watched = _choose(version, settings, platform)
        archive = _packed(facts, settings, platform, directory, messages)
        stamps = [(str(path), _changed(path)) for path in sorted(watched)]
        record = {"archive": archive.path.parent.name, "watched": stamps}
        atomic_write(choice, json.dumps(record))
    return archive


def _choice_key(version: Version, settings: RuntimeSettings) -> str:
    words = [
        str(version),
        str(settings.path),
        *sorted(settings.keep),
        os.environ.get("PATH", ""),
        str(home_directory()),
    ]
    return strictjson.digest_of(words)[:16]


def _remembered(choice: Path, directory: Path) -> RuntimeArchive | None:
    try:
        record = strictjson.read(choice)
        if all(_changed(Path(path)) == stamp for path, stamp in record["watched"]):
            return _read(directory / record["archive"])
    except (OSError, strictjson.JsonError, ValueError, KeyError, TypeError):
        pass
    return None


def _changed(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _choose(
    version: Version, settings: RuntimeSettings, platform: Platform
) -> tuple[Facts, set[Path]]:
    """The interpreter to pack, and the files and directories that the choice depends on."""
    # Imported here, because a remembered choice does not need them.
    from stackbuild.runtimes.pack import facts_at
    from stackbuild.runtimes.probe import candidates, find_interpreters, nearest_first, objection

    minor = f"{version.major}.{version.minor}"
    if settings.path is not None:
        facts = facts_at(settings.path, platform)
        if facts.minor != minor:
            raise ComposeError(
                f"the interpreter {facts.executable} has another minor version",
                expected=f"CPython {minor}",
                found=f"CPython {facts.version}",
                remedy="choose another one with `path`",
            )
        return facts, {settings.path, *_parts(facts)}
    listed = candidates()
    found = nearest_first(find_interpreters(minor, listed), version)
    objections = [(facts, objection(facts, platform)) for facts in found]
    for facts, reason in objections:
        if reason is None:
            return facts, _watched(listed) | set(_parts(facts))
    refused = "; ".join(f"{facts.executable}: {reason}" for facts, reason in objections)
    raise FetchError(
        f"no CPython {minor} of this machine can be packed",
        platform=platform,
        found=refused or f"no CPython {minor}",
        remedy=f"install one, such as with `uv python install {version}`",
    )


def _watched(listed: Iterable[Path]) -> set[Path]:
    """Directories that change when an interpreter is installed or removed."""
    home = home_directory()
    homes = [home / ".pyenv/versions", home / ".local/share/uv/python"] if home else []
    on_path = [Path(item) for item in os.environ.get("PATH", "").split(os.pathsep) if item]
    # …/versions/3.12.1/bin/python3.12: the directory of versions, too.
    beside = [
        directory for path in listed for directory in (path.parent, path.parent.parent.parent)
    ]
    return {directory for directory in (*homes, *on_path, *beside) if directory.is_absolute()}


def _parts(facts: Facts) -> list[Path]:
    """Files that change when an interpreter is rebuilt."""
    libraries = facts.prefix.glob(f"lib/libpython{facts.minor}*")
    site = facts.stdlib / "site-packages"
    wheels = [facts.wheels] if facts.wheels is not None else []
    return [facts.executable, facts.stdlib, site, *wheels, *sorted(libraries)]


def _packed(
    facts: Facts,
    settings: RuntimeSettings,
    platform: Platform,
    directory: Path,
    messages: Messages,
) -> RuntimeArchive:
    from stackbuild.runtimes.names import archive_name, release_tag
    from stackbuild.runtimes.pack import PACK_VERSION, write_archive

    # Of site-packages, only the distributions in `keep` matter.
    parts = [path for path in _parts(facts) if settings.keep or path.name != "site-packages"]
    decisive = [PACK_VERSION, sorted(settings.keep), [(str(p), _changed(p)) for p in parts]]
    target = directory / strictjson.digest_of(decisive)[:24]
    known = _read(target)
    if known is not None:
        return known
    remove_tree(target)
    tag = release_tag(facts.version, platform, facts.built)
    name = archive_name(facts.version, tag, platform)
    with (
        messages.task(f"packing CPython {facts.version} of {facts.prefix}", None),
        atomic_directory(target) as work,
    ):
        libraries = write_archive(facts, platform, settings.keep, work / name, messages)
        about = {
            "name": name,
            "version": str(facts.version),
            "sha256": sha256_file(work / name),
            "size": (work / name).stat().st_size,
            "changed": _changed(work / name),
            "libraries": libraries,
        }
        atomic_write(work / "about.json", json.dumps(about))
    packed = _read(target)
    if packed is None:
        raise ComposeError("the packed interpreter is missing", file=target)
    return packed


def _read(directory: Path) -> RuntimeArchive | None:
    """The archive in `directory`; raises an error if it is missing or was touched."""
    try:
        about = strictjson.read(directory / "about.json")
        path = directory / about["name"]
        status = path.stat()
        if (status.st_size, status.st_mtime_ns) != (about["size"], about["changed"]):
            return None
        return RuntimeArchive(
            path=path,
            sha256=about["sha256"],
            version=Version(about["version"]),
            source="local",
            stands_in=True,
            origin=about["name"],
            host_libraries=tuple(about["libraries"]),
        )
    except (OSError, strictjson.JsonError, ValueError, KeyError, TypeError):
        return None
