"""Published layers in a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.errors import FetchError
from stackbuild.files import open_regular, read_regular
from stackbuild.registry.base import (
    INDEX_NAME,
    archive_path,
    no_index,
    parse_index,
    parse_manifest,
    publish_again,
    publish_layer_again,
)
from stackbuild.strictjson import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader
    from pathlib import Path

    from stackbuild.compose.manifest import Index, IndexEntry, Manifest

CHUNK = 1 << 20


class DirectoryRegistry:
    """A directory as `stackbuild publish` fills it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._transferred = 0

    @property
    def location(self) -> str:
        """The directory, with an escape for each byte that is not UTF-8: roots keep it as JSON."""
        return str(self._directory).encode("utf-8", "backslashreplace").decode()

    @property
    def transferred(self) -> int:
        """Bytes of archives that were read so far."""
        return self._transferred

    def index(self) -> Index:
        """What is published here."""
        try:
            data = read_regular(self._file(INDEX_NAME), MAX_SIZE + 1)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise no_index(self.location) from error
        except OSError as error:
            raise _unreadable("index", self._file(INDEX_NAME), error) from error
        return parse_index(data, self.location)

    def manifest(self, entry: IndexEntry) -> Manifest:
        """The manifest of `entry`; its sha256 is checked."""
        path = self._file(entry.manifest)
        try:
            data = read_regular(path, MAX_SIZE + 1)
        except FileNotFoundError as error:
            raise _missing("manifest", path, self._directory) from error
        except OSError as error:
            raise _unreadable("manifest", path, error) from error
        return parse_manifest(data, entry, self.location)

    def read(
        self, entry: IndexEntry, manifest: Manifest, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        """The archive's bytes of `spans`, one after the other, in pieces."""
        path = self._file(archive_path(entry, manifest))
        try:
            with open_regular(path) as file:
                for start, stop in spans:
                    file.seek(start)
                    for piece in _pieces(file, stop - start, manifest, path):
                        self._transferred += len(piece)
                        yield piece
        except FileNotFoundError as error:
            raise _missing("archive", path, self._directory) from error
        except OSError as error:
            raise _unreadable("archive", path, error) from error

    def _file(self, relative: str) -> Path:
        return self._directory / relative


def _pieces(file: BufferedReader, left: int, manifest: Manifest, path: Path) -> Iterator[bytes]:
    while left > 0:
        piece = file.read(min(CHUNK, left))
        if not piece:
            raise FetchError(
                "the archive is shorter than its manifest says",
                layer=manifest.layer,
                platform=manifest.platform,
                file=path,
                expected=f"{manifest.archive.size} bytes",
                found=f"{path.stat().st_size} bytes",
                remedy=publish_layer_again(str(path.parent.parent), manifest),
            )
        left -= len(piece)
        yield piece


def _unreadable(what: str, path: Path, error: OSError) -> FetchError:
    return FetchError(
        f"the {what} cannot be read",
        file=path,
        found=error.strerror,
        remedy="publish again, copy the whole directory, or let this account read it",
    )


def _missing(what: str, path: Path, location: Path) -> FetchError:
    return FetchError(
        f"the {what} that the index names is missing",
        file=path,
        remedy=f"copy the whole directory, or {publish_again(str(location), '')}",
    )
