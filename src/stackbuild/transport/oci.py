"""A client for container registries (OCI Distribution Specification 1.1).

It pulls and pushes manifests and blobs. Blobs are streamed, interrupted downloads are resumed with
range requests, and a blob of another repository of the registry is mounted instead of sent again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode, urljoin

from stackbuild import strictjson
from stackbuild.errors import IntegrityError
from stackbuild.messages import SILENT
from stackbuild.reading import Item, read_json
from stackbuild.transport.ranges import read_spans
from stackbuild.transport.references import digest_of, is_digest
from stackbuild.transport.registry_access import Access, UnauthorizedError
from stackbuild.transport.retries import (
    PATIENCE,
    Attempts,
    BrokenTransferError,
    ForbiddenError,
    NotFoundError,
)
from stackbuild.transport.urls import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import urllib3

    from stackbuild.messages import Messages
    from stackbuild.transport.retries import Patience

_Result = TypeVar("_Result")

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFESTS = (
    MANIFEST,
    IMAGE_INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MAX_MANIFEST = 4 << 20
"""In bytes; registries need not accept larger manifests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledManifest:
    """A manifest as the registry has it."""

    data: bytes
    digest: str
    media_type: str


class OciClient:
    """Pulls from and pushes to one registry. Methods may be called from several threads.

    Repositories are names without the host, digests are ``sha256:…``. Credentials come from where
    docker and podman store them. All methods raise FetchError if the registry cannot be reached or
    refuses the request; NotFoundError is one.
    """

    def __init__(
        self, host: str, messages: Messages = SILENT, patience: Patience = PATIENCE
    ) -> None:
        self._access = Access(host, messages, patience)
        self._messages = messages
        self._patience = patience

    def manifest(self, repository: str, name: str) -> PulledManifest:
        """The manifest with the tag or digest `name`.

        Raises NotFoundError, and IntegrityError if it does not have the digest `name`.
        """
        url = self._url(repository, "manifests", name)

        def read(response: urllib3.BaseHTTPResponse) -> PulledManifest:
            data = self._access.body(response, MAX_MANIFEST)
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
            return PulledManifest(data=data, digest=digest_of(data), media_type=kind)

        headers = {"Accept": ", ".join(_MANIFESTS)}
        found = self._ask("GET", url, f"pull {repository}", read, headers=headers)
        if is_digest(name) and found.digest != name:
            raise IntegrityError(
                "the registry sends another manifest than requested",
                file=redact(url),
                expected=name,
                found=found.digest,
                remedy="report it to the operator of the registry",
            )
        return found

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether `repository` has the blob."""
        url = self._url(repository, "blobs", digest)
        try:
            self._ask("HEAD", url, f"pull {repository}", self._finish)
        except NotFoundError:
            return False
        return True

    def read_blob(
        self,
        repository: str,
        digest: str,
        spans: Sequence[tuple[int, int | None]] = ((0, None),),
        count: Callable[[int], None] | None = None,
    ) -> Iterator[bytes]:
        """Yield the bytes of a blob in `spans`, as `read_spans` does; the caller checks the digest.

        Raises NotFoundError.
        """
        scope = f"pull {repository}"

        def opener(
            url: str, *, headers: Mapping[str, str] | None = None, patience: Patience = PATIENCE
        ) -> urllib3.BaseHTTPResponse:
            return self._access.send(scope, "GET", url, headers or {}, patience)

        return read_spans(
            self._url(repository, "blobs", digest),
            spans,
            patience=self._patience,
            messages=self._messages,
            count=count,
            opener=opener,
        )

    def push_blob(
        self,
        repository: str,
        digest: str,
        size: int,
        content: Callable[[], Iterator[bytes]],
        source: str | None = None,
    ) -> bool:
        """Push a blob of `size` bytes, unless the repository has it. Returns whether it was sent.

        `content` begins to read the blob in pieces, again for each attempt. If the repository
        `source` has it, the registry takes it from there. The registry checks the digest.
        """
        if self.has_blob(repository, digest):
            return False
        attempts = Attempts(self._access.base, self._patience, self._messages)
        while True:
            try:
                address = self._begin_upload(repository, digest, source)
                if address is None:
                    return False
                headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
                self._finish(self._send("PUT", address, f"push {repository}", headers, content()))
            except BrokenTransferError as error:
                attempts.failed(error, 0)
            else:
                return True

    def push_bytes(self, repository: str, data: bytes) -> str:
        """Push a small blob, unless the repository has it. Returns its digest."""
        digest = digest_of(data)
        self.push_blob(repository, digest, len(data), lambda: iter([data]))
        return digest

    def push_manifest(self, repository: str, name: str, data: bytes, media_type: str) -> str:
        """Push a manifest with the tag or digest `name`. Returns its digest.

        The repository must have the blobs and manifests that it names.
        """
        url = self._url(repository, "manifests", name)
        headers = {"Content-Type": media_type}
        self._ask("PUT", url, f"push {repository}", self._finish, headers=headers, body=data)
        return digest_of(data)

    def tags(self, repository: str) -> list[str]:
        """All tags of `repository`; empty if there is no such repository."""
        tags: list[str] = []
        url = f"{self._access.base}{repository}/tags/list?n=1000"

        def read(response: urllib3.BaseHTTPResponse) -> str | None:
            data = self._access.body(response, strictjson.MAX_SIZE)
            tags.extend(
                read_json(data, redact(url), lambda item: item["tags"].optional(Item.strings) or ())
            )
            # RFC 8288, as the specification says for the next page.
            link = re.match("<([^>]*)>", response.headers.get("Link", ""))
            return self._access.same_scheme(urljoin(url, link[1])) if link else None

        while True:
            try:
                following = self._ask("GET", url, f"pull {repository}", read)
            except NotFoundError:
                return tags
            if following is None:
                return tags
            url = following

    def delete_manifest(self, repository: str, digest: str) -> None:
        """Delete a manifest and its tags. Raises NotFoundError; not all registries allow it."""
        url = self._url(repository, "manifests", digest)
        self._ask("DELETE", url, f"delete {repository}", self._finish)

    def _url(self, repository: str, kind: str, name: str) -> str:
        return f"{self._access.base}{repository}/{kind}/{name}"

    def _begin_upload(self, repository: str, digest: str, source: str | None) -> str | None:
        """The address to upload to; None if the registry took the blob from `source`."""
        url = f"{self._access.base}{repository}/blobs/uploads/"
        scope = f"push {repository}"
        if source is not None:
            url += f"?{urlencode({'mount': digest, 'from': source})}"
            scope += f" {source}"
        try:
            response = self._send("POST", url, scope, {})
        except (NotFoundError, ForbiddenError, UnauthorizedError):
            if source is None:
                raise
            # Some registries refuse a source that may not be read instead of asking for the blob.
            return self._begin_upload(repository, digest, None)
        self._finish(response)
        if response.status == 201:
            return None
        target = self._access.same_scheme(urljoin(url, response.headers.get("Location", "")))
        return f"{target}{'&' if '?' in target else '?'}{urlencode({'digest': digest})}"

    def _finish(self, response: urllib3.BaseHTTPResponse) -> None:
        """Read the body, which does not matter, so that the connection is used again."""
        self._access.body(response, MAX_MANIFEST)

    def _send(
        self,
        method: str,
        url: str,
        scope: str,
        headers: Mapping[str, str],
        body: Iterator[bytes] | bytes | None = None,
    ) -> urllib3.BaseHTTPResponse:
        return self._access.send(scope, method, url, headers, self._patience, body)

    def _ask(
        self,
        method: str,
        url: str,
        scope: str,
        read: Callable[[urllib3.BaseHTTPResponse], _Result],
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> _Result:
        """Send a request, again after a transient failure, and `read` the answer."""
        attempts = Attempts(url, self._patience, self._messages)
        while True:
            try:
                return read(self._send(method, url, scope, headers or {}, body))
            except BrokenTransferError as error:
                attempts.failed(error, 0)
