"""Published layers in an object store: Amazon S3 and what speaks its protocol, Google, Azure.

The files have the names that they have in a published directory. Requests are made by obstore,
which takes credentials from the environment and from instance metadata; those in AWS profiles are
read here (`aws_settings`). They are never part of a location, which roots store.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stackbuild.errors import FetchError, UsageError
from stackbuild.messages import SILENT
from stackbuild.registry.base import INDEX_NAME, archive_path, patches_path, publish_layer_again
from stackbuild.registry.places import FilePlace, IndexChangedError, Stored
from stackbuild.strictjson import MAX_SIZE
from stackbuild.transport.retries import NotFoundError

try:
    import obstore
    from obstore import exceptions
    from obstore.store import S3Store, from_url
except ImportError as error:
    raise UsageError(
        "object stores need the library obstore",
        remedy="pip install 'stackbuild[objects]'",
    ) from error

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from obstore import PutMode, PutResult
    from obstore.store import ClientConfig, ObjectStore

    from stackbuild.compose.manifest import Index, IndexEntry, Manifest
    from stackbuild.messages import Messages

_ATTEMPTS = 5
"""To go on after a broken answer."""
_PAUSE = 0.2
"""Seconds before the second attempt."""
_PART = 8 << 20
"""Bytes of a request, of which `_AT_ONCE` are made at the same time."""
_AT_ONCE = 4
_MOST_PARTS = 9000
"""Of an upload; S3 has 10,000."""
_CLIENT: ClientConfig = {
    "connect_timeout": "10s",
    "read_timeout": "120s",
    "timeout": "1h",
    # Without TLS only if the user sets such an endpoint.
    "allow_http": True,
}
_TYPES = {".json": "application/json", ".zst": "application/zstd"}
_SHA256 = "sha256"
"""The key of the metadata of an object with the sha256 of its content."""


class ObjectRegistry(FilePlace):
    """The files of a published directory below a prefix of a bucket."""

    def __init__(self, location: str, messages: Messages = SILENT) -> None:
        """`location`: ``s3://bucket/prefix``, ``gs://…`` or ``az://…``. Raises UsageError."""
        super().__init__()
        self._messages = messages
        self._location = _normal(location)
        self._bucket = self._location.split("/")[2]
        self._store = _open(self._location)
        self._conditional: bool | None = None
        """Whether the store makes puts conditional; None if that is not known yet."""

    @property
    def location(self) -> str:
        """The address."""
        return self._location

    def document(self, name: str) -> bytes:
        """The file `name` beside the index, or a manifest."""
        return self._read(name)[0]

    def _read(self, name: str) -> tuple[bytes, str]:
        """A small file, and the tag of its version."""
        with self._errors(name):
            found = obstore.get(self._store, name)
            if found.meta["size"] > MAX_SIZE:
                raise FetchError(
                    "the file is too large",
                    file=f"{self._location}/{name}",
                    expected=f"at most {MAX_SIZE} bytes",
                    found=f"{found.meta['size']} bytes",
                )
            tag = "\n".join((found.meta["e_tag"] or "", found.meta["version"] or ""))
            return bytes(found.bytes()), tag

    def read(
        self, entry: IndexEntry, manifest: Manifest, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        """Yield the bytes of the archive in `spans`, in pieces."""
        return self._pieces(archive_path(entry, manifest), manifest, spans)

    def read_patches(
        self, entry: IndexEntry, manifest: Manifest, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        """Yield the bytes of the file of patches in `spans`, in pieces."""
        return self._pieces(patches_path(entry, manifest), manifest, spans)

    def _pieces(
        self, name: str, manifest: Manifest, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        # Several requests at once, because stores limit the speed of each.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            waiting: deque[Future[bytes]] = deque()
            parts = iter(_parts(spans))
            try:
                while True:
                    while len(waiting) < _AT_ONCE and (part := next(parts, None)):
                        waiting.append(pool.submit(self._part, name, manifest, *part))
                    if not waiting:
                        return
                    piece = waiting.popleft().result()
                    self.transferred += len(piece)
                    yield piece
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _part(self, name: str, manifest: Manifest, start: int, stop: int) -> bytes:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._errors(name):
                    data = bytes(obstore.get_range(self._store, name, start=start, end=stop))
                break
            except FetchError as error:
                # obstore repeats requests that are not answered, but not all broken answers.
                broken = isinstance(error.__context__, exceptions.GenericError)
                if not broken or attempt == _ATTEMPTS:
                    raise
                time.sleep(_PAUSE * attempt)
        if len(data) < stop - start:
            raise FetchError(
                "a file is shorter than its manifest says",
                layer=manifest.layer,
                platform=manifest.platform,
                file=f"{self._location}/{name}",
                expected=f"{stop} bytes or more",
                found=f"{start + len(data)} bytes",
                remedy=publish_layer_again(self._location, manifest),
            )
        return data

    def tagged_index(self) -> tuple[Index, str | None]:
        """The index, with its ETag."""
        from stackbuild.compose.manifest import Index
        from stackbuild.compose.serialize import index_from_json

        try:
            data, tag = self._read(INDEX_NAME)
        except NotFoundError:
            return Index(entries={}), None
        return index_from_json(data, f"{self._location}/{INDEX_NAME}"), tag

    def replace_index(self, data: bytes, tag: str | None) -> None:
        """Replace the index with a conditional put.

        Where the store has none, the index is read before and after, which a warning says.
        """
        if self._conditional is None:
            self._conditional = self._makes_puts_conditional()
            if not self._conditional:
                self._messages.warn(
                    f"{self._location}: the store does not make puts conditional (If-Match, "
                    "If-None-Match). If two publishers write there at the same time, layers of "
                    "one may be missing in the index; publish them again then"
                )
        if self._conditional:
            try:
                self._put(INDEX_NAME, data, mode=_only_if(tag))
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
                raise IndexChangedError from error
            return
        if self.tagged_index()[1] != tag:
            raise IndexChangedError
        self._put(INDEX_NAME, data)
        if self.document(INDEX_NAME) != data:
            raise IndexChangedError

    def _makes_puts_conditional(self) -> bool:
        """Try it on a file of its own, because some stores ignore the condition."""
        name = f".stackbuild-{os.urandom(8).hex()}"
        self._put(name, b"")
        try:
            self._put(name, b"", mode=_only_if('"0"\n1'))
        except exceptions.PreconditionError:
            return True
        except (FetchError, exceptions.BaseError):
            # Such as 501 Not Implemented.
            return False
        finally:
            self.remove([name])
        return False

    def put_document(self, name: str, data: bytes) -> None:
        """Write a small file beside the index."""
        self._put(name, data)

    def stored(self, name: str) -> Stored | None:
        """The file `name`, with the sha256 that `put` noted."""
        try:
            with self._errors(name):
                found = obstore.get(self._store, name, options={"head": True})
        except NotFoundError:
            return None
        sha256 = found.attributes.get(_SHA256)
        return Stored(found.meta["size"], sha256, found.meta["last_modified"].timestamp())

    def put(self, name: str, size: int, sha256: str, pieces: Iterator[bytes]) -> None:
        """Write a file, in parts where it is large; no more than a few are in memory."""
        part = max(_PART, -(-size // _MOST_PARTS))
        if size <= part:
            self._put(name, b"".join(pieces), sha256=sha256)
            return
        with self._errors(name, writing=True):
            obstore.put(
                self._store,
                name,
                pieces,
                attributes=_attributes(name, sha256),
                chunk_size=part,
                max_concurrency=_AT_ONCE,
            )

    def _put(
        self, name: str, data: bytes, *, sha256: str = "", mode: PutMode = "overwrite"
    ) -> PutResult:
        with self._errors(name, writing=True):
            attributes = _attributes(name, sha256)
            return obstore.put(
                self._store, name, data, attributes=attributes, mode=mode, use_multipart=False
            )

    def files(self) -> Mapping[str, float]:
        """The archives and manifests, and when they were written."""
        from stackbuild.compose.export_directory import is_published_file

        with self._errors(""):
            return {
                one["path"]: one["last_modified"].timestamp()
                for some in obstore.list(self._store)
                for one in some
                if is_published_file(one["path"])
            }

    def remove(self, names: Collection[str]) -> None:
        """Remove files."""
        with self._errors("", writing=True):
            if names:
                obstore.delete(self._store, list(names))

    @contextmanager
    def _errors(self, name: str, *, writing: bool = False) -> Iterator[None]:
        """Raise errors of obstore as FetchError; those of conditions pass."""
        file = f"{self._location}/{name}"
        try:
            yield
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            raise
        except (FileNotFoundError, exceptions.BaseError) as error:
            # Without the error of obstore, which may contain tokens of addresses.
            raise self._error(error, file, writing=writing) from None

    def _error(self, error: Exception, file: str, *, writing: bool) -> FetchError:
        reason = _reason(error)
        missing = isinstance(error, FileNotFoundError)
        text = str(error)
        if (missing and writing) or "NoSuchBucket" in text or "ContainerNotFound" in text:
            return FetchError(
                f"there is no bucket {self._bucket}",
                file=file,
                found=reason,
                remedy="create it, or correct the name; for another service than Amazon's "
                "set AWS_ENDPOINT_URL",
            )
        if missing:
            return NotFoundError(
                "there is no such file in the object store",
                file=file,
                remedy=f"publish there: stackbuild publish --to {self._location}",
            )
        refusals = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
        what = "to write" if writing else "to read"
        return FetchError(
            f"the object store does not allow {what} this file"
            if isinstance(error, refusals)
            else "the request to the object store failed",
            file=file,
            found=reason,
            remedy="check the network and the settings of the store; "
            + _credentials(self._location),
        )


def _normal(location: str) -> str:
    """`location` with the scheme in lower case, and without slashes at the end."""
    parts = urlsplit(location)
    path = parts.path.strip("/")
    plain = f"{parts.scheme}://{parts.netloc}/{path}".rstrip("/")
    unclear = {"", ".", ".."} & set(path.split("/")) if path else set()
    if not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment or unclear:
        raise UsageError(
            "the address of the object store is not valid",
            expected=f"one such as {parts.scheme}://bucket/prefix, without credentials",
            found=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}",
            remedy=_credentials(location),
        )
    return plain


def _open(location: str) -> ObjectStore:
    try:
        if not location.startswith("s3:"):
            return from_url(location, client_options=_CLIENT)
        from stackbuild.registry.aws import aws_settings

        config, provider = aws_settings(os.environ)
        return S3Store.from_url(
            location, config=config, client_options=_CLIENT, credential_provider=provider
        )
    except (exceptions.BaseError, ValueError) as error:
        raise UsageError(
            "the settings of the object store are not valid",
            file=location,
            found=_reason(error),
            remedy=_credentials(location),
        ) from None


def _credentials(location: str) -> str:
    """How to give credentials for the kind of store at `location`."""
    if location.startswith("gs:"):
        return "log in with `gcloud auth application-default login`, or set GOOGLE_SERVICE_ACCOUNT"
    if location.startswith("az:"):
        return (
            "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or "
            "AZURE_STORAGE_SAS_TOKEN"
        )
    return (
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket "
        "AWS_SKIP_SIGNATURE=true"
    )


def _only_if(tag: str | None) -> PutMode:
    """The condition that an object is the version with `tag`, or does not exist yet."""
    if tag is None:
        return "create"
    # Google needs the version, the others the ETag.
    e_tag, _, version = tag.partition("\n")
    return {"e_tag": e_tag, "version": version} if version else {"e_tag": e_tag}


def _attributes(name: str, sha256: str) -> dict[str, str]:
    kind = _TYPES.get(os.path.splitext(name)[1], "application/octet-stream")  # noqa: PTH122 - a key
    cache = {"Cache-Control": "no-cache"} if "/" not in name else {}
    return {"Content-Type": kind, **cache, **({_SHA256: sha256} if sha256 else {})}


def _parts(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The requests for `spans`: spans that touch are one, and large ones are divided."""
    joined: list[tuple[int, int]] = []
    for start, stop in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    for start, stop in joined:
        for at in range(start, stop, _PART):
            yield at, min(at + _PART, stop)


def _reason(error: Exception) -> str:
    """What obstore says, without its internals and without queries, which may contain tokens."""
    text = str(error).partition("Debug source")[0]
    if answer := re.search(r"status code: ([^:]+):.*<Message>(.*?)</Message>", text, re.DOTALL):
        return f"{answer[1]}: {answer[2]}"
    return re.sub(r"(https?://[^\s?]*)\?\S*", r"\1", " ".join(text.split()))[:600]
