"""Published layers in a directory."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError
from stackbuild.files import (
    atomic_file,
    atomic_write,
    locked,
    open_regular,
    read_regular,
    sha256_file,
)
from stackbuild.messages import SILENT
from stackbuild.registry.base import (
    INDEX_NAME,
    archive_path,
    patches_path,
    publish_again,
    publish_layer_again,
)
from stackbuild.registry.places import FilePlace, IndexChangedError, Stored
from stackbuild.strictjson import MAX_SIZE
from stackbuild.transport.retries import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from stackbuild.compose.manifest import Index, IndexEntry, Manifest
    from stackbuild.messages import Messages

CHUNK = 1 << 20


class DirectoryRegistry(FilePlace):
    """A directory written by `stackbuild publish`."""

    def __init__(self, directory: Path, messages: Messages = SILENT) -> None:
        super().__init__()
        self._directory = directory
        self._messages = messages

    @property
    def location(self) -> str:
        """The directory, with non-UTF-8 bytes escaped, because roots store it as JSON."""
        return str(self._directory).encode("utf-8", "backslashreplace").decode()

    def document(self, name: str) -> bytes:
        """The file `name` beside the index, or a manifest."""
        path = self._file(name)
        try:
            return read_regular(path, MAX_SIZE + 1)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _missing("manifest", path, self._directory) from error
        except OSError as error:
            what = "index" if name == INDEX_NAME else "manifest"
            raise _unreadable(what, path, error) from error

    def read(
        self, entry: IndexEntry, manifest: Manifest, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        """Yield the bytes of the archive in `spans`, in pieces."""
        path = self._file(archive_path(entry, manifest))
        return self._read("archive", path, manifest, manifest.archive.size, spans)

    def read_patches(
        self, entry: IndexEntry, manifest: Manifest, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        """Yield the bytes of the file of patches in `spans`, in pieces."""
        size = manifest.patch_file.size if manifest.patch_file else 0
        path = self._file(patches_path(entry, manifest))
        return self._read("file of patches", path, manifest, size, spans)

    def _read(
        self,
        what: str,
        path: Path,
        manifest: Manifest,
        size: int,
        spans: Sequence[tuple[int, int]],
    ) -> Iterator[bytes]:
        try:
            with open_regular(path) as file:
                for start, stop in spans:
                    file.seek(start)
                    left = stop - start
                    while piece := file.read(min(CHUNK, left)):
                        left -= len(piece)
                        self.transferred += len(piece)
                        yield piece
                    if left:
                        raise _too_short(what, path, manifest, size)
        except FileNotFoundError as error:
            raise _missing(what, path, self._directory) from error
        except OSError as error:
            raise _unreadable(what, path, error) from error

    def prepare(self, messages: Messages) -> None:
        """Refuse a directory with other files; mark it. Raises ComposeError, OSError."""
        from stackbuild.compose.export_directory import ExportDirectory

        exports = ExportDirectory(self._directory)
        exports.check(messages)
        exports.claim(messages)

    def tagged_index(self) -> tuple[Index, str | None]:
        """The index, with its sha256."""
        from stackbuild.compose.manifest import Index
        from stackbuild.compose.serialize import index_from_json

        try:
            data = read_regular(self._file(INDEX_NAME), MAX_SIZE + 1)
        except (FileNotFoundError, NotADirectoryError):
            return Index(entries={}), None
        except OSError as error:
            raise _unreadable("index", self._file(INDEX_NAME), error) from error
        index = index_from_json(data, str(self._file(INDEX_NAME)))
        return index, hashlib.sha256(data).hexdigest()

    def replace_index(self, data: bytes, tag: str | None) -> None:
        """Replace the index, under the lock that `publish` holds then."""
        with self.exclusive():
            if self.tagged_index()[1] != tag:
                raise IndexChangedError
            atomic_write(self._file(INDEX_NAME), data)

    def exclusive(self) -> AbstractContextManager[None]:
        """The lock that `publish` holds while it changes the index."""
        from stackbuild.compose.export_directory import LOCK

        return locked(self._file(LOCK), self._messages)

    def put_document(self, name: str, data: bytes) -> None:
        """Write a small file beside the index."""
        atomic_write(self._file(name), data)

    def stored(self, name: str) -> Stored | None:
        """The file `name`, which is read for its sha256, or None."""
        path = self._file(name)
        try:
            status = path.stat()
            return Stored(status.st_size, sha256_file(path), status.st_mtime)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def put(self, name: str, size: int, sha256: str, pieces: Iterator[bytes]) -> None:
        """Write a file."""
        with atomic_file(self._file(name)) as work, work.open("xb") as file:
            file.writelines(pieces)

    def files(self) -> Mapping[str, float]:
        """The archives and manifests, and when they were written."""
        from stackbuild.compose.export_directory import ExportDirectory

        exports = ExportDirectory(self._directory)
        return {
            path.relative_to(self._directory).as_posix(): path.lstat().st_mtime
            for path in exports.published()
        }

    def remove(self, names: Collection[str]) -> None:
        """Remove files."""
        for name in names:
            self._file(name).unlink(missing_ok=True)

    def _file(self, relative: str) -> Path:
        return self._directory / relative


def _too_short(what: str, path: Path, manifest: Manifest, size: int) -> FetchError:
    return FetchError(
        f"the {what} is shorter than its manifest says",
        layer=manifest.layer,
        platform=manifest.platform,
        file=path,
        expected=f"{size} bytes",
        found=f"{path.stat().st_size} bytes",
        remedy=publish_layer_again(str(path.parent.parent), manifest),
    )


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
