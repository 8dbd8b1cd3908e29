"""Select the files of an installed CPython that go into its archive.

Only files that CPython itself installs, by name, because its prefix may be /usr/local with many
other files. Test suites, static libraries, bytecode and site-packages are left out.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError
from stackbuild.files import is_inside

if TYPE_CHECKING:
    from collections.abc import Iterator

TEST_SUITES = frozenset(
    {
        *("test", "ctypes/test", "distutils/tests", "idlelib/idle_test", "lib2to3/tests"),
        *("sqlite3/test", "tkinter/test", "unittest/test"),
    }
)
"""Directories of the standard library with CPython's own tests."""

_LEFT_OUT = frozenset({"__pycache__", "site-packages", "dist-packages"})
# The last three are changes that the host's distribution made.
_FILES_LEFT_OUT = (
    *("*.a", "*.o", "*.pyc", "*.pyo"),
    *("EXTERNALLY-MANAGED", "sitecustomize.py", "usercustomize.py"),
)
_TEST_MODULES = re.compile(r"(_test|_ctypes_test|_xxtestfuzz|xxlimited|xxsubtype)\w*\.")

SITE_FILE = "lib/python{0}/dist-packages/stackbuild.pth"
"""With this file a packed CPython of Debian finds its site-packages (see `system`)."""

_POSIX_FILES = (
    SITE_FILE,
    "bin/python{0}",
    "bin/python{0}-config",
    "bin/pydoc{0}",
    "bin/idle{0}",
    "bin/2to3-{0}",
    "lib/libpython{0}*.so*",
    "lib/libpython{0}*.dylib",
    "lib/pkgconfig/python-{0}*.pc",
    "share/man/man1/python{0}.1",
)
_POSIX_TREES = (
    "lib/python{0}",
    "include/python{0}*",
)
_POSIX_LIBRARIES = (
    *("lib/tcl[0-9]*", "lib/tk[0-9]*", "lib/itcl[0-9]*", "lib/thread[0-9]*", "share/terminfo"),
)
# Recreated, because in a shared prefix `python3` may be of another minor version.
_POSIX_LINKS = {
    "bin/python": "python{0}",
    "bin/python3": "python{0}",
    "bin/python3-config": "python{0}-config",
    "bin/pydoc3": "pydoc{0}",
    "bin/idle3": "idle{0}",
    "bin/2to3": "2to3-{0}",
    "lib/pkgconfig/python3.pc": "python-{0}.pc",
    "lib/pkgconfig/python3-embed.pc": "python-{0}-embed.pc",
    "share/man/man1/python3.1": "python{0}.1",
}
_WINDOWS_FILES = ("python*.exe", "*.dll", "LICENSE.txt")
_WINDOWS_TREES = ("DLLs", "Lib", "include", "libs", "tcl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or link of the archive; exactly one of `source`, `data` and `link` is set."""

    source: Path | None = None
    data: bytes | None = None
    link: str | None = None
    executable: bool = False

    def read(self) -> bytes:
        """The contents of a file."""
        if self.data is not None:
            return self.data
        if self.source is None:
            raise ValueError("a link has no contents")
        return self.source.read_bytes()


def posix_contents(prefix: Path, minor: str, *, own: bool = True) -> dict[str, Entry]:
    """The entries of the CPython of minor version `minor` in `prefix`, by relative path.

    If the prefix is not Python's `own` but the operating system's, the libraries of Tcl and ncurses
    are left out, and so are links in the standard library to files elsewhere (such as /etc).
    """
    files = [
        path for pattern in _POSIX_FILES for path in sorted(prefix.glob(pattern.format(minor)))
    ]
    for pattern in (*_POSIX_TREES, *(_POSIX_LIBRARIES if own else ())):
        for tree in sorted(prefix.glob(pattern.format(minor))):
            files += _walk(tree, f"lib/python{minor}", prefix, own=own)
    entries = _entries(prefix, files)
    for path, name in _POSIX_LINKS.items():
        target = name.format(minor)
        if (PurePosixPath(path).parent / target).as_posix() in entries:
            entries[path] = Entry(link=target)
    return entries


def windows_contents(prefix: Path) -> dict[str, Entry]:
    """The entries of the CPython in `prefix`, in the layout of the Windows installer.

    Nothing needs to be relocated. Tested on trees of files, not on Windows.
    """
    files = [path for pattern in _WINDOWS_FILES for path in sorted(prefix.glob(pattern))]
    for name in _WINDOWS_TREES:
        if (prefix / name).is_dir():
            files += _walk(prefix / name, "Lib", prefix)
    return _entries(prefix, files)


def belongs(path: str, stdlib: str) -> bool:
    """Whether the file or directory `path` goes into the archive, if its parent does.

    Paths are relative to the prefix, with forward slashes.
    """
    name = path.rpartition("/")[2]
    if name in _LEFT_OUT or any(fnmatch(name, pattern) for pattern in _FILES_LEFT_OUT):
        return False
    inside = path.removeprefix(f"{stdlib}/")
    if inside == path:
        return not _TEST_MODULES.match(name) or not path.startswith("DLLs/")
    if inside.startswith("lib-dynload/") and _TEST_MODULES.match(name):
        return False
    return inside not in TEST_SUITES


def _walk(tree: Path, stdlib: str, prefix: Path, *, own: bool = True) -> Iterator[Path]:
    for directory, directories, names in os.walk(tree):
        here = Path(directory)
        above = here.relative_to(prefix).as_posix()
        directories[:] = [name for name in directories if belongs(f"{above}/{name}", stdlib)]
        for name in directories:
            # os.walk does not follow the link, so its files would be missing.
            if own and (here / name).is_symlink():
                raise ComposeError(
                    "the interpreter cannot be packed: one of its directories is a link",
                    file=here / name,
                    remedy="choose another interpreter with `path`, or use the source pbs",
                )
        for name in names:
            file = here / name
            taken = own or not file.is_symlink() or is_inside(file, tree)
            if taken and belongs(f"{above}/{name}", stdlib):
                yield file


def _entries(prefix: Path, files: list[Path]) -> dict[str, Entry]:
    paths = {file: file.relative_to(prefix).as_posix() for file in files}
    real = {file.resolve(): path for file, path in paths.items() if not file.is_symlink()}
    entries: dict[str, Entry] = {}
    for file, path in paths.items():
        if not file.is_file():
            continue
        target = real.get(file.resolve()) if file.is_symlink() else None
        if target is None:
            executable = os.name != "nt" and bool(file.stat().st_mode & 0o111)
            entries[path] = Entry(source=file, executable=executable)
        else:
            steps = os.path.relpath(target, PurePosixPath(path).parent)
            entries[path] = Entry(link=PurePosixPath(steps).as_posix())
    return entries
