"""Reads PE files, which Windows loads: for which processor they are, which DLLs they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError
from stackbuild.verify.binary import Binary

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"MZ"
_ENDINGS = frozenset({".dll", ".exe", ".pyd"})
"""Files that are nothing else when they begin with the two letters."""
_MACHINES = {0x14C: "i386", 0x8664: "x86_64", 0xAA64: "aarch64"}
_IS_DLL = 0x2000
_IMPORTS, _DOTNET = 1, 14
"""Numbers of data directories (PE format, optional header). What the directory of delayed
imports names is loaded when it is called, and may be missing until then."""


def read_pe(path: Path) -> Binary | None:
    """The DLLs that `path` is linked with; None for a file that is none of Windows' formats.

    Their names are in lower case, as one file has them in this case and another in that.
    Raises ComposeError for a damaged one.
    """
    import pefile

    try:
        image = pefile.PE(str(path), fast_load=True)
    except pefile.PEFormatError as error:
        # Two letters are not much: text and programs for DOS may begin with them.
        if path.suffix.lower() in _ENDINGS:
            raise ComposeError("a program file is damaged", file=path, found=str(error)) from error
        return None
    try:
        image.parse_data_directories(directories=[_IMPORTS], import_dllnames_only=True)
        imports = getattr(image, "DIRECTORY_ENTRY_IMPORT", None)
        directories = image.OPTIONAL_HEADER.DATA_DIRECTORY
        if imports is None and len(directories) > _IMPORTS and directories[_IMPORTS].VirtualAddress:
            raise ComposeError("a program file is damaged", file=path, found="no import table")
        managed = len(directories) > _DOTNET and directories[_DOTNET].VirtualAddress != 0
        machine = image.FILE_HEADER.Machine
        return Binary(
            # Code of .NET is compiled when it is started, whatever the header says.
            machines=() if managed else (_MACHINES.get(machine, f"machine {machine:#x}"),),
            needed=tuple(entry.dll.decode("ascii", "replace").lower() for entry in imports or ()),
            program=not image.FILE_HEADER.Characteristics & _IS_DLL,
        )
    except pefile.PEFormatError as error:
        raise ComposeError("a program file is damaged", file=path, found=str(error)) from error
    finally:
        image.close()
