"""Write programs beside an index that install its layers on machines without Python.

<directory>/install.sh                              for Linux and macOS
<directory>/install.ps1                             for Windows, if stackbuild is published for it
<directory>/bootstrap/stackbuild-<platform>-<digest>.run  stackbuild as a bundle; .zip for Windows

Both scripts download the file of their platform, compare its sha256 with the one that is written
in the script, and run `stackbuild install`. stackbuild is a layer like any other: the application
`LAYER` of the index.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.compose.export_directory import BOOTSTRAP, SCRIPTS
from stackbuild.errors import InstallError, UsageError, in_the_way, system_errors
from stackbuild.files import atomic_write, read_regular, sha256_file
from stackbuild.install.archive import chains, write_archive
from stackbuild.install.bundle import CACHES, filled_script, write_bundle
from stackbuild.platforms import Platform
from stackbuild.registry.directory import DirectoryRegistry
from stackbuild.registry.find import Published
from stackbuild.transport.urls import redact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stackbuild.messages import Messages

LAYER = "stackbuild"
_ELSEWHERE = "publish to another directory"
_BEGINNING = re.compile(rb"(#!/bin/sh\n)?# Installs layers from http|$")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9._~:/%+,=@\[\]-]+")
_MACHINES = {
    Platform.LINUX_X64: ("Linux-x86_64", "Linux-amd64"),
    Platform.LINUX_AARCH64: ("Linux-aarch64", "Linux-arm64"),
    Platform.MACOSX_X64: ("Darwin-x86_64",),
    Platform.MACOSX_AARCH64: ("Darwin-arm64",),
}
"""What `uname -s` and `uname -m` print."""


class _Program(NamedTuple):
    """stackbuild for one platform."""

    platform: Platform
    name: str
    sha256: str
    runtime: str
    """The directory of its runtime."""


def write_bootstrap(directory: Path, address: str, messages: Messages) -> tuple[Path, ...]:
    """Write `install.sh` and `install.ps1` into `directory`; see `api.write_bootstrap`."""
    if not _ADDRESS.fullmatch(address) or redact(address) != address:
        raise UsageError(
            "the address for the scripts is not valid",
            expected="one such as https://layers.example.org/stack, without password and query",
            found=redact(address),
        )
    registry = DirectoryRegistry(directory)
    platforms = registry.index().entries.get(LAYER, {})
    if not any(platforms.values()):
        raise UsageError(
            f"there is no layer {LAYER!r} in {directory}, which the scripts need",
            file=directory,
            remedy=f"publish an application {LAYER!r} there that contains stackbuild, "
            "as bootstrap/venvstacks.toml of stackbuild's repository has it",
        )
    scripts = [directory / name for name in SCRIPTS]
    with system_errors(InstallError, directory, elsewhere=_ELSEWHERE):
        for path in scripts:
            if os.path.lexists(path) and not _BEGINNING.match(read_regular(path, 100)):
                raise in_the_way(InstallError, path, _ELSEWHERE)
        programs = [
            _program(directory, Published(registry, platform), messages)
            for platform, entries in sorted(platforms.items())
            if entries
        ]
        windows = [one for one in programs if one.platform.os == "windows"]
        written = [(scripts[0], programs), *([(scripts[1], windows)] if windows else [])]
        for path, of_script in written:
            _write_script(path, address, of_script)
    return tuple(path for path, _ in written)


def _program(directory: Path, published: Published, messages: Messages) -> _Program:
    """Write stackbuild for the platform of `published`, unless it is there."""
    platform = published.platform
    manifests = chains([published.current(LAYER)], published, messages)
    digest = hashlib.sha256("".join(one.digest for one in manifests).encode()).hexdigest()
    suffix = "zip" if platform.os == "windows" else "run"
    path = directory / BOOTSTRAP / f"stackbuild-{platform}-{digest[:12]}.{suffix}"
    if not path.exists():
        if suffix == "zip":
            write_archive(path, "zip", manifests, published, messages)
        else:
            write_bundle(path, manifests, published, messages, module="stackbuild")
    return _Program(platform, path.name, sha256_file(path), manifests[0].directory)


def _write_script(path: Path, address: str, programs: Sequence[_Program]) -> None:
    address = address.rstrip("/")
    words = {
        "ADDRESS": address,
        "QUOTED": shlex.quote(address),
        "SYSTEMS": "".join(map(_case, programs)),
        "NAME": programs[0].name,
        "SHA256": programs[0].sha256,
        "RUNTIME": programs[0].runtime,
    }
    atomic_write(path, filled_script(f"bootstrap{path.suffix}", words))


def _case(program: _Program) -> str:
    """What a shell does on the platform of `program`; nothing for Windows."""
    if program.platform not in _MACHINES:
        return ""
    return (
        f"        {' | '.join(_MACHINES[program.platform])})\n"
        f"            __name={program.name}\n"
        f"            __sha256={program.sha256}\n"
        f"            __caches={CACHES[program.platform.os]}\n"
        "            ;;\n"
    )
