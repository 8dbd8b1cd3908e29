"""Reads a program or shared library in the format of its platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.runtimes import elf
from stackbuild.verify import macho, pe
from stackbuild.verify.binary import Binary

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.platforms import Platform

_ELF_MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64", "EM_386": "i386", "EM_ARM": "arm"}
_DEVICES = frozenset({"EM_CUDA", "EM_AMDGPU"})
"""Code that a driver loads into a device, in the same format."""


def read_binary(path: Path, magic: bytes, platform: Platform) -> Binary | None:
    """What `path`, which begins with `magic`, needs on `platform`.

    None for what the loader of that system never sees; that includes files for
    other systems, which distributions carry for when they are installed there.
    Raises ComposeError for a damaged file.
    """
    if platform.os == "macos":
        return macho.read_macho(path, platform.machine) if magic in macho.MAGICS else None
    if platform.os == "windows":
        return pe.read_pe(path) if magic.startswith(pe.MAGIC) else None
    return _read_elf(path) if magic == elf.MAGIC else None


def _read_elf(path: Path) -> Binary | None:
    found = elf.read_elf(path)
    if found is None or found.machine in _DEVICES:
        return None
    machine = _ELF_MACHINES.get(found.machine, found.machine)
    return Binary(machines=(machine,), needed=found.needed, search=found.search)
