"""The store: frames, unpacked, each under its sha256.

    <store>/.stackbuild.tag      the mark (`stackbuild.mark`)
    <store>/roots/<id>           a root that uses the store, by the id in its mark
    <store>/<sha256>/tree/       the frame's files, read-only
    <store>/<sha256>/files.json  what they are, so that linking walks no directory
    <store>/staging/             frames that are being unpacked
    <store>/lock                 held while frames are added or removed

A frame is there whole or not at all: it appears by one rename, when its files
are on the disk. Roots take its files by hard links, so a store may serve many roots,
of one account: whoever may write in a store could change the files of all of them.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stackbuild import strictjson
from stackbuild.files import atomic_write, locked, open_regular, remove_tree
from stackbuild.mark import OTHERS_WRITE, Kind, check_mark, check_owner, claim, read_mark

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from stackbuild.mark import Mark
    from stackbuild.messages import Messages

PRIVATE = 0o755
"""The mode of directories in a store: nobody but their owner can change what is in them."""

LISTING = "files.json"
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
    """Of the contents: tells an edited file from the one that was unpacked."""
    mtime_ns: int
    """Of the last change, in nanoseconds: tells cheaply that a file may have been changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What an unpacked frame holds."""

    directories: tuple[str, ...]
    """Each one, also those that only files imply; parents first."""
    files: tuple[StoredFile, ...]
    links: tuple[tuple[str, str], ...]
    """Path and target of symbolic links."""

    def to_json(self) -> str:
        """The listing as it stands in the store."""
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


class Store:
    """A directory of unpacked frames. Methods that change it want its lock held."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._listings: dict[str, Listing] = {}

    @property
    def staging(self) -> Path:
        """Where frames are unpacked before they are named."""
        return self.directory / "staging"

    def claim(self) -> None:
        """Mark the directory as a store where it is missing or empty.

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
        """Refuse a directory that is no store, or another account's. Raises InstallError."""
        check_mark(self.directory, Kind.STORE)
        check_owner(self.directory)

    def enter_root(self, root: Mark, path: Path) -> None:
        """Remember that a root, now at `path`, uses this store. Raises OSError."""
        entry = self.directory / _ROOTS / root.id
        if not entry.is_file():
            atomic_write(entry, f"{path}\n".encode(errors="surrogateescape"))

    def serves(self, root: Mark) -> bool:
        """Whether `enter_root` was called for this root."""
        return (self.directory / _ROOTS / root.id).is_file()

    def locked(self, messages: Messages) -> AbstractContextManager[None]:
        """Keep other processes from changing the store."""
        return locked(self.directory / "lock", messages)

    def tree(self, sha256: str) -> Path:
        """Where the files of a frame stand."""
        return self.directory / sha256 / "tree"

    def listing_path(self, sha256: str) -> Path:
        """Where a frame's listing stands."""
        return self.directory / sha256 / LISTING

    def has(self, sha256: str) -> bool:
        """Whether the frame is here, and its listing is of this format and not cut off."""
        try:
            with open_regular(self.listing_path(sha256)) as file:
                if file.read(len(_LISTING_START)) != _LISTING_START:
                    return False
                file.seek(-1, os.SEEK_END)
                return file.read() == b"}"
        except OSError:
            return False

    def listing(self, sha256: str) -> Listing | None:
        """What the frame holds; None when it is not here, damaged, or of another format.

        Raises InstallError where another account may have changed the frame.
        """
        known = self._listings.get(sha256)
        if known is not None:
            return known
        try:
            listing = _listing(strictjson.read(self.listing_path(sha256)))
        except (OSError, strictjson.JsonError, ValueError, TypeError, KeyError):
            return None
        if listing is None:
            return None
        # Nobody else can write in the directories below, which are made with mode 0755.
        for directory in (self.directory / sha256, self.tree(sha256)):
            if directory.is_symlink() or not directory.is_dir():
                return None
            check_owner(directory)
        self._listings[sha256] = listing
        return listing

    def frames(self) -> Iterator[str]:
        """The sha256 (hex) of every frame that is here."""
        if self.directory.is_dir():
            for path in self.directory.iterdir():
                if _SHA256.fullmatch(path.name) and (path / "tree").is_dir():
                    yield path.name

    def discard(self, sha256: str) -> None:
        """Take a frame out. Files that generations link to live on there."""
        self._listings.pop(sha256, None)
        # First out of sight, then in pieces: a kill in between leaves no half frame.
        self.staging.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        away = self.staging / f"{sha256}.gone"
        remove_tree(away)
        try:
            (self.directory / sha256).rename(away)
        except FileNotFoundError:
            return
        remove_tree(away)

    def sweep(self) -> None:
        """Remove what killed processes left: under the lock, nobody else is at work."""
        remove_tree(self.staging)


def _listing(value: Mapping[str, Any]) -> Listing | None:
    """The listing in what `Listing.to_json` wrote; None for another format, or wrong types.

    Raises ValueError, TypeError or KeyError where the structure is another one.
    """
    if value["format"] != LISTING_FORMAT:
        return None
    listing = Listing(
        directories=tuple(value["directories"]),
        files=tuple(StoredFile(*file) for file in value["files"]),
        links=tuple((path, target) for path, target in value["links"]),
    )
    texts = (
        *listing.directories,
        *(file.path for file in listing.files),
        *(text for link in listing.links for text in link),
    )
    numbers = (
        number for file in listing.files for number in (file.size, file.crc32, file.mtime_ns)
    )
    is_sound = (
        all(type(text) is str for text in texts)
        and all(type(file.executable) is bool for file in listing.files)
        and all(type(number) is int for number in numbers)
    )
    return listing if is_sound else None
