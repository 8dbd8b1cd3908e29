"""The mark of directories that belong to stackbuild.

Commands remove old generations, unused frames and leftovers of killed processes only in directories
with this mark, a file like the `CACHEDIR.TAG` of the Cache Directory Tagging Specification. The
mark is only created in a missing or empty directory, so files that existed before are never treated
as stackbuild's own.
"""

from __future__ import annotations

import os
import re
import stat
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.errors import FORBIDDEN, ComposeError, InstallError, StackbuildError, UsageError
from stackbuild.files import WORK_SUFFIX, atomic_write, read_regular

if TYPE_CHECKING:
    from pathlib import Path

MARK = ".stackbuild.tag"
MARK_FORMAT = 1
_MAX_BYTES = 4096
_TEXT = re.compile(r"stackbuild (?P<kind>[a-z]+), format (?P<format>[0-9]{1,9})\b")
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ID = re.compile(r"^id: (?P<id>[0-9a-f]{32})$", re.MULTILINE)

_PLACEHOLDERS = frozenset({"README.md", ".gitignore", ".gitkeep", ".DS_Store", "lost+found"})
"""A directory with only these files counts as empty: they keep it in git, or belong to the file
system. No command writes or removes them."""


class Kind(StrEnum):
    """The use of a directory."""

    ROOT = "root"
    STORE = "store"
    EXPORTS = "exports"
    CACHE = "cache"
    LAYERS = "layers"
    WHEELS = "wheels"
    RUNENV = "runenv"


_ERRORS: dict[Kind, type[StackbuildError]] = {
    Kind.ROOT: InstallError,
    Kind.STORE: InstallError,
    Kind.EXPORTS: ComposeError,
    Kind.CACHE: UsageError,
    Kind.LAYERS: InstallError,
    Kind.WHEELS: ComposeError,
    Kind.RUNENV: InstallError,
}
_NAMES = {
    Kind.ROOT: "a root directory",
    Kind.STORE: "a store directory",
    Kind.EXPORTS: "an exports directory",
    Kind.CACHE: "a cache directory",
    Kind.LAYERS: "a directory of exported layers",
    Kind.WHEELS: "a directory of exported wheels",
    Kind.RUNENV: "an exported environment of runenv-python-3",
}
ELSEWHERE = {
    Kind.ROOT: "choose another root directory",
    Kind.STORE: "choose another store: stackbuild install --store DIR",
    Kind.EXPORTS: "choose another directory: stackbuild publish --to DIR",
    Kind.CACHE: "choose another directory with STACKBUILD_CACHE_DIR",
    Kind.LAYERS: "choose another directory: stackbuild export LAYER DIR",
    Kind.WHEELS: "choose another directory: stackbuild wheelhouse LAYER DIR",
    Kind.RUNENV: "choose another directory: stackbuild export runenv LAYER DIR",
}
"""How to choose another directory of each kind."""


class Mark(NamedTuple):
    """The contents of a mark."""

    kind: Kind
    id: str = ""
    """Only for a root: 32 random hexadecimal digits, which do not change when the directory is
    moved. Other marks have none, so that equal inputs give equal exports."""


def read_mark(directory: Path, kind: Kind) -> Mark | None:
    """The mark of `directory`; None if it or the directory is missing.

    Raises the error of `kind` for a mark of another kind or format; OSError.
    """
    path = directory / MARK
    try:
        text = read_regular(path, _MAX_BYTES).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in FORBIDDEN:
            raise
        text = f"{error.strerror}"  # A directory, a named pipe, a cycle of links, a bad disk.
    found, drawn = _TEXT.match(text), _ID.search(text)
    if found and found["kind"] == Kind.ROOT and not drawn:
        found = None  # Cut off.
    if found and found["kind"] == kind and int(found["format"]) == MARK_FORMAT:
        return Mark(kind, drawn["id"] if drawn else "")
    if not found:
        other_way = _if_damaged(directory, kind)
    else:
        other_way = ", or use the stackbuild that made it" if found["kind"] == kind else ""
    raise _ERRORS[kind](
        f"{directory} cannot be used as {_NAMES[kind]}: its mark has another kind or format",
        file=path,
        expected=f"stackbuild {kind}, format {MARK_FORMAT}",
        found=found[0] if found else f"{text.partition(chr(10))[0][:80]!r}",
        remedy=f"{ELSEWHERE[kind]}{other_way}",
    )


def is_root(directory: Path) -> bool:
    """Whether `directory` has the mark of a root."""
    try:
        return read_mark(directory, Kind.ROOT) is not None
    except (InstallError, OSError):
        return False


def _if_damaged(directory: Path, kind: Kind) -> str:
    # Published layers are recognised without the mark, which is then recreated
    # (`compose.export_directory`).
    what = directory / MARK if kind is Kind.EXPORTS else "the directory"
    return f"; or, if the mark is damaged, remove {what} and run the command again"


def check_mark(directory: Path, kind: Kind) -> None:
    """Check that `directory` has a mark of `kind` or can get one; changes nothing.

    Raises the error of `kind`; OSError.
    """
    if read_mark(directory, kind) is not None or not (there := contents(directory, kind)):
        return
    if read_mark(directory, kind) is not None:
        return  # Another process created the mark, and then the files.
    made = "an earlier stackbuild made this one, remove it"
    if kind is Kind.RUNENV:
        made = f"the build of runenv-python-3 made this one, remove {directory}"
    shown = ", ".join(there[:3]) + (f" and {len(there) - 3} more" if len(there) > 3 else "")
    raise _ERRORS[kind](
        f"{directory} is not empty and is not {_NAMES[kind]} of stackbuild, which removes "
        "files in those",
        file=directory,
        expected=f"a missing or empty directory, or the file {MARK} of stackbuild in it",
        found=shown,
        remedy=f"{ELSEWHERE[kind]}; or, if {made} and run the command again",
    )


def claim(directory: Path, kind: Kind) -> Mark:
    """The mark of `directory`; it is created if the directory is missing or empty.

    Raises the error of `kind` for any other directory; OSError.
    """
    check_mark(directory, kind)
    return read_mark(directory, kind) or write_mark(directory, kind)


def write_mark(directory: Path, kind: Kind) -> Mark:
    """Mark `directory` without a check; the caller knows that all its files are stackbuild's."""
    mark = Mark(kind, os.urandom(16).hex() if kind is Kind.ROOT else "")
    directory.mkdir(parents=True, exist_ok=True)
    atomic_write(directory / MARK, mark_text(kind) + (f"id: {mark.id}\n" if mark.id else ""))
    return mark


def mark_text(kind: Kind) -> str:
    """The first line of a mark."""
    return f"stackbuild {kind}, format {MARK_FORMAT}; files in here are removed\n"


def check_owner(directory: Path) -> None:
    """Check that no other account may create files in `directory`, as owner or by its mode.

    Directories of the superuser and missing ones are accepted. Not checked on Windows. Raises
    InstallError; OSError.
    """
    if os.name == "nt":
        return
    try:
        owners = {directory.lstat().st_uid, (status := directory.stat()).st_uid}
    except FileNotFoundError:
        return
    mode = stat.S_IMODE(status.st_mode)
    if others := owners - {0, os.geteuid()}:
        raise InstallError(
            "a store belongs to another account, which may change its files",
            file=directory,
            expected=f"owner {os.geteuid()} (this account) or 0",
            found=f"owner {min(others)}",
            remedy="run the command as that account, or use a store of this one: "
            "stackbuild install --store DIR",
        )
    if mode & OTHERS_WRITE:
        raise InstallError(
            "other accounts may write in a store",
            file=directory,
            expected="no write permission for group and others",
            found=f"mode {mode:04o}",
            remedy="choose another store: stackbuild install --store DIR (a file system without"
            " modes, such as exFAT, can have what `stackbuild export` makes); or, if all files in"
            f" this one are yours: chmod go-w {directory}",
        )


def contents(directory: Path, kind: Kind) -> list[str]:
    """The files in `directory` other than placeholders, sorted; empty if it is missing."""
    # An environment is replaced as a whole.
    ignored = frozenset() if kind is Kind.RUNENV else _PLACEHOLDERS
    try:
        names = [path.name for path in directory.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    unfinished = re.compile(re.escape(f".{MARK}.") + "[0-9a-f]+" + re.escape(WORK_SUFFIX))
    return sorted(name for name in names if name not in ignored and not unfinished.fullmatch(name))
