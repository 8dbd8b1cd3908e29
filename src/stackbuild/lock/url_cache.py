"""A cache of the addresses and sizes of files, which saves requests to an index.

An entry never contains credentials; they are taken from the index settings when
the file is requested.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild import strictjson
from stackbuild.files import atomic_write
from stackbuild.reading import Item, ReadError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The address of a file, without credentials, and its size in bytes."""

    url: str
    size: int


class Addresses:
    """The entries in a directory, one file for each sha256 (hex)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, sha256: str) -> Address | None:
        """The entry of a file, or None; a damaged entry is ignored."""
        try:
            entry = Item("", strictjson.read(self._path(sha256)))
            return entry.record(Address, {"url": Item.string, "size": Item.count})
        except (OSError, strictjson.JsonError, ReadError):
            return None

    def remember(self, sha256: str, address: Address) -> None:
        """Save an entry."""
        if self.get(sha256) != address:
            entry = {"url": address.url, "size": address.size}
            atomic_write(self._path(sha256), json.dumps(entry), durable=False)

    def _path(self, sha256: str) -> Path:
        return self._directory / sha256[:2] / f"{sha256}.json"
