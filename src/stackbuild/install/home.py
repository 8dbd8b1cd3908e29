"""Adjust files that depend on where a layer is installed.

On Linux and macOS almost no CPython needs this: `bin/python` is a relative link and `pyvenv.cfg`
has no `home`. On Windows, and for the versions of CPython that `needs_home` selects, the installer
writes `home`. On Windows it also copies the launcher, because creating links needs a privilege
there (PEP 405, `venv` module).
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild.layout import layout_for
from stackbuild.spec.model import LayerKind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from stackbuild.compose.manifest import Manifest
    from stackbuild.platforms import OsName

CONFIGURATION = "pyvenv.cfg"
LAUNCHERS = ("python.exe", "pythonw.exe")
"""Launchers that start the interpreter in `home`; a runtime has them in `Lib/venv/scripts/nt`."""


@dataclass(frozen=True, slots=True)
class WriteHome:
    """Prepend a line `home = …` to the `pyvenv.cfg` of a layer."""

    configuration: Path
    home: Path

    def apply(self) -> None:
        """Replace the file; it may be a hard link into the store, so it is not edited in place."""
        content = self.content(self.configuration.read_bytes())
        self.configuration.unlink()
        self.configuration.write_bytes(content)
        self.configuration.chmod(0o444)

    def is_applied(self) -> bool:
        """Whether the file has a `home` line, for this or an earlier location of the root."""
        try:
            return self.configuration.read_bytes().startswith(b"home = ")
        except OSError:
            return False

    def content(self, before: bytes) -> bytes:
        """The contents with this `home`; an existing `home` line is replaced."""
        # Not decoded: archives may contain any bytes, and POSIX paths are bytes.
        kept = (line for line in before.splitlines(keepends=True) if not line.startswith(b"home "))
        return b"home = %b\n%b" % (os.fsencode(self.home), b"".join(kept))


@dataclass(frozen=True, slots=True)
class CopyLauncher:
    """Copy the runtime's launcher into a layer."""

    source: Path
    target: Path

    def apply(self) -> None:
        """Copy the launcher if the runtime has it."""
        if self.source.is_file():
            self.target.parent.mkdir(exist_ok=True)
            shutil.copyfile(self.source, self.target)


Adjustment = WriteHome | CopyLauncher


def needs_home(os: OsName, python_version: str) -> bool:
    """Whether a layer's `pyvenv.cfg` must have a `home` line.

    Early releases of CPython 3.14 ignored a `pyvenv.cfg` without `home`, until cpython PR 135831.
    Pre-releases cannot be told apart by number, so all versions up to 3.14.0 count.
    """
    from packaging.version import Version

    if os == "windows":
        return True
    return Version("3.14.0a1") <= Version(python_version) <= Version("3.14.0")


def adjustments(layers: Iterable[Manifest], built: Path, final: Path) -> tuple[Adjustment, ...]:
    """The adjustments for the generation in `built`, which will be moved to `final`."""
    manifests = tuple(layers)
    by_directory = {manifest.directory: manifest for manifest in manifests}
    result: list[Adjustment] = []
    for manifest in manifests:
        if manifest.kind is LayerKind.RUNTIME:
            continue
        runtime = by_directory[manifest.chain[-1].directory]
        result += _for_layer(manifest, runtime, built, final)
    return tuple(result)


def _for_layer(manifest: Manifest, runtime: Manifest, built: Path, final: Path) -> list[Adjustment]:
    from packaging.version import Version

    os = manifest.platform.os
    if not needs_home(os, runtime.python_version):
        return []
    layout = layout_for(manifest.platform, Version(runtime.python_version))
    interpreter = final / runtime.directory / layout.runtime_interpreter
    layer = built / manifest.directory
    result: list[Adjustment] = [WriteHome(layer / CONFIGURATION, interpreter.parent)]
    if os == "windows":
        launchers = built / runtime.directory / layout.stdlib / "venv" / "scripts" / "nt"
        result += [
            CopyLauncher(launchers / name, layer / layout.scripts / name) for name in LAUNCHERS
        ]
    return result
