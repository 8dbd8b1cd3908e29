"""Sends layers to a container registry.

A layer's frames and manifest come first, then the tags of its versions, then the stack's index.
"""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from stackbuild.compose.manifest import Index, now
from stackbuild.compose.serialize import index_from_json
from stackbuild.errors import ComposeError, FetchError, IntegrityError, UsageError
from stackbuild.messages import SILENT
from stackbuild.registry.base import INDEX_NAME, archive_path, patches_path, publish_layer_again
from stackbuild.registry.oci import REQUESTS, SCHEME, OciRegistry, document_tag
from stackbuild.registry.oci_format import (
    EMPTY,
    LONGEST_NAME,
    Tag,
    document_manifest,
    frames_of,
    image_index,
    is_manifest_tag,
    layer_manifest,
    manifest_tag,
    patches_of,
    read_document_manifest,
    repository_name,
    versions,
)
from stackbuild.registry.places import REUSED_SECONDS, IndexChangedError, Place
from stackbuild.transport.oci import IMAGE_INDEX, MANIFEST
from stackbuild.transport.references import repository_fault
from stackbuild.transport.retries import NotFoundError
from stackbuild.transport.urls import redact

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from stackbuild.compose.manifest import IndexEntry, Manifest
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.registry.oci_format import Blob, FoundLayer
    from stackbuild.registry.places import Upload

_SETTLED = 0.3
"""Seconds after which the index that was written is looked at again."""
_CHAIN = 20
"""Indexes that are looked through for one that was written before them."""
_LAYER_MARK = "layer."
"""What tags of the stack's repository begin with that name the repositories of its layers."""


def open_oci(location: str, messages: Messages = SILENT) -> OciPlace:
    """The place at `location`, such as ``oci://ghcr.io/example/stack``. Raises UsageError."""
    host, _, repository = location[len(SCHEME) :].rstrip("/").partition("/")
    fault = repository_fault(host, f"{repository}")
    if fault is None:
        fault = repository_fault(host, f"{repository}/{'x' * LONGEST_NAME}")
        fault = fault and "is too long: the names of layers are added to it"
    if fault is not None:
        raise UsageError(
            f"the address of the container registry {fault}",
            expected=f"one such as {SCHEME}registry.example.org/team/stack, without a tag",
            found=redact(location),
        )
    return OciPlace(host, repository, messages)


class OciPlace(OciRegistry, Place):
    """A repository of a container registry, and the repositories of layers below it."""

    def __init__(self, host: str, repository: str, messages: Messages = SILENT) -> None:
        super().__init__(host, repository, messages)
        self._index = Index(entries={})
        self._read_digest: str | None = None
        """Of the manifest of the index that was read last."""
        self._lacking: dict[str, list[Blob]] = {}
        """Frames and patches that are to be sent, by the sha256 of the manifest."""
        self._unnamed: dict[str, str] = {}
        """The digests of the manifests that `unnamed` found, by name."""
        self._holders: dict[Platform, dict[str, str]] = {}
        self._lock = Lock()

    def tagged_index(self) -> tuple[Index, str | None]:
        """The index, with the digest of the manifest that its tag points to."""
        digest = self._current()
        if digest is None:
            self._index = Index(entries={})
        elif digest != self._read_digest:
            data, digest = self._document(INDEX_NAME)
            self._index = index_from_json(data, f"{self.location}/{INDEX_NAME}")
        self._read_digest = digest
        return self._index, digest

    def replace_index(self, data: bytes, tag: str | None) -> None:
        """Write the tags of versions, then the index.

        Registries cannot replace a tag on a condition. So the tag is read right before it is
        written and again afterwards: if another publisher has written an index meanwhile that is
        not based on this one, IndexChangedError is raised, and `change_index` enters the layers
        again.
        """
        self._write_versions(self._index, index_from_json(data, self.location))
        name = document_tag(INDEX_NAME)
        manifest = self._push_document(name, data, tag)
        began = time.monotonic()
        if self._current() != tag:
            raise IndexChangedError
        ours = self._client.push_manifest(self._repository, name, manifest, MANIFEST)
        needed = time.monotonic() - began
        if needed > _SETTLED:
            self._messages.warn(
                f"{self.location} needed {needed:.1f} seconds to write the index; what others "
                "published at this moment may be missing in it until they are published again"
            )
        # By then, a publisher that compared the tag before this one wrote it has written its own.
        time.sleep(_SETTLED)
        if not self._is_based_on(ours):
            raise IndexChangedError

    def _is_based_on(self, ours: str) -> bool:
        """Whether the current index is the one with the manifest `ours`, or was made from it."""
        digest = self._current()
        for _ in range(_CHAIN):
            if digest is None or digest == ours:
                return digest == ours
            try:
                data = self._client.manifest(self._repository, digest).data
            except NotFoundError:
                return False
            digest = read_document_manifest(data, self._name(self._repository, digest)).previous
        return False

    def _current(self) -> str | None:
        return self._digest(self._repository, document_tag(INDEX_NAME))

    def missing(self, upload: Upload, *, named: bool) -> int:
        """The bytes of the blobs that no repository of the stack has, and of the manifest."""
        entry, manifest = upload.entry, upload.manifest
        tag = self._tag(entry)
        there = self._found_layer(tag)
        if (
            there
            and there.config == f"sha256:{entry.sha256}"
            and (named or _seconds(there.created) > time.time() - REUSED_SECONDS)
        ):
            return 0
        if manifest.archive.format != "tar.zst":
            raise ComposeError(
                "only archives in tar.zst can be sent to a container registry",
                layer=manifest.layer,
                platform=manifest.platform,
                found=manifest.archive.format,
                remedy="publish with --format tar.zst",
            )
        repository = self._of_layer(tag.repository)
        blobs = {blob.digest: blob for blob in (*frames_of(manifest), *patches_of(manifest))}
        with ThreadPoolExecutor(REQUESTS) as pool:
            has = list(pool.map(lambda digest: self._client.has_blob(repository, digest), blobs))
        lacking = [blob for blob, is_there in zip(blobs.values(), has, strict=True) if not is_there]
        self._lacking[entry.sha256] = lacking
        mounted = self._others_of(manifest.platform) if lacking else {}
        sent = (blob.size for blob in lacking if blob.sha256 not in mounted)
        return sum(sent) + len(upload.document)

    def send(self, upload: Upload, *, named: bool) -> None:
        """Send the frames and patches that `missing` found, then the manifest."""
        entry, manifest = upload.entry, upload.manifest
        tag = self._tag(entry)
        repository = self._of_layer(tag.repository)
        if entry.sha256 not in self._lacking:
            self.missing(upload, named=named)
        lacking = self._lacking.pop(entry.sha256, [])
        holders = self._others_of(manifest.platform) if lacking else {}

        def push(blob: Blob) -> None:
            content = partial(_content, upload, blob)
            source = holders.get(blob.sha256)
            self._client.push_blob(repository, blob.digest, blob.size, content, source)

        with ThreadPoolExecutor(REQUESTS) as pool:
            try:
                list(pool.map(push, lacking))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        data = upload.document
        self._client.push_bytes(repository, data)
        described = layer_manifest(entry, manifest, len(data), now())
        self._client.push_manifest(repository, tag.name, described, MANIFEST)
        self._others_of(manifest.platform).update(
            (placed.frame.sha256, repository) for placed in manifest.frames
        )
        mark = f"{_LAYER_MARK}{tag.repository}"
        if self._digest(self._repository, mark) is None:
            self._put(mark, EMPTY)

    def put_document(self, name: str, data: bytes) -> None:
        """Write a small file beside the index."""
        self._put(document_tag(name), data)

    def unnamed(self, kept: Collection[tuple[IndexEntry, Manifest]]) -> Mapping[str, float]:
        """The manifests of layers that are not in `kept`, by their paths in an index.

        A registry does not say when a manifest was written, so the manifest itself does.
        """
        needed = {self._tag(entry) for entry, _ in kept}
        marks = self._client.tags(self._repository)
        names = {mark[len(_LAYER_MARK) :] for mark in marks if mark.startswith(_LAYER_MARK)}
        found: dict[str, float] = {}
        for repository in sorted(names | {tag.repository for tag in needed}):
            for name in self._client.tags(self._of_layer(repository)):
                tag = Tag(repository, name)
                if tag in needed or not is_manifest_tag(name):
                    continue
                layer = self._found_layer(tag)
                if layer and manifest_tag(layer.path) == tag:
                    found[layer.path] = _seconds(layer.created)
                    self._unnamed[layer.path] = layer.digest
        return found

    def remove(self, names: Collection[str]) -> None:
        """Delete the manifests that `unnamed` found; the registry removes blobs without one.

        A manifest that was sent again in the meantime has another digest, and stays.
        """
        for name in names:
            if tag := manifest_tag(name):
                self._delete(self._of_layer(tag.repository), self._unnamed[name])

    def _write_versions(self, before: Index, after: Index) -> None:
        """Make the tags of versions of all layers those of the index `after`."""
        for layer in sorted({*before.entries, *after.entries}):
            old, new = (_tags(index, layer) for index in (before, after))
            repository = self._of_layer(repository_name(layer))
            for name, entries in new.items():
                if old.get(name) == entries:
                    continue
                found: dict[Platform, FoundLayer] = {}
                for platform, entry in entries.items():
                    if there := self._found_layer(self._tag(entry)):
                        found[platform] = there
                    else:
                        self._messages.warn(f"{self.location} does not have {entry.manifest}")
                if found:
                    data = image_index(name, found)
                    self._client.push_manifest(repository, name, data, IMAGE_INDEX)
            for name in old.keys() - new.keys():
                if digest := self._digest(repository, name):
                    self._delete_tag(repository, name, digest)

    def _others_of(self, platform: Platform) -> dict[str, str]:
        """The repositories that have frames of layers for `platform`, by the frame's sha256."""
        with self._lock:
            if platform not in self._holders:
                entries = [
                    entry
                    for platforms in self._index.entries.values()
                    for entry in platforms.get(platform, ())[:1]
                ]
                with ThreadPoolExecutor(REQUESTS) as pool:
                    found = pool.map(self._held, entries)
                    self._holders[platform] = {key: name for held in found for key, name in held}
            return self._holders[platform]

    def _held(self, entry: IndexEntry) -> list[tuple[str, str]]:
        # Without them, blobs are sent that the registry has.
        with suppress(FetchError, IntegrityError):
            repository = self._of_layer(self._tag(entry).repository)
            return [(one.frame.sha256, repository) for one in self.manifest(entry).frames]
        return []

    def _put(self, tag: str, data: bytes) -> None:
        manifest = self._push_document(tag, data, None)
        self._client.push_manifest(self._repository, tag, manifest, MANIFEST)

    def _push_document(self, tag: str, data: bytes, previous: str | None) -> bytes:
        """Push the blobs of a small file, and return the manifest for its tag."""
        self._client.push_bytes(self._repository, data)
        self._client.push_bytes(self._repository, EMPTY)
        return document_manifest(f"{tag}.json", data, previous)

    def _delete_tag(self, repository: str, name: str, digest: str) -> None:
        try:
            self._delete(repository, digest)
        except FetchError as error:
            # The index is what counts, and it can be written.
            self._messages.warn(
                f"the tag {self._name(repository, name)} of a version that is no longer published "
                f"cannot be deleted: {error.message}"
            )

    def _delete(self, repository: str, digest: str) -> None:
        try:
            self._client.delete_manifest(repository, digest)
        except NotFoundError:
            return
        except FetchError as error:
            raise error.with_remedy(
                "let the registry delete manifests (docker-registry: storage.delete.enabled in its "
                "configuration)"
            ) from error


def _tags(index: Index, layer: str) -> dict[str, dict[Platform, IndexEntry]]:
    """The entries of `layer` by the tag of their version, and by platform."""
    tags: dict[str, dict[Platform, IndexEntry]] = {}
    for platform, entries in index.entries.get(layer, {}).items():
        for name, entry in versions(entries).items():
            tags.setdefault(name, {})[platform] = entry
    return tags


def _content(upload: Upload, blob: Blob) -> Iterator[bytes]:
    """The bytes of a frame or a patch. Raises IntegrityError after the last wrong one."""
    source, entry, manifest = upload.source, upload.entry, upload.manifest
    read = source.read_patches if blob.is_patch else source.read
    digest = hashlib.sha256()
    for piece in read(entry, manifest, [(blob.offset, blob.offset + blob.size)]):
        digest.update(piece)
        yield piece
    if digest.hexdigest() != blob.sha256:
        path = (patches_path if blob.is_patch else archive_path)(entry, manifest)
        raise IntegrityError(
            "a part of the archive does not match the manifest",
            layer=manifest.layer,
            platform=manifest.platform,
            distribution=blob.subject,
            file=f"{source.location}/{path}, from byte {blob.offset}",
            expected=f"sha256 {blob.sha256}",
            found=f"sha256 {digest.hexdigest()}",
            remedy=publish_layer_again(source.location, manifest),
        )


def _seconds(date: str) -> float:
    """`date` as `now` writes it, in seconds since the epoch; 0 for something else."""
    try:
        return datetime.fromisoformat(date).timestamp()
    except ValueError:
        return 0.0
