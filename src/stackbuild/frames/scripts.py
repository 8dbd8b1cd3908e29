"""Make the scripts of distributions start in a layer."""

from __future__ import annotations

import io
import posixpath
from typing import TYPE_CHECKING

from stackbuild.files import zip_entry
from stackbuild.layout import LAUNCHED
from stackbuild.scripts import header

if TYPE_CHECKING:
    from installer.scripts import LauncherKind

    from stackbuild.frames.model import EntryPoint
    from stackbuild.layout import Layout

_ENTRY_POINT = """\
import sys

from {module} import {first}

__doc__ = None
if __name__ == "__main__":
    sys.argv[0] = sys.argv[0].removesuffix(".exe")
    sys.exit({attribute}())
"""

# The script runs in the launcher's namespace: `__file__`, `sys.argv` and `sys.path` are those of
# bin/, and a child process of `multiprocessing` finds the definitions of the script.
_SCRIPT = f"""\
def _code():
    from os import path

    directory, name = path.split(path.realpath(__file__))
    script = path.join(path.dirname(directory), {LAUNCHED!r}, name)
    with open(script, "rb") as file:
        return compile(file.read(), script, "exec", dont_inherit=True)


__doc__ = None
exec(_code())
"""

LAUNCHER = header("python", variables=True) + _SCRIPT.encode()
"""Runs the script of the same name in ``libexec/`` with the interpreter beside it."""

_LAUNCHER_DIRECTORY = "<launcher_dir>\\"
"""The name for their own directory in the launchers of `installer`."""


def script_files(entry_point: EntryPoint, layout: Layout, machine: str) -> dict[str, bytes]:
    """The executable files that run `entry_point`, by layer-relative path.

    On POSIX a script with a ``/bin/sh`` header that runs the `python` beside it; on Windows a
    launcher for `machine` (``x86_64`` or ``aarch64``).
    """
    body = _ENTRY_POINT.format(
        module=entry_point.module,
        first=entry_point.attribute.partition(".")[0],
        attribute=entry_point.attribute,
    ).encode()
    path = f"{layout.scripts}/{entry_point.name}"
    if layout.os == "windows":
        return {f"{path}.exe": _launcher(entry_point, layout, machine) + _zipped(body)}
    return {path: header("python", variables=True) + body}


def launched_script(path: str) -> str:
    """The path of the original of the script at `path`, if the script has a launcher.

    The original is unchanged. With a header for sh as its first statement it would lose its
    docstring and its coding cookie (PEP 263), and an import from `__future__` would be a syntax
    error.
    """
    return posixpath.join(LAUNCHED, posixpath.basename(path))


def _launcher(entry_point: EntryPoint, layout: Layout, machine: str) -> bytes:
    """The launcher program and the line with the interpreter, without the script."""
    from installer.scripts import Script

    script = Script(
        entry_point.name,
        entry_point.module,
        entry_point.attribute,
        "gui" if entry_point.gui else "console",
    )
    kind: LauncherKind = "win-arm64" if machine == "aarch64" else "win-amd64"
    _, data = script.generate(_LAUNCHER_DIRECTORY + layout.launched_interpreter, kind)
    # installer appends a zip file with the current time.
    return data[: data.rindex(b"PK\x03\x04")]


def _zipped(body: bytes) -> bytes:
    import zipfile

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zip_entry("__main__.py"), body)
    return stream.getvalue()
