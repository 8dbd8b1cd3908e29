"""Published layers in a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.errors import FetchError
from stackbuild.files import open_regular, read_regular
from stackbuild.registry.base import (
    INDEX_NAME,
    Registry,
    archive_path,
    publish_again,
    publish_layer_again,
)
from stackbuild.strictjson import MAX_SIZE
from stackbuild.transport.retries import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader
    from pathlib import Path

    from stackbuild.compose.manifest import IndexEntry, Manifest

CHUNK = 1 << 20


class DirectoryRegistry(Registry):
    """A directory written by `stackbuild publish`."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    @property
    def location(self) -> str:
        """The directory, with non-UTF-8 bytes escaped, because roots store it as JSON."""
        return str(self._directory).encode("utf-8", "backslashreplace").decode()

    def _document(self, relative: str) -> bytes:
        path = self._file(relative)
        try:
            return read_regular(path, MAX_SIZE + 1)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _missing("manifest", path, self._directory) from error
        except OSError as error:
            what = "index" if relative == INDEX_NAME else "manifest"
            raise _unreadable(what, path, error) from error

    def read(
        self, entry: IndexEntry, manifest: Manifest, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        """Yield the bytes of the archive in `spans`, in pieces."""
        path = self._file(archive_path(entry, manifest))
        try:
            with open_regular(path) as file:
                for start, stop in spans:
                    file.seek(start)
                    for piece in _pieces(file, stop - start, manifest, path):
                        self.transferred += len(piece)
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
        remedy="publish again, copy the whole directory, or make it readable for this account",
    )


def _missing(what: str, path: Path, location: Path) -> FetchError:
    if not location.is_dir():
        fault = "is not a directory" if location.exists() else "does not exist"
        return FetchError(
            f"the directory of the registry {fault}",
            file=location,
            remedy="name the directory that `stackbuild publish` wrote to",
        )
    return NotFoundError(
        f"the {what} that the index names is missing",
        file=path,
        remedy=f"copy the whole directory, or {publish_again(str(location), '')}",
    )
