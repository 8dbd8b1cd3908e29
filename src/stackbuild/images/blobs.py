"""Blobs of images: compressed layers and small documents, and the cache of them.

    blobs/<sha256>            a layer, as registries have it
    layers/<key>.json         what is known of the layer that is made of certain frames
    bases/<sha256>.json       what is known of a layer of a base

Files are renamed into place, so several processes may make the same one at the same time.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from stackbuild.compose.serialize import canonical_json
from stackbuild.errors import IntegrityError
from stackbuild.files import atomic_file, atomic_write, open_regular, read_regular
from stackbuild.reading import read_json
from stackbuild.strictjson import MAX_SIZE
from stackbuild.transport.references import digest_of, is_digest
from stackbuild.workspace import prepare_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from _typeshed import DataclassInstance

    from stackbuild.reading import Item
    from stackbuild.transport.references import Reference

    _Record = TypeVar("_Record", bound=DataclassInstance)

Contents: TypeAlias = io.BytesIO | io.BufferedReader
"""An open blob."""
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
GZIP_TYPE = f"{LAYER_TYPE}+gzip"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A part of an image."""

    media_type: str
    digest: str
    """``sha256:`` and 64 digits."""
    size: int
    """In bytes."""
    source: Callable[[], Contents]
    """Opens the contents, which may be damaged."""
    place: str = ""
    """Where the contents are, for messages."""
    origin: Reference | None = None
    """An image in a registry that has the blob."""

    @property
    def sha256(self) -> str:
        """The digits of the digest."""
        return self.digest.removeprefix("sha256:")

    def descriptor(self) -> dict[str, object]:
        """The reference to the blob in a manifest (OCI image specification, descriptors)."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}

    def open(self) -> Contents:
        """The contents, whose digest was checked. Raises IntegrityError, FetchError, OSError."""
        file = self.source()
        found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if found != self.digest:
            file.close()
            raise IntegrityError(
                "a layer of an image is damaged",
                file=self.place,
                expected=self.digest,
                found=found,
                remedy="remove this file and run the command again",
            )
        file.seek(0)
        return file


def document(data: bytes, media_type: str) -> Blob:
    """A blob with the contents `data`."""
    return Blob(
        media_type=media_type,
        digest=digest_of(data),
        size=len(data),
        source=lambda: io.BytesIO(data),
    )


def file_blob(path: Path, media_type: str, digest: str, size: int) -> Blob:
    """A blob whose contents are the file at `path`."""
    return Blob(
        media_type=media_type,
        digest=digest,
        size=size,
        source=lambda: open_regular(path),
        place=str(path),
    )


def read_digest(item: Item[object]) -> str:
    """A digest with sha256. Raises ReadError."""
    if not is_digest(text := item.text()):
        raise item.wrong_type("sha256: and 64 digits")
    return text


class BlobCache:
    """Blobs that can be made or fetched again, in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def prepare(self) -> None:
        """Create the directory. Raises StackbuildError if it is not writable."""
        prepare_cache(self.directory)

    def path(self, digest: str) -> Path:
        """Where the blob is, if it is there."""
        return self.directory / "blobs" / digest.removeprefix("sha256:")

    def has(self, digest: str, size: int) -> bool:
        """Whether the blob is there in full size."""
        try:
            return self.path(digest).stat().st_size == size
        except OSError:
            return False

    def blob(self, media_type: str, digest: str, size: int) -> Blob:
        """The blob, which is there."""
        path = self.path(digest)
        return file_blob(path, media_type, digest, size)

    def add(self, digest: str, pieces: Iterable[bytes]) -> Path:
        """Write a blob that is not there. The caller checks its digest (`Blob.open`)."""
        path = self.path(digest)
        with atomic_file(path, durable=False) as work, work.open("xb") as file:
            for piece in pieces:
                file.write(piece)
        return path

    def record(self, name: str, read: Callable[[Item[object]], _Record]) -> _Record | None:
        """What was noted as `name`, such as ``bases/<sha256>``; None if there is nothing."""
        path = self.directory / f"{name}.json"
        with suppress(OSError, IntegrityError):
            return read_json(read_regular(path, MAX_SIZE + 1), str(path), read)
        return None

    def note(self, name: str, value: _Record) -> None:
        """Note `value` as `name`."""
        data = canonical_json(asdict(value))
        atomic_write(self.directory / f"{name}.json", data, durable=False)
