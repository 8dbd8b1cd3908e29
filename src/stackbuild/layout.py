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
    is_runtime: bool = False
    """On Windows the interpreter of a runtime is not beside its console scripts."""

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
    def launched_interpreter(self) -> str:
        """The interpreter of console scripts on Windows, relative to them, with backslashes."""
        return r"..\python.exe" if self.is_runtime else "python.exe"

    @property
    def runtime_interpreter(self) -> str:
        """The real interpreter, in a runtime."""
        return "python.exe" if self.os == "windows" else f"bin/python{self.python}"


LAUNCHED = "libexec"
"""Python scripts, run by launchers of the same names (`frames.scripts`); not on Windows."""

METADATA = "share/venv/metadata"
"""The directory in which venvstacks stores the metadata of a layer."""

PACKAGES = "packages"
"""The directory of a layer for wheels, as in environments of runenv-python-3."""
ENVIRONMENT_SCRIPT = f"{METADATA}/environment.sh"
"""Sets the environment variables of a layer that has some; not on Windows."""


def layout_for(platform: Platform, python_version: Version) -> Layout:
    """The layout of a layer on `platform` that runs on `python_version`."""
    return Layout(platform.os, f"{python_version.major}.{python_version.minor}")


def extension_suffixes(platform: Platform, python: str) -> tuple[str, ...]:
    """File name suffixes of extension modules for CPython `python` (``3.12``), longest first.

    Equal to `importlib.machinery.EXTENSION_SUFFIXES` there (PEP 3149, PEP 384).
    """
    digits = python.replace(".", "")
    if platform.os == "windows":
        machine = "amd64" if platform.machine == "x86_64" else "arm64"
        return (f".cp{digits}-win_{machine}.pyd", ".pyd")
    system = "darwin" if platform.os == "macos" else f"{platform.machine}-linux-gnu"
    return (f".cpython-{digits}-{system}.so", ".abi3.so", ".so")


def extension_module(path: str, platform: Platform, layout: Layout) -> tuple[str, str] | None:
    """The name of the extension module at the layer-relative `path`, and the suffix of its file.

    Judged by the path alone; None if the path is not that of a module.
    """
    site_packages = f"{layout.site_packages}/"
    endings = extension_suffixes(platform, layout.python)
    suffix = next((ending for ending in endings if path.endswith(ending)), None)
    if suffix is None or not path.startswith(site_packages):
        return None
    parts = path.removeprefix(site_packages).removesuffix(suffix).split("/")
    if any("." in part or not part for part in parts):
        return None
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts), suffix
