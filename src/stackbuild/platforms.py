"""The supported platforms and their properties.

The names are stackbuild's (`linux-x64`); those of venvstacks
(`linux_x86_64`) are accepted wherever a platform is read.
"""

from __future__ import annotations

import platform as host
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from stackbuild.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

OsName = Literal["linux", "macos", "windows"]


class Platform(StrEnum):
    """A target platform: operating system and processor."""

    LINUX_X64 = "linux-x64"
    LINUX_AARCH64 = "linux-aarch64"
    MACOSX_X64 = "macosx-x64"
    MACOSX_AARCH64 = "macosx-aarch64"
    WINDOWS_X64 = "windows-x64"
    WINDOWS_AARCH64 = "windows-aarch64"

    @property
    def os(self) -> OsName:
        """The operating system family, which determines the layout of a layer."""
        return _OS[self.partition("-")[0]]

    @property
    def machine(self) -> Literal["x86_64", "aarch64"]:
        """The processor, as named by python-build-standalone."""
        return "x86_64" if self.endswith("x64") else "aarch64"

    @property
    def venvstacks_name(self) -> str:
        """The name venvstacks uses in `platforms`, such as ``macosx_arm64``."""
        return _VENVSTACKS_NAMES[self]


_OS: dict[str, OsName] = {"linux": "linux", "macosx": "macos", "windows": "windows"}

_VENVSTACKS_NAMES = {
    Platform.LINUX_X64: "linux_x86_64",
    Platform.LINUX_AARCH64: "linux_aarch64",
    Platform.MACOSX_X64: "macosx_x86_64",
    Platform.MACOSX_AARCH64: "macosx_arm64",
    Platform.WINDOWS_X64: "win_amd64",
    Platform.WINDOWS_AARCH64: "win_arm64",
}

_BY_NAME = {name: platform for platform, name in _VENVSTACKS_NAMES.items()} | {
    str(platform): platform for platform in Platform
}

DEFAULT_PLATFORMS: tuple[Platform, ...] = (
    Platform.LINUX_X64,
    Platform.LINUX_AARCH64,
    Platform.MACOSX_X64,
    Platform.MACOSX_AARCH64,
    Platform.WINDOWS_X64,
)
"""The platforms that commands work on by default; windows-aarch64 has to be named."""

_MACHINES = {
    "linux": {"x86_64": "x86_64", "aarch64": "aarch64"},
    "macos": {"x86_64": "x86_64", "aarch64": "arm64"},
    "windows": {"x86_64": "AMD64", "aarch64": "ARM64"},
}
_SYSTEMS = {"linux": "Linux", "macos": "Darwin", "windows": "Windows"}
_SYS_PLATFORMS = {"linux": "linux", "macos": "darwin", "windows": "win32"}


def nearest(name: str, valid: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The entry of the iterable `valid` that `name` is most likely a misspelling of."""
    import difflib

    matches = difflib.get_close_matches(name, [str(item) for item in valid], 1, cutoff)
    return matches[0] if matches else None


def parse_platform(name: str) -> Platform:
    """The platform called `name`, by either naming scheme, or ``host``.

    Raises UsageError for any other name.
    """
    if name == "host":
        return host_platform()
    if name in _BY_NAME:
        return _BY_NAME[name]
    guess = nearest(name, _BY_NAME)
    raise UsageError(
        f"{name!r} is not a platform",
        expected=", ".join(Platform) + ", or host",
        remedy=f"did you mean {guess!r}?" if guess else None,
    )


def host_platform() -> Platform:
    """The platform of this machine. Raises UsageError if it is not supported."""
    system = {"linux": "linux", "darwin": "macosx", "win32": "windows"}.get(sys.platform)
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "aarch64", "arm64": "aarch64"}.get(
        host.machine().lower()
    )
    try:
        return Platform(f"{system}-{machine}")
    except ValueError:
        raise UsageError(
            f"the platform of this machine ({sys.platform}, {host.machine()}) is not supported",
            expected=", ".join(Platform),
        ) from None


def marker_environment(platform: Platform, python: str) -> dict[str, str]:
    """The environment of markers on `platform` (dependency specifiers, PEP 508).

    Release and version of the system are empty, because they are unknown.
    """
    return {
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "nt" if platform.os == "windows" else "posix",
        "platform_machine": _MACHINES[platform.os][platform.machine],
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": _SYSTEMS[platform.os],
        "platform_version": "",
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": _SYS_PLATFORMS[platform.os],
    }
