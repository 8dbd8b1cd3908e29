"""Make the Mach-O files of a CPython relocatable, with the tools of Xcode.

The functions that compute the arguments are tested. The tools exist only on macOS, where this code
has not been run.
"""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError
from stackbuild.runtimes.elf import relative_search

if TYPE_CHECKING:
    from collections.abc import Iterable

MAGICS = frozenset({b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"})
"""Magic numbers of little-endian 64-bit and of universal files."""


def is_macho(data: bytes) -> bool:
    """Whether `data` begins a Mach-O file."""
    return data[:4] in MAGICS


def parse_otool(output: str) -> list[str]:
    """Parse the libraries from the output of `otool -L`: one per line after the file name."""
    lines = output.splitlines()[1:]
    return [line.strip().partition(" (compatibility")[0] for line in lines if line.strip()]


def install_name_arguments(path: str, libraries: Iterable[str], packed: Iterable[str]) -> list[str]:
    """The arguments of `install_name_tool` for the file `path` of the archive.

    Libraries in the archive (`packed`, by path) are found relative to the file (dyld(1),
    `@loader_path`); all others are unchanged.
    """
    names = {PurePosixPath(item).name: item for item in packed}
    arguments: list[str] = []
    for library in libraries:
        name = PurePosixPath(library).name
        if not library.startswith("/") or name not in names:
            continue
        if names[name] == path:
            arguments += ["-id", f"@rpath/{name}"]
            continue
        directory = str(PurePosixPath(names[name]).parent)
        steps = relative_search(path, directory).replace("$ORIGIN", "@loader_path")
        arguments += ["-change", library, f"{steps}/{name}"]
    return arguments


def host_libraries(libraries: Iterable[str], packed: Iterable[str]) -> set[str]:
    """Libraries that are not in the archive and not part of macOS."""
    names = {PurePosixPath(item).name for item in packed}
    return {
        library
        for library in libraries
        if not library.startswith(("/usr/lib/", "/System/", "@"))
        and PurePosixPath(library).name not in names
    }


def libraries_of(file: Path) -> list[str]:
    """The output of `otool -L` for `file`. Raises ComposeError."""
    return parse_otool(_tool("otool", "-L", str(file)))


def relocate_file(file: Path, arguments: list[str]) -> None:
    """Change a file in place and sign it again, as macOS on arm64 requires. Raises ComposeError."""
    _tool("install_name_tool", *arguments, str(file))
    _tool("codesign", "--force", "--sign", "-", str(file))


def _tool(*words: str) -> str:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ComposeError(
            f"packing an interpreter needs {words[0]}, which failed",
            found=str(getattr(error, "stderr", None) or error).strip(),
            remedy="install the command line tools of Xcode, or use the source pbs",
        ) from error
