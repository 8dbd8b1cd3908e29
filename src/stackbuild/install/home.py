"""Adjust files that depend on where a layer is installed.

On Linux and macOS almost no CPython needs this: `bin/python` is a relative link and `pyvenv.cfg`
has no `home`. On Windows, and for the versions of CPython that `needs_home` selects, the installer
writes `home`. On Windows it also copies the launchers, because creating links needs a privilege
there (PEP 405, `venv` module). The `postinstall.py` of a layer on Windows does the same.
"""

from __future__ import annotations

import filecmp
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild import windows
from stackbuild.compose.postinstall_template import (
    CONFIGURATION,
    LAUNCHERS,
    PROGRAMS,
    launcher,
    with_home,
)
from stackbuild.errors import InstallError
from stackbuild.files import work_path
from stackbuild.spec.model import LayerKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from stackbuild.compose.manifest import Manifest
    from stackbuild.platforms import OsName


@dataclass(frozen=True, slots=True)
class WriteHome:
    """Prepend a line `home = …` to the `pyvenv.cfg` of a layer."""

    target: Path
    home: Path

    def apply(self) -> None:
        """Replace the file, which may be a hard link into the store. Raises OSError."""
        work = work_path(self.target)
        work.write_bytes(self.content(self.target.read_bytes()))
        work.chmod(0o444)
        windows.replace(work, self.target)

    def is_applied(self) -> bool:
        """Whether the file has this `home` line."""
        try:
            found = self.target.read_bytes()
        except OSError:
            return False
        return found == self.content(found)

    def content(self, before: bytes) -> bytes:
        """The contents with this `home`; an existing `home` line is replaced."""
        return with_home(before, str(self.home))


@dataclass(frozen=True, slots=True)
class CopyLauncher:
    """Copy the launcher that a runtime has for virtual environments into a layer."""

    runtime: Path
    target: Path

    def apply(self) -> None:
        """Copy the launcher. Raises InstallError if the runtime has none, OSError."""
        source = self._source()
        if source is not None:
            self.target.parent.mkdir(exist_ok=True)
            work = work_path(self.target)
            shutil.copyfile(source, work)
            windows.replace(work, self.target)
        elif not self._is_optional():
            raise InstallError(
                "the runtime has no launcher for virtual environments",
                layer=self.runtime.name,
                file=self.runtime / "Lib" / "venv" / "scripts" / "nt",
                expected=" or ".join(LAUNCHERS[self.target.name]),
                remedy="publish the runtime from an interpreter that has the venv module",
            )

    def is_applied(self) -> bool:
        """Whether the layer has the launcher."""
        source = self._source()
        if source is None:
            return self._is_optional()
        with suppress(OSError):
            return filecmp.cmp(source, self.target, shallow=False)
        return False

    def _source(self) -> str | None:
        return launcher(str(self.runtime), self.target.name)

    def _is_optional(self) -> bool:
        return self.target.name != next(iter(LAUNCHERS))


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


def adjustments(
    layers: Iterable[Manifest], place: Callable[[str], Path], final: Path | None
) -> tuple[Adjustment, ...]:
    """The adjustments of `layers`, which are complete chains.

    `place` gives the present path of a layer by its directory; they will be moved into `final`.
    It is None if that is not known, because they will run on another machine: they then get no
    `home` (`must_be_adjusted`).
    """
    manifests = tuple(layers)
    by_directory = {manifest.directory: manifest for manifest in manifests}
    result: list[Adjustment] = []
    for manifest in manifests:
        if manifest.kind is not LayerKind.RUNTIME:
            runtime = by_directory[manifest.chain[-1].directory]
            result += _for_layer(manifest, runtime, place, final)
    return tuple(result)


def must_be_adjusted(layers: Iterable[Manifest]) -> bool:
    """Whether one of `layers` does not run at another place without an adjustment."""
    return any(
        manifest.kind is not LayerKind.RUNTIME
        and needs_home(manifest.platform.os, manifest.python_version)
        for manifest in layers
    )


def _for_layer(
    manifest: Manifest, runtime: Manifest, place: Callable[[str], Path], final: Path | None
) -> list[Adjustment]:
    os = manifest.platform.os
    if not needs_home(os, runtime.python_version):
        return []
    result: list[Adjustment] = []
    layer = place(manifest.directory)
    if final is not None:
        interpreter = final / runtime.directory / runtime.layout.runtime_interpreter
        result.append(WriteHome(layer / CONFIGURATION, interpreter.parent))
    if os == "windows":
        lower = place(runtime.directory)
        result += [CopyLauncher(lower, layer / PROGRAMS / name) for name in LAUNCHERS]
    return result
