"""The directory layout of a layer.

A layer has the layout of a virtual environment: the `posix_prefix` and `nt` schemes of the
`sysconfig` module. All paths are relative to the layer, with forward slashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.version import Version

    from stackbuild.platforms import OsName, Platform


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of a layer for one operating system family and one minor version of CPython."""

    os: OsName
    python: str
    """The minor version: ``3.12``."""

    @property
    def site_packages(self) -> str:
        """Where distributions are installed (purelib and platlib)."""
        return f"{self.stdlib}/site-packages"

    @property
    def stdlib(self) -> str:
        """The standard library, in a runtime."""
        return "Lib" if self.os == "windows" else f"lib/python{self.python}"

    @property
    def scripts(self) -> str:
        """Console scripts, and the interpreter of a layer above the runtime."""
        return "Scripts" if self.os == "windows" else "bin"

    @property
    def headers(self) -> str:
        """C headers of distributions, a directory for each below it."""
        return "Include" if self.os == "windows" else f"include/python{self.python}"

    @property
    def interpreter(self) -> str:
        """The executable that starts Python in a layer above the runtime."""
        return f"{self.scripts}/{'python.exe' if self.os == 'windows' else 'python'}"

    @property
    def runtime_interpreter(self) -> str:
        """The real interpreter, in a runtime."""
        return "python.exe" if self.os == "windows" else f"bin/python{self.python}"


LAUNCHED = "libexec"
"""Python scripts, run by launchers of the same names (`frames.scripts`); not on Windows."""

METADATA = "share/venv/metadata"
"""The file in which venvstacks stores the metadata of a layer."""


def layout_for(platform: Platform, python_version: Version) -> Layout:
    """The layout of a layer on `platform` that runs on `python_version`."""
    return Layout(platform.os, f"{python_version.major}.{python_version.minor}")
