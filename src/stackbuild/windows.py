"""What differs for files on Windows: long paths, read-only files, files that are open elsewhere.

On other systems each function does the usual thing.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EXTENDED = "\\\\?\\"
"""The start of a path that may be longer than 260 characters (Microsoft: Naming Files, Paths, and
Namespaces). Such a path is absolute and has backslashes only."""

MAX_PATH = 259
"""The longest path that programs on Windows open unless long paths are enabled, in characters."""

_PATIENCE = 20
_PAUSE = 0.1
"""Virus scanners open new files for a moment, so renaming is tried again: how often, and after how
many seconds."""


def extended(path: Path | str) -> str:
    """`path` without the limit of 260 characters on Windows."""
    return extended_path(os.fspath(path)) if os.name == "nt" else os.fspath(path)


def extended_path(path: str) -> str:
    """The extended-length form of a path of Windows."""
    import ntpath

    if path.startswith(EXTENDED):
        return path
    full = ntpath.abspath(path)
    if full.startswith("\\\\"):
        return f"{EXTENDED}UNC\\{full[2:]}"
    return EXTENDED + full


def inside(base: str, path: str) -> str:
    """The file at `path`, relative with forward slashes, in the directory `base`."""
    return f"{base}{os.sep}{path.replace('/', os.sep)}" if os.name == "nt" else f"{base}/{path}"


def shown(path: str) -> str:
    """`path` as people write it, without the start of extended-length paths."""
    if path.startswith(f"{EXTENDED}UNC\\"):
        return f"\\\\{path.removeprefix(f'{EXTENDED}UNC')[1:]}"
    return path.removeprefix(EXTENDED)


def rename(source: Path | str, target: Path | str) -> None:
    """Rename a file or directory. Raises OSError, on Windows also for files in use."""
    _patiently(os.rename, source, target)


def replace(source: Path | str, target: Path | str) -> None:
    """Rename a file over another, also over a read-only one. Raises OSError."""
    if os.name == "nt" and not _is_writable(extended(target)):
        unlink(target)
    _patiently(os.replace, source, target)


def _patiently(do: Callable[[str, str], None], source: Path | str, target: Path | str) -> None:
    for left in reversed(range(_attempts())):
        try:
            do(extended(source), extended(target))
        except PermissionError:
            if not left:
                raise
            time.sleep(_PAUSE)
        else:
            return


def _attempts() -> int:
    return _PATIENCE if os.name == "nt" else 1


def _is_writable(path: str) -> bool:
    """Whether the file is not read-only; True for a missing one."""
    try:
        return bool(os.lstat(path).st_mode & stat.S_IWRITE)
    except OSError:
        return True


def unlink(path: Path | str) -> None:
    """Remove a file, also a read-only one; its other hard links stay read-only. Raises OSError."""
    name = extended(path)
    try:
        os.unlink(name)  # noqa: PTH108 - an extended path
    except PermissionError:
        if sys.platform == "win32" and not _is_writable(name):
            _unlink_read_only(name)
        else:
            raise


if sys.platform == "win32":

    def _unlink_read_only(name: str) -> None:
        """Remove a read-only file by its handle.

        Hard links share the attribute, so it is not simply cleared: FILE_DISPOSITION_INFORMATION_EX
        (Windows 10 1809, NTFS) ignores it. Where that is not supported, as by Wine 8, the attribute
        is set again before the handle is closed.
        """
        import ctypes
        from ctypes import wintypes

        class Basic(ctypes.Structure):  # FILE_BASIC_INFO: four times, then the attributes
            _fields_ = (("times", ctypes.c_longlong * 4), ("attributes", wintypes.DWORD))

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.CreateFileW.restype = wintypes.HANDLE
        kernel.CreateFileW.argtypes = [
            *(wintypes.LPCWSTR, wintypes.DWORD, wintypes.DWORD, wintypes.LPVOID),
            *(wintypes.DWORD, wintypes.DWORD, wintypes.HANDLE),
        ]
        kernel.SetFileInformationByHandle.argtypes = [
            *(wintypes.HANDLE, ctypes.c_int, wintypes.LPVOID, wintypes.DWORD)
        ]
        kernel.CloseHandle.argtypes = [wintypes.HANDLE]

        def set_information(kind: int, value: ctypes.Structure | wintypes.DWORD) -> bool:
            size = ctypes.sizeof(value)
            done = kernel.SetFileInformationByHandle(handle, kind, ctypes.byref(value), size)
            return bool(done)

        # DELETE, FILE_READ_ATTRIBUTES and FILE_WRITE_ATTRIBUTES; shared with all; OPEN_EXISTING;
        # FILE_FLAG_OPEN_REPARSE_POINT and FILE_FLAG_BACKUP_SEMANTICS.
        handle = kernel.CreateFileW(name, 0x10180, 7, None, 3, 0x02200000, None)
        if handle == wintypes.HANDLE(-1).value:
            raise ctypes.WinError(ctypes.get_last_error(), name)
        try:
            # FileDispositionInfoEx: DELETE, POSIX_SEMANTICS, IGNORE_READONLY_ATTRIBUTE
            if set_information(21, wintypes.DWORD(0x13)):
                return
            normal, read_only = Basic(attributes=0x80), Basic(attributes=0x01)
            # FileBasicInfo, then FileDispositionInfo
            if not (set_information(0, normal) and set_information(4, wintypes.DWORD(1))):
                error = ctypes.get_last_error()
                set_information(0, read_only)
                raise ctypes.WinError(error, name)
            set_information(0, read_only)
        finally:
            kernel.CloseHandle(handle)
