"""Which archives are known to be as they were written, without reading them.

    <cache>/published/<sha256 of the directory's path>.json    of each archive: sha256 and status

The status is inode, size and times of the file; the time of its last change of status
(ctime) cannot be set back, so a byte that somebody changed is noticed also where the time of
modification was kept. An archive with another status is read once. What a disk loses by itself
changes no status: `publish --check` reads everything. The seals are in the cache and not
beside the archives, where consumers would get them.
"""

from __future__ import annotations

import hashlib
import json
import os
from threading import Lock
from typing import TYPE_CHECKING

from stackbuild import strictjson
from stackbuild.errors import IntegrityError
from stackbuild.files import atomic_write
from stackbuild.transfer import sha256_file

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.compose.manifest import Archive


class Seals:
    """The seals of the archives in one directory. Methods may be called from several threads."""

    def __init__(self, cache: Path, directory: Path, *, read_all: bool = False) -> None:
        """`read_all`: trust no seal, as after a disk has failed."""
        key = hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()
        self._path = cache / "published" / f"{key}.json"
        self._read_all = read_all
        self._lock = Lock()
        self._changed = False
        self._entries: dict[str, object] = {}
        try:
            found = strictjson.read(self._path)
        except (OSError, IntegrityError):
            return
        if isinstance(found, dict):
            self._entries = found

    def hold(self, path: Path, archive: Archive) -> bool:
        """Whether the file `path` is `archive`; it is read where its seal does not tell."""
        try:
            if path.stat().st_size != archive.size:
                return False
            sealed = not self._read_all and self._entries.get(str(path)) == _seal(path, archive)
            if not sealed and sha256_file(path) != archive.sha256:
                return False
        except OSError:
            return False
        self.put(path, archive)
        return True

    def put(self, path: Path, archive: Archive) -> None:
        """Remember that the file `path` is `archive`. Raises OSError."""
        seal = _seal(path, archive)
        with self._lock:
            if self._entries.get(str(path)) != seal:
                self._entries[str(path)] = seal
                self._changed = True

    def save(self) -> None:
        """Keep the seals for the next command. Raises OSError."""
        if self._changed:
            atomic_write(self._path, json.dumps(self._entries))


def _seal(path: Path, archive: Archive) -> list[object]:
    status = path.stat()
    return [archive.sha256, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
