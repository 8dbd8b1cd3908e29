"""Console scripts that find their interpreter beside themselves, wherever they are."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from installer.scripts import LauncherKind

    from stackbuild.frames.model import EntryPoint
    from stackbuild.layout import Layout

# To sh, the second line is a command that ends the script; to Python, the second and
# third are a string. A first line cannot name an interpreter relative to the script.
_POSIX_HEADER = b"""#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")/python" "$0" "$@"
' '''
"""

_BODY = """\
import sys

from {module} import {first}

if __name__ == "__main__":
    sys.argv[0] = sys.argv[0].removesuffix(".exe")
    sys.exit({attribute}())
"""

_LAUNCHER_INTERPRETER = r"<launcher_dir>\python.exe"
"""How the launchers that `installer` ships call the directory they stand in."""

_EARLIEST = (1980, 1, 1, 0, 0, 0)


def script_files(entry_point: EntryPoint, layout: Layout, machine: str) -> dict[str, bytes]:
    """The executable files that run `entry_point`, by layer-relative path.

    On POSIX a script with a ``/bin/sh`` header that runs the `python` beside it;
    on Windows a launcher for `machine` (``x86_64`` or ``aarch64``) that does the same.
    """
    body = _BODY.format(
        module=entry_point.module,
        first=entry_point.attribute.partition(".")[0],
        attribute=entry_point.attribute,
    ).encode()
    path = f"{layout.scripts}/{entry_point.name}"
    if layout.os == "windows":
        return {f"{path}.exe": _launcher(entry_point, machine) + _zipped(body)}
    return {path: _POSIX_HEADER + body}


def relocatable_script(data: bytes) -> bytes:
    """A script that is not bound to an interpreter's place, from one whose first line names it.

    Only the first line of `data` changes (wheel specification, "Recommended
    installer features": ``#!python``); it is for POSIX.
    """
    return _POSIX_HEADER + data.partition(b"\n")[2]


def _launcher(entry_point: EntryPoint, machine: str) -> bytes:
    """The program and the line that names the interpreter, without the script."""
    from installer.scripts import Script

    script = Script(
        entry_point.name,
        entry_point.module,
        entry_point.attribute,
        "gui" if entry_point.gui else "console",
    )
    kind: LauncherKind = "win-arm64" if machine == "aarch64" else "win-amd64"
    _, data = script.generate(_LAUNCHER_INTERPRETER, kind)
    # What installer appends is a zip file with the time of day in it.
    return data[: data.rindex(b"PK\x03\x04")]


def _zipped(body: bytes) -> bytes:
    stream = io.BytesIO()
    entry = zipfile.ZipInfo("__main__.py", _EARLIEST)
    entry.create_system = 3  # the same on every host
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(entry, body)
    return stream.getvalue()
