"""Telling paths of the machine that built a layer from paths that are only text.

Documentation is full of ``/home/user`` and ``/tmp/x``, and distributions from
an index tell of the machines that built their wheels. So a path counts when it
leads into a directory this machine has built in, or when it leads to something
in a user's home or the temporary directory that is really there. In files that
stackbuild writes, and where an interpreter says how it was built, there is no
documentation: any path into a home or a temporary directory counts.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from stackbuild.frames.model import FrameKind
from stackbuild.layout import METADATA
from stackbuild.workspace import home_directory

if TYPE_CHECKING:
    from collections.abc import Iterable

_TEXT_PROBE = 8192
_REST = rb"[^\s\"'`<>|:;,()\[\]{}\\/]+"
_SYSTEM = ("/", "/usr", "/usr/local", "/opt")
"""Prefixes of interpreters that every machine may have."""
_ANY_MACHINE = re.compile(
    rb"(?:/home/|/Users/|/root/|/tmp/|/var/tmp/|/var/folders/|[A-Za-z]:\\{1,2}Users\\{1,2})" + _REST
)
_HOW_IT_WAS_BUILT = (
    *("*/_sysconfigdata*.py", "*/_sysconfig_vars*.json", "*/build-details.json"),
    *("*/Makefile", "*.pc", "*/pyconfig.h", "bin/*"),
)
_STACKBUILDS_OWN = ("bin/*", "Scripts/*", "*.pth", "*/sitecustomize.py", "*.cfg", f"{METADATA}/*")


class BuildPaths:
    """The directories of one machine that no file of a layer may name."""

    def __init__(self, places: Iterable[Path], crowded: Iterable[Path]) -> None:
        """`places` count by themselves, `crowded` only with what is there in them."""
        self._places: dict[bytes, re.Pattern[bytes]] = {}
        self._crowded: dict[bytes, re.Pattern[bytes]] = {}
        for path in crowded:
            self._add(self._crowded, path)
        for path in places:
            # One with a short name, such as /app, is named in many a text.
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
            after = data[match.end() : match.end() + 1]
            if match[1] or not re.match(rb"[\w.-]", after):
                return match[0]
        return None


def of_this_machine(places: Iterable[Path]) -> BuildPaths:
    """What to look for when this machine may have built the layers; `places` among it.

    Those are the project, the cache, the root: each counts as it is named and
    with its links followed.
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
    """A path in `data` into the home or temporary directory of any machine."""
    match = _ANY_MACHINE.search(data)
    return os.fsdecode(match[0]) if match else None


def counts_on_any_machine(path: str, kind: FrameKind) -> bool:
    """Whether `find_any` is to be used on the file `path`, relative to its layer."""
    patterns = {FrameKind.INTERPRETER: _HOW_IT_WAS_BUILT, FrameKind.HEAD: _STACKBUILDS_OWN}
    return any(fnmatch(path, pattern) for pattern in patterns.get(kind, ()))


def is_text(path: str, data: bytes) -> bool:
    """Whether the file that begins with `data` is text: no NUL, and not bytecode."""
    return PurePath(path).suffix != ".pyc" and b"\0" not in data[:_TEXT_PROBE]
