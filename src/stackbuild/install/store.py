"""The store: unpacked frames, each named by its sha256.

    <store>/.stackbuild.tag      the mark (`stackbuild.mark`)
    <store>/roots/<id>           a root that uses the store, by the id in its mark
    <store>/<sha256>/tree/       the frame's files, read-only
    <store>/<sha256>/files.json  the listing of the files, so that linking walks no directory
    <store>/<sha256>/content     of a frame that a patch made: the sha256 of its tar fragment
    <store>/staging/             frames that are being unpacked
    <store>/lock                 held while frames are added or removed

A frame is never present in part: it is renamed into place once its files are on the disk. Roots
link to its files, so several roots can share a store. They must belong to one account, because
write access to a store is write access to the files of all its roots.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stackbuild import windows
from stackbuild.errors import IntegrityError
from stackbuild.files import atomic_write, locked, open_regular, read_regular, remove_tree
from stackbuild.mark import OTHERS_WRITE, Kind, check_mark, check_owner, claim, read_mark
from stackbuild.reading import Item, read_json
from stackbuild.strictjson import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from stackbuild.frames.model import Frame
    from stackbuild.mark import Mark
    from stackbuild.messages import Messages
    from stackbuild.reading import Readers

PRIVATE = 0o755
"""The mode of directories in a store: only the owner can change their contents."""

LISTING = "files.json"
CONTENT = "content"
LISTING_FORMAT = 2
_LISTING_START = f'{{"format":{LISTING_FORMAT},'.encode()
_ROOTS = "roots"
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A regular file of a frame."""

    path: str
    size: int
    """In bytes."""
    executable: bool
    crc32: int
    """CRC-32 of the contents; an edited file has another."""
    mtime_ns: int
    """Modification time in nanoseconds; cheap to compare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The contents of an unpacked frame."""

    directories: tuple[str, ...]
    """All directories, also implied ones; parents first."""
    files: tuple[StoredFile, ...]
    links: tuple[tuple[str, str], ...]
    """Path and target of symbolic links."""

    def to_json(self) -> str:
        """The listing as it is stored."""
        return json.dumps(
            {
                "format": LISTING_FORMAT,
                "directories": self.directories,
                "files": [
                    (file.path, file.size, file.executable, file.crc32, file.mtime_ns)
                    for file in self.files
                ],
                "links": self.links,
            },
            separators=(",", ":"),
        )


_FILE = (str, int, bool, int, int)
"""The types of the fields of `StoredFile`."""


class Store:
    """A directory of unpacked frames. Methods that change it need its lock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._listings: dict[str, Listing] = {}

    @property
    def staging(self) -> Path:
        """Where frames are unpacked before they are named."""
        return self.directory / "staging"

    def claim(self) -> None:
        """Mark the directory as a store if it is missing or empty.

        Raises InstallError for a directory with other files, or of another account.
        """
        if read_mark(self.directory, Kind.STORE) is None:
            check_mark(self.directory, Kind.STORE)
            self.directory.mkdir(parents=True, exist_ok=True)
            self._keep_others_out()
            claim(self.directory, Kind.STORE)
        check_owner(self.directory)

    def _keep_others_out(self) -> None:
        # Some systems let the group write by default (umask 002).
        mode = stat.S_IMODE(self.directory.stat().st_mode)
        if mode & OTHERS_WRITE:
            self.directory.chmod(mode & ~OTHERS_WRITE)

    def check(self) -> None:
        """Check that the directory is a store of this account. Raises InstallError."""
        check_mark(self.directory, Kind.STORE)
        check_owner(self.directory)

    def enter_root(self, root: Mark, path: Path) -> None:
        """Record that the root at `path` uses this store. Raises OSError."""
        entry = self.directory / _ROOTS / root.id
        if not entry.is_file():
            atomic_write(entry, f"{path}\n".encode(errors="surrogateescape"))

    def serves(self, root: Mark) -> bool:
        """Whether `enter_root` was called for this root."""
        return (self.directory / _ROOTS / root.id).is_file()

    def locked(self, messages: Messages) -> AbstractContextManager[None]:
        """Lock the store against changes by other processes."""
        return locked(self.directory / "lock", messages)

    def tree(self, sha256: str) -> Path:
        """The directory of the files of a frame."""
        return self.directory / sha256 / "tree"

    def listing_path(self, sha256: str) -> Path:
        """The file with the listing of a frame."""
        return self.directory / sha256 / LISTING

    def has(self, sha256: str) -> bool:
        """Whether the frame is present, with a listing of this format that is not truncated."""
        try:
            with open_regular(self.listing_path(sha256)) as file:
                if file.read(len(_LISTING_START)) != _LISTING_START:
                    return False
                file.seek(-1, os.SEEK_END)
                return file.read() == b"}"
        except OSError:
            return False

    def holds(self, frame: Frame) -> bool:
        """Whether the frame is present, with the contents that `frame` has.

        The bytes of a frame that a patch made are unknown, and only a manifest said that its
        contents are those of the frame. So another manifest must say the same.
        """
        if not self.has(frame.sha256):
            return False
        try:
            content = (self.directory / frame.sha256 / CONTENT).read_text(encoding="ascii")
        except FileNotFoundError:
            return True
        except (OSError, ValueError):
            return False
        return content == frame.content_sha256

    def listing(self, sha256: str) -> Listing | None:
        """The contents of the frame; None if it is missing, damaged, or of another format.

        Raises InstallError if another account may have changed the frame.
        """
        known = self._listings.get(sha256)
        if known is not None:
            return known
        path = self.listing_path(sha256)
        try:
            listing = read_json(read_regular(path, MAX_SIZE + 1), LISTING, _listing)
        except (OSError, IntegrityError):
            return None
        # Only these two need the check; directories below them have mode 0755.
        for directory in (self.directory / sha256, self.tree(sha256)):
            if directory.is_symlink() or not directory.is_dir():
                return None
            check_owner(directory)
        self._listings[sha256] = listing
        return listing

    def frames(self) -> Iterator[str]:
        """The sha256 (hex) of every frame in the store."""
        if self.directory.is_dir():
            for path in self.directory.iterdir():
                if _SHA256.fullmatch(path.name) and (path / "tree").is_dir():
                    yield path.name

    def discard(self, sha256: str) -> None:
        """Remove a frame. Files stay in the generations that link to them."""
        self._listings.pop(sha256, None)
        # Rename first, so that a killed process leaves no partial frame.
        self.staging.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        away = self.staging / f"{sha256}.gone"
        remove_tree(away)
        try:
            windows.rename(self.directory / sha256, away)
        except FileNotFoundError:
            return
        remove_tree(away)

    def sweep(self) -> None:
        """Remove leftovers of killed processes."""
        remove_tree(self.staging)


def _listing(value: Item[object]) -> Listing:
    """Parse the output of `Listing.to_json`. Raises ReadError."""
    readers: Readers = {
        "directories": Item.strings,
        "files": lambda item: tuple(StoredFile(*row) for row in _rows(item, *_FILE)),
        "links": lambda item: tuple((path, target) for path, target in _rows(item, str, str)),
    }
    return value.record(Listing, readers, formats=(LISTING_FORMAT,))


def _rows(item: Item[object], *kinds: type) -> list[list[Any]]:
    """An array of arrays with values of exactly these types."""
    # An `Item` for each value of thousands of files would take longer than parsing them.
    rows, types = item.value, list(kinds)
    if isinstance(rows, list) and all(
        isinstance(row, list) and list(map(type, row)) == types for row in rows
    ):
        return rows
    raise item.wrong_type(f"an array of [{', '.join(kind.__name__ for kind in kinds)}]")
