"""Find the requirements of a wheel's shared libraries and extension modules on Linux.

The rules are those of the manylinux platform tags (PEP 600): a wheel may use symbol versions up to
those of a glibc release, and external libraries only if every desktop Linux has them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError, IntegrityError
from stackbuild.runtimes.elf import MAGIC, MANYLINUX, read_elf, set_search

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

Level = tuple[int, int]

OLDEST: Level = (2, 17)
"""The oldest supported glibc (manylinux2014)."""

# The newest symbol versions in the compilers of the reference distribution of each glibc:
# CentOS 7 (2.17), RHEL 8 (2.28), Ubuntu 20.04 (2.31), RHEL 9 (2.34), Ubuntu 22.04 (2.35),
# Fedora 39 (2.38) and Ubuntu 24.04 (2.39).
_COMPILER_SYMBOLS: dict[str, tuple[tuple[Level, tuple[int, ...]], ...]] = {
    "GLIBCXX": (
        ((2, 17), (3, 4, 19)), ((2, 28), (3, 4, 25)), ((2, 31), (3, 4, 28)),
        ((2, 34), (3, 4, 29)), ((2, 35), (3, 4, 30)), ((2, 38), (3, 4, 32)), ((2, 39), (3, 4, 33)),
    ),
    "CXXABI": (
        ((2, 17), (1, 3, 7)), ((2, 28), (1, 3, 11)), ((2, 31), (1, 3, 12)),
        ((2, 34), (1, 3, 13)), ((2, 38), (1, 3, 14)), ((2, 39), (1, 3, 15)),
    ),
    "GCC": (
        ((2, 17), (4, 8, 0)), ((2, 28), (8, 0, 0)), ((2, 31), (9, 0, 0)), ((2, 34), (11, 0, 0)),
        ((2, 35), (12, 0, 0)), ((2, 38), (13, 0, 0)), ((2, 39), (14, 0, 0)),
    ),
}  # fmt: skip
_VERSION = re.compile(r"(GLIBC|GLIBCXX|CXXABI|GCC)_(\d+(?:\.\d+)*)")
_MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What the ELF files of a wheel need."""

    glibc: Level = OLDEST
    """The oldest glibc with which they run."""
    because: str | None = None
    """The file and symbol version that require this glibc, or None."""
    foreign: Mapping[str, str] = field(default_factory=dict)
    """External libraries that not every Linux has; each with a file that needs it."""

    def tag(self, machine: str) -> str:
        """The matching platform tag; a plain `linux` tag if foreign libraries are needed."""
        if self.foreign:
            return f"linux_{machine}"
        return f"manylinux_{self.glibc[0]}_{self.glibc[1]}_{machine}"


def audit(tree: Path, machine: str) -> Audit:
    """Inspect all ELF files below `tree`, an unpacked wheel.

    Raises IntegrityError for a damaged file and for one of another processor.
    """
    files = {path: path.relative_to(tree).as_posix() for path in elf_files(tree)}
    shipped = {PurePosixPath(name).name for name in files.values()}
    glibc, because = OLDEST, None
    foreign: dict[str, str] = {}
    for path, name in files.items():
        needed = _needed(path)
        for library in needed:
            if library not in MANYLINUX and library not in shipped:
                foreign.setdefault(library, name)
        for version in _symbol_versions(path, machine):
            level = _level(version)
            if level > glibc:
                glibc, because = level, f"{name} needs {version}"
    return Audit(glibc=glibc, because=because, foreign=dict(sorted(foreign.items())))


def elf_files(tree: Path) -> Iterator[Path]:
    """The ELF files below `tree`, sorted."""
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(len(MAGIC)) == MAGIC:
                    yield path


def drop_absolute_search(files: Iterable[Path]) -> None:
    """Remove directories of this machine from the library search paths of `files`.

    Interpreters built as a shared library add theirs to everything that is built with them.
    """
    changed: dict[str, list[Path]] = {}
    for path in files:
        elf = read_elf(path)
        if elf is None:
            continue
        kept = [item for item in elf.search if item.startswith(("$ORIGIN", "${ORIGIN}"))]
        if len(kept) != len(elf.search):
            changed.setdefault(":".join(kept), []).append(path)
    set_search(changed)


def _needed(path: Path) -> tuple[str, ...]:
    try:
        elf = read_elf(path)
    except ComposeError as error:
        raise IntegrityError("a binary file in a wheel is damaged", file=path) from error
    return elf.needed if elf else ()


def _symbol_versions(path: Path, machine: str) -> Iterator[str]:
    """The versions of symbols that `path` imports from other files."""
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerNeedSection

    with path.open("rb") as file:
        elf = ELFFile(file)
        found = elf.header["e_machine"]
        if found != _MACHINES[machine]:
            raise IntegrityError(
                "a wheel contains a binary file for another processor",
                file=path.name,
                expected=machine,
                found=str(found).removeprefix("EM_").lower(),
            )
        for section in elf.iter_sections("SHT_GNU_verneed"):
            # The filter yields no other kind of section; isinstance is for the type checker.
            if isinstance(section, GNUVerNeedSection):
                for _, versions in section.iter_versions():
                    yield from (str(version.name) for version in versions)


def _level(version: str) -> Level:
    """The oldest glibc release whose reference distribution has the symbol version `version`."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return OLDEST
    numbers = tuple(map(int, match[2].split(".")))
    if match[1] == "GLIBC":
        return numbers[0], numbers[1] if len(numbers) > 1 else 0
    for level, newest in _COMPILER_SYMBOLS[match[1]]:
        if numbers <= newest:
            return level
    # A version newer than all in the table needs a glibc newer than the newest.
    newest_known = _COMPILER_SYMBOLS[match[1]][-1][0]
    return newest_known[0], newest_known[1] + 1
