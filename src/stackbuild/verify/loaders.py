"""Where the loader of each operating system looks for the shared libraries that a file needs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.runtimes.elf import Elf, find_needed
from stackbuild.verify.host_libraries import DRIVERS, MACOS, MANYLINUX, declared, of_windows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stackbuild.verify.binary import Binary
    from stackbuild.verify.deployed import DeployedLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """What a layer's files find around them."""

    layer: DeployedLayer
    chain: Sequence[DeployedLayer]
    names: frozenset[str]
    """The file names in all layers of the chain; in lower case on Windows, which cares for none."""
    granted: frozenset[str]
    """What an interpreter that stands in for another one needs of its host; for the runtime
    alone."""

    def missing(self, binary: Binary, path: str) -> set[str]:
        """What `binary`, the file `path` of the layer, needs and neither chain nor host has."""
        search = {"linux": _missing_elf, "macos": _missing_macho, "windows": _missing_pe}
        system = self.layer.manifest.platform.os
        return search[system](binary, self.layer.directory / path, self) - self.granted

    def has(self, path: Path) -> bool:
        """Whether `path` is a file of the chain."""
        plain = Path(os.path.normpath(path))
        return any(plain.is_relative_to(one.directory) for one in self.chain) and plain.is_file()


def neighbours(layer: DeployedLayer, chain: Sequence[DeployedLayer]) -> Neighbours:
    """What there is for the files of `layer`, whose chain this is."""
    names = {path.rpartition("/")[2] for one in chain for path in (*one.kinds, *one.links)}
    granted = declared(layer.manifest) if chain[-1] is layer else frozenset[str]()
    if layer.manifest.platform.os == "windows":
        names, granted = {name.lower() for name in names}, frozenset(map(str.lower, granted))
    return Neighbours(layer=layer, chain=chain, names=frozenset(names), granted=granted)


def _missing_elf(binary: Binary, file: Path, around: Neighbours) -> set[str]:
    """By RUNPATH, RPATH and ``$ORIGIN`` (ld.so(8)), or anywhere in the chain by its name.

    For distributions load what they need by its path beforehand.
    """
    unknown = {
        name
        for name in binary.needed
        if name not in around.names and name not in MANYLINUX and name not in DRIVERS
    }
    if not unknown:
        return unknown
    return unknown - find_needed(Elf(binary.needed, binary.search), file.parent).keys()


def _missing_macho(binary: Binary, file: Path, around: Neighbours) -> set[str]:
    """By the path that the file names, with dyld's variables (dyld(1)).

    A name with ``@rpath`` or without any directory may also be that of a
    library anywhere in the chain: dyld takes one that is loaded already by the
    name it was linked with, and searches the rpaths of all files that led here.
    """
    # A program is the executable itself; all others are loaded into the interpreter.
    beside = file.parent if binary.program else around.chain[-1].directory / "bin"
    return {
        name
        for name in binary.needed
        if not (
            any(_is_there(path, around) for path in _places(name, binary.search, file, beside))
            or (
                (name.startswith("@rpath/") or "/" not in name)
                and name.rpartition("/")[2] in around.names
            )
        )
    }


def _places(name: str, search: Sequence[str], file: Path, beside: Path) -> Iterator[str]:
    """The paths that dyld tries for `name`."""
    variables = {"@loader_path": file.parent, "@executable_path": beside}
    rest = name.removeprefix("@rpath/")
    for item in (f"{one}/{rest}" for one in search) if rest != name else (name,):
        first, _, steps = item.partition("/")
        yield f"{variables[first]}/{steps}" if first in variables else item


def _is_there(path: str, around: Neighbours) -> bool:
    return os.path.normpath(path).startswith(MACOS) or around.has(Path(path))


def _missing_pe(binary: Binary, file: Path, around: Neighbours) -> set[str]:
    """Anywhere in the chain by its name, as Windows has no search that a file could tell of.

    It looks beside the file, beside the interpreter, and in the directories
    that packages add when they are imported (`os.add_dll_directory`: those of
    delvewheel, ``<name>.libs``, and any others); which those are is only known
    then. A DLL that is loaded already is taken by its name as well.
    """
    return {name for name in binary.needed if name not in around.names and not of_windows(name)}
