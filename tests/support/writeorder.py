"""In what order files get their contents, their names, and are synchronized."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


class WriteOrder:
    """Watches `os.fsync` and renames; what a power cut could have lost is a fault.

    A file that is renamed must have been synchronized after its last change, and
    the directory that it is renamed into must be synchronized later.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.named: list[Path] = []
        """The files that were renamed, by their new names."""
        self._faults: list[str] = []
        self._synced: dict[tuple[int, int], int] = {}
        self._names_to_sync: dict[tuple[int, int], Path] = {}
        self._fsync = os.fsync
        patch.setattr(os, "fsync", self._sync)
        for name in ("rename", "replace"):
            patch.setattr(os, name, self._renaming(getattr(os, name)))

    def faults(self) -> list[str]:
        """What could have been lost, in words."""
        late = [f"names in {path} are not synchronized" for path in self._names_to_sync.values()]
        return self._faults + late

    def _sync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        status = os.fstat(descriptor)
        self._synced[_identity(status)] = status.st_mtime_ns
        self._names_to_sync.pop(_identity(status), None)

    def _renaming(self, rename: Any) -> Any:
        def call(source: str | Path, target: str | Path) -> None:
            status = os.lstat(source)
            if stat.S_ISREG(status.st_mode):
                self.named.append(Path(target))
                if self._synced.get(_identity(status)) != status.st_mtime_ns:
                    self._faults.append(f"{target} has its name before its contents")
            rename(source, target)
            parent = Path(target).parent
            self._names_to_sync[_identity(parent.stat())] = parent

        return call


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
