"""Find paths of the machine that built the files of a layer.

Documentation contains paths like ``/home/user`` and ``/tmp/x``, and wheels of an index contain
paths of the machines that built them. So a path is reported only

- if it is in a build directory of this machine;
- if it exists in a user's home or the temporary directory of this machine;
- in files that stackbuild writes, and in build settings of interpreters, if it is in any home or
  temporary directory;
- in code and settings of the project, and of wheels that were built here, if it is in the home of
  a person. Wheels of an index contain such paths as examples, and nobody can change them there:
  only the files with which a build or an installer names its own places are searched.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stackbuild.frames.model import FrameKind
from stackbuild.layout import METADATA
from stackbuild.workspace import home_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_TEXT_PROBE = 8192
_REST = rb"[^\s\"'`<>|:;,()\[\]{}\\/]+"
_LONGER_NAME = re.compile(rb"[\w.-]")
_SYSTEM = ("/", "/usr", "/usr/local", "/opt")
"""Common prefixes of interpreters, which are not reported."""
_ANY_MACHINE = re.compile(
    rb"(?:/home/|/Users/|/root/|/tmp/|/var/tmp/|/var/folders/|[A-Za-z]:\\{1,2}Users\\{1,2})" + _REST
)
_HOW_IT_WAS_BUILT = (
    *("*/_sysconfigdata*.py", "*/_sysconfig_vars*.json", "*/build-details.json"),
    *("*/Makefile", "*.pc", "*/pyconfig.h", "bin/*"),
)
_SCRIPTS = ("bin/*", "Scripts/*")
_STACKBUILDS_OWN = (*_SCRIPTS, "*.pth", "*/sitecustomize.py", "*.cfg", f"{METADATA}/*")
_OF_INSTALLERS = ("*.pth", "*.egg-link", "*.dist-info/direct_url.json")


class BuildPaths:
    """The directories of a machine that must not appear in files of a layer."""

    def __init__(self, places: Iterable[Path], crowded: Iterable[Path]) -> None:
        """Any path in `places` is reported; in `crowded`, only existing ones."""
        self._places: dict[bytes, re.Pattern[bytes]] = {}
        self._crowded: dict[bytes, re.Pattern[bytes]] = {}
        for path in crowded:
            self._add(self._crowded, path)
        for path in places:
            # A short name, such as /app, appears in many texts.
            self._add(self._places if len(path.parts) > 2 else self._crowded, path)

    @staticmethod
    def _add(patterns: dict[bytes, re.Pattern[bytes]], path: Path) -> None:
        texts = {str(path), path.as_posix(), str(path).replace("\\", "\\\\")}
        for text in texts:
            literal = os.fsencode(text)
            below = rb"[/\\]{1,2}(" + _REST + rb")"
            patterns[literal] = re.compile(re.escape(literal) + rb"(?:" + below + rb")?")

    def find(self, data: bytes) -> str | None:
        """A path of this machine in `data`."""
        for literal, pattern in self._places.items():
            if literal in data and (match := self._whole_name(pattern, data)):
                return os.fsdecode(match)
        for literal, pattern in self._crowded.items():
            if literal not in data:
                continue
            for found in pattern.finditer(data):
                name = found[1] or b""
                if name.strip(b".") and Path(os.fsdecode(found[0])).exists():
                    return os.fsdecode(found[0])
        return None

    @staticmethod
    def _whole_name(pattern: re.Pattern[bytes], data: bytes) -> bytes | None:
        for match in pattern.finditer(data):
            if not _LONGER_NAME.match(data, match.end()):
                return match[0]
        return None


def of_this_machine(places: Iterable[Path]) -> BuildPaths:
    """The paths of this machine to search for, including `places`.

    `places` are the project, the cache and the root, as given and with links resolved.
    """
    prefixes = {Path(sys.prefix), Path(sys.base_prefix)}
    named = {*places, *(path for path in prefixes if path.as_posix() not in _SYSTEM)}
    home = home_directory()
    crowded = {Path(tempfile.gettempdir()), *([home] if home else [])}
    return BuildPaths(
        sorted(named | {path.resolve() for path in named}),
        sorted(path for path in crowded | {path.resolve() for path in crowded} if path.name),
    )


def find_any(data: bytes) -> str | None:
    """A path in `data` to a home or temporary directory of any machine."""
    match = _ANY_MACHINE.search(data)
    return os.fsdecode(match[0]) if match else None


def counts_on_any_machine(path: str, kind: FrameKind) -> bool:
    """Whether `find_any` applies to the file `path`, relative to its layer."""
    patterns = {FrameKind.INTERPRETER: _HOW_IT_WAS_BUILT, FrameKind.HEAD: _STACKBUILDS_OWN}
    return _matches(path, patterns.get(kind, ()))


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


def is_text(path: str, data: bytes) -> bool:
    """Whether the file that begins with `data` is text: no NUL, and not bytecode."""
    return not path.endswith(".pyc") and b"\0" not in data[:_TEXT_PROBE]


_HOME = re.compile(
    r"(?<![\w.~/-])(?:/home/|/Users/|[A-Za-z]:[\\/]{1,2}Users[\\/]{1,2})"
    r"(?P<user>[^\s\"'`<>|:;,()\[\]{}\\/$%*?]+)(?=[\\/\"'\s]|$)[^\s\"'`<>|:;,]*"
)
_HOMES = (b"/home/", b"/Users/", b"\\Users")
_NOBODY = frozenset(
    {
        *("user", "username", "myuser", "me", "you", "name", "yourname", "your_name", "foo", "bar"),
        *("test", "public", "default", "shared", "runner", "runneradmin", "vsts", "circleci"),
        *("travis", "appveyor", "conda", "linuxbrew"),
    }
)
"""Users in examples, and the accounts of build services, in lower case."""
_SETTINGS = frozenset(
    {
        *(".cfg", ".cmake", ".conf", ".egg-link", ".ini", ".json", ".la", ".pc", ".pth", ".sh"),
        *(".toml", ".yaml", ".yml"),
    }
)
_OF_TESTS = re.compile(r"(?:.*/)?(?:_?tests?/.*|(?:test_[^/]*|[^/]*_test|conftest)\.py)")


def find_home(path: str, data: bytes, *, of_index: bool = False) -> str | None:
    """A path to the home of a person in the file `path`, which contains `data`.

    Only in code and settings: the first line of scripts, files with settings, and strings in Python
    code. Documentation, tests, docstrings, comments and code below
    ``if __name__ == "__main__"`` do not count, and neither do the users of examples.

    In a file `of_index`, from the wheel of an index, only the first line of console scripts counts,
    and `.pth` files and `direct_url.json` (PEP 610).
    """
    # Few files contain any of these; a regular expression would take ten times as long.
    if not any(home in data for home in _HOMES) or _OF_TESTS.fullmatch(path):
        return None
    text = data.decode("utf-8", "replace")
    first = text.partition("\n")[0] if text.startswith("#!") else ""
    texts = [first]
    if of_index:
        own = _matches(path, _OF_INSTALLERS)
        texts = [text] if own else texts if _matches(path, _SCRIPTS) else []
    elif PurePosixPath(path).suffix in _SETTINGS:
        texts.append(text)
    elif path.endswith(".py") or "python" in first:
        texts += _strings(text)
    for match in (match for text in texts for match in _HOME.finditer(text)):
        if match["user"].lower() not in _NOBODY:
            return match[0]
    return None


def _strings(code: str) -> Iterator[str]:
    """The strings in Python code, without docstrings and the code of ``__main__``."""
    try:
        pending: list[ast.AST] = [ast.parse(code)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # for another version of Python
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.If) and _names_main(node.test):
            pending += node.orelse
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                yield node.value
        else:
            pending += ast.iter_child_nodes(node)


def _names_main(test: ast.expr) -> bool:
    # Not with `ast.dump`, whose recursion is too deep for long expressions.
    nodes = ast.walk(test)
    return any(isinstance(node, ast.Constant) and node.value == "__main__" for node in nodes)
