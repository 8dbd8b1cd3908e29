"""The git status of files in a work tree."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.errors import ComposeError, UsageError, quoted

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable
    from pathlib import Path

_COMMAND = ("git", "--literal-pathspecs", "--no-optional-locks", "-c", "core.fsmonitor=false")
"""Treat names literally, do not write the index, and do not run programs of the user."""
_SUBMODULE = b"160000 "
_SHOWN = 300


class Status(NamedTuple):
    """Paths relative to the work tree. Paths of directories end in a slash."""

    untracked: frozenset[str]
    """Neither tracked nor ignored."""
    ignored: frozenset[str]
    """Ignored and not tracked; contents of an ignored directory are not listed."""
    missing: frozenset[str]
    """Tracked but missing, for example because of a sparse checkout."""

    def ignores(self, path: str) -> bool:
        """Whether `path` or one of its parent directories is ignored."""
        parts = path.split("/")
        above = ("/".join(parts[:end]) + "/" for end in range(1, len(parts) + 1))
        return path in self.ignored or any(directory in self.ignored for directory in above)


def git_environment() -> dict[str, str]:
    """The environment for git, which may use the user's keys but not ask for a password."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"GIT_TERMINAL_PROMPT": "0"}


def status(top: Path, paths: Iterable[str]) -> Status:
    """The status of all files at or below `paths` in the work tree `top`.

    Raises ComposeError if git is not installed or cannot read the work tree.
    """
    words = ("--porcelain=v1", "-z", "--no-renames", "--ignore-submodules=all")
    shown = ("--untracked-files=all", "--ignored=matching")
    names = sorted(paths)
    output = _git(top, "status", *words, *shown, "--", *names).stdout
    found: dict[bytes, set[str]] = {b"??": set(), b"!!": set(), b"D": set()}
    for entry in output.split(b"\0"):
        code, path = entry[:2], os.fsdecode(entry[3:])
        if code in found:
            found[code].add(path)
        elif code[1:] == b"D":
            found[b"D"].add(path)
    found[b"D"] |= _not_checked_out(top, names)
    return Status(
        untracked=frozenset(found[b"??"]),
        ignored=frozenset(found[b"!!"]),
        missing=frozenset(found[b"D"]),
    )


def _not_checked_out(top: Path, paths: list[str]) -> set[str]:
    """Tracked files that are not checked out and that `git status` does not report as missing."""
    entries = _git(top, "ls-files", "-t", "-z", "--", *paths).stdout.split(b"\0")
    names = (os.fsdecode(entry[2:]) for entry in entries if entry[:2] == b"S ")
    return {name for name in names if not os.path.lexists(top / name)}


def ignores_all(top: Path, path: str) -> bool:
    """Whether the work tree `top` ignores the directory at `path` and tracks nothing in it.

    Raises ComposeError as `status` does.
    """
    # This command always takes paths and rejects the option for it. It does not treat a directory
    # with tracked files as ignored.
    words = ("--no-literal-pathspecs", "check-ignore", "--quiet", "--", f"./{path}")
    return _git(top, *words, accepted=(0, 1)).returncode == 0


def is_submodule(top: Path, path: str) -> bool:
    """Whether `path` is a submodule of the work tree `top`. Raises as `status` does."""
    if not (top / ".gitmodules").exists():
        return False
    return _git(top, "ls-files", "--stage", "-z", "--", path).stdout.startswith(_SUBMODULE)


def read_tree(top: Path, tree: str) -> dict[str, bytes]:
    """The regular files of a tree such as ``v1.2:layers``, by path relative to the tree.

    A path in `tree` is relative to `top`. Raises UsageError if git does not know it, ComposeError
    without git.
    """
    import io
    import tarfile

    revision, _, path = tree.partition(":")
    result = _git(top, "archive", "--format=tar", f"{revision}:./{path}", accepted=(0, 128))
    if result.returncode:
        raise UsageError(
            f"git has no directory {tree}",
            file=top,
            expected="REVISION:DIRECTORY, with a directory relative to this one",
            found=" ".join(result.stderr.decode(errors="replace").split())[:_SHOWN],
        )
    with tarfile.open(fileobj=io.BytesIO(result.stdout)) as archive:
        return {
            member.name: file.read()
            for member in archive
            if member.isreg() and (file := archive.extractfile(member))
        }


def _git(
    top: Path, *words: str, accepted: tuple[int, ...] = (0,)
) -> subprocess.CompletedProcess[bytes]:
    # Imported late: every command imports this module, and few run git.
    import subprocess

    try:
        result = subprocess.run(
            [*_COMMAND, *words],
            cwd=top,
            env=git_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise ComposeError(
            "git is not installed, so the ignored files are not known",
            file=top,
            remedy="install git, or work in a copy of the project without its .git",
        ) from None
    if result.returncode not in accepted:
        raise ComposeError(
            "git cannot read this work tree, so the ignored files are not known",
            file=top,
            found=" ".join(result.stderr.decode(errors="replace").split())[:_SHOWN],
            remedy="make `git status` work there; if another account owns the directory,"
            f" run `git config --global --add safe.directory {quoted(top)}`",
        )
    return result
