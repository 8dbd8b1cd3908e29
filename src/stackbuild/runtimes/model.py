"""The archive of an interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from packaging.version import Version

Source = Literal["url", "pbs", "local"]

ROOT = "python"
"""The top directory of an `install_only` archive."""


class RuntimeArchive(NamedTuple):
    """A verified archive in the `install_only` layout of python-build-standalone.

    All files are below ``python/``: ``python/bin/python3.12`` and ``python/lib/python3.12``, for
    Windows ``python/python.exe`` and ``python/Lib``. It is a `.tar.gz` or a `.tar.zst`.
    """

    path: Path
    sha256: str
    version: Version
    """The version of the interpreter; a stand-in has another than the locked one."""
    source: Source
    stands_in: bool
    """Whether it is a stand-in: packed on this machine instead of the locked archive, or an
    explicit archive of another patch version."""
    origin: str
    """The archive's file name."""
    host_libraries: tuple[str, ...] = ()
    """Sonames of the shared libraries that it needs on the host, without the C library; sorted.
    Only set if it was packed on this machine, or as the spec says for an explicit archive."""


class Interpreter(NamedTuple):
    """A CPython that runs on this machine."""

    executable: Path
    version: str
