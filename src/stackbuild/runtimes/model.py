"""What is known of an interpreter's archive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from packaging.version import Version

Source = Literal["url", "pbs", "local"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeArchive:
    """A verified archive in the `install_only` layout of python-build-standalone.

    Everything in it stands below ``python/``: ``python/bin/python3.12`` and
    ``python/lib/python3.12``, for Windows ``python/python.exe`` and
    ``python/Lib``. It is a `.tar.gz` or a `.tar.zst`.
    """

    path: Path
    sha256: str
    version: Version
    """Of the interpreter in it, which for a stand-in is not the one asked for."""
    source: Source
    stands_in: bool
    """Whether it is not what the runtime asks for: packed on this machine in place of the
    archive that the lock names, or an explicit archive of another patch version."""
    origin: str
    """The archive's file name."""
    host_libraries: tuple[str, ...] = ()
    """Sonames of shared libraries that one packed on this machine takes from the machine
    it runs on, the C library left out; sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A CPython that runs on this machine."""

    executable: Path
    version: str
