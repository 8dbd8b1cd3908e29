"""The mark of directories that belong to stackbuild.

Commands remove files: old generations, frames that nothing uses, what a killed process has
left. They do so only in directories that carry this mark, a file like the `CACHEDIR.TAG` of
the Cache Directory Tagging Specification. It is made in a missing or empty directory and in
no other, so nothing that was there before is ever taken for stackbuild's own.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

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
"""A directory that holds nothing else counts as empty: they keep it in git, or came with the
file system. No command writes or removes files of these names."""


class Kind(StrEnum):
    """What a directory is used for."""

    ROOT = "root"
    STORE = "store"
    EXPORTS = "exports"
    CACHE = "cache"


_ERRORS: dict[Kind, type[StackbuildError]] = {
    Kind.ROOT: InstallError,
    Kind.STORE: InstallError,
    Kind.EXPORTS: ComposeError,
    Kind.CACHE: UsageError,
}
_NAMES = {
    Kind.ROOT: "a root directory",
    Kind.STORE: "a store directory",
    Kind.EXPORTS: "an exports directory",
    Kind.CACHE: "a cache directory",
}
_ELSEWHERE = {
    Kind.ROOT: "choose another root directory",
    Kind.STORE: "choose another store: stackbuild install --store DIR",
    Kind.EXPORTS: "choose another directory: stackbuild publish --to DIR",
    Kind.CACHE: "choose another directory with STACKBUILD_CACHE_DIR",
}
"""What names a directory of each kind."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What the mark of a directory says."""

    kind: Kind
    id: str = ""
    """Of a root: 32 hexadecimal digits, drawn when the mark was made; they stay when the
    directory moves. Marks of other kinds have none, so that equal inputs give equal exports."""


def read_mark(directory: Path, kind: Kind) -> Mark | None:
    """The mark of `directory`; None where there is none, or no directory.

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
        text = f"{error.strerror}"  # A directory, a named pipe, a loop of links, a bad disk.
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
        f"{directory} cannot be used as {_NAMES[kind]}: its mark says something else",
        file=path,
        expected=f"stackbuild {kind}, format {MARK_FORMAT}",
        found=found[0] if found else f"{text.partition(chr(10))[0][:80]!r}",
        remedy=f"{_ELSEWHERE[kind]}{other_way}",
    )


def _if_damaged(directory: Path, kind: Kind) -> str:
    # What was published is known without the mark, which it then gets (`compose.export_directory`).
    what = directory / MARK if kind is Kind.EXPORTS else "the directory"
    return f"; or, if the mark is damaged, remove {what} and run the command again"


def check_mark(directory: Path, kind: Kind) -> None:
    """Refuse a `directory` that has no mark of `kind` and cannot get one. Nothing is changed.

    Raises the error of `kind`; OSError.
    """
    if read_mark(directory, kind) is not None or not (there := contents(directory)):
        return
    if read_mark(directory, kind) is not None:
        return  # Another process has made it meanwhile, and then the files.
    shown = ", ".join(there[:3]) + (f" and {len(there) - 3} more" if len(there) > 3 else "")
    raise _ERRORS[kind](
        f"{directory} is not empty and is no {kind} directory of stackbuild, which removes "
        "files in those",
        file=directory,
        expected=f"a missing or empty directory, or a file {MARK} that stackbuild made in it",
        found=shown,
        remedy=f"{_ELSEWHERE[kind]}; or, if an earlier stackbuild "
        "made this one, remove it and run the command again",
    )


def claim(directory: Path, kind: Kind) -> Mark:
    """The mark of `directory`, which is made where it is missing or empty.

    Raises the error of `kind` for any other directory; OSError.
    """
    check_mark(directory, kind)
    return read_mark(directory, kind) or write_mark(directory, kind)


def write_mark(directory: Path, kind: Kind) -> Mark:
    """Mark `directory` whatever it holds: the caller knows that all of it is stackbuild's."""
    mark = Mark(kind, os.urandom(16).hex() if kind is Kind.ROOT else "")
    directory.mkdir(parents=True, exist_ok=True)
    text = f"stackbuild {kind}, format {MARK_FORMAT}; files in here are removed\n"
    atomic_write(directory / MARK, text + (f"id: {mark.id}\n" if mark.id else ""))
    return mark


def check_owner(directory: Path) -> None:
    """Refuse a `directory` in which another account may put files: one of its, or writable.

    The superuser's are taken, and where there is nothing, nothing is wrong. On Windows
    nothing is checked. Raises InstallError; OSError.
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
            "a store belongs to another account, which may change what is in it",
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
            remedy="choose another store: stackbuild install --store DIR; or, if all files in this "
            f"one are yours: chmod go-w {directory}",
        )


def contents(directory: Path) -> list[str]:
    """What counts in `directory`, sorted; nothing where there is no directory."""
    try:
        names = [path.name for path in directory.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    unfinished = re.compile(re.escape(f".{MARK}.") + "[0-9a-f]+" + re.escape(WORK_SUFFIX))
    return sorted(
        name for name in names if name not in _PLACEHOLDERS and not unfinished.fullmatch(name)
    )
