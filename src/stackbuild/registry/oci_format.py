"""What layers and their index are in a container registry.

Names and JSON only. `docs/container-registries.md` describes the format.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.compose.serialize import canonical_json
from stackbuild.names import MAX_LAYER_NAME
from stackbuild.reading import Item, read_json
from stackbuild.transport.oci import IMAGE_INDEX, MANIFEST
from stackbuild.transport.references import digest_of, repository_fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stackbuild.compose.manifest import IndexEntry, Manifest
    from stackbuild.platforms import Platform

LAYER_TYPE = "application/vnd.stackbuild.layer.v1"
"""The artifact type of a layer for one platform, and of the image index of a layer."""
DOCUMENT_TYPE = "application/vnd.stackbuild.document.v1"
"""The artifact type of the stack's index and other small files."""
MANIFEST_TYPE = "application/vnd.stackbuild.manifest.v1+json"
FRAME_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
PATCH_TYPE = "application/vnd.stackbuild.patch.v1+zstd"
EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"

_TITLE = "org.opencontainers.image.title"
_VERSION = "org.opencontainers.image.version"
_CREATED = "org.opencontainers.image.created"
_PATH = "stackbuild.path"
_PREVIOUS = "stackbuild.previous"
_MANIFEST_PATH = re.compile(r"(?P<platform>[^/]+)/(?P<layer>[^/]+)-(?P<digest>[0-9a-f]{12})\.json")
_MANIFEST_TAG = re.compile("[a-z0-9]+-[a-z0-9]+-[0-9a-f]{12}")
_SYSTEMS = {"linux": "linux", "macos": "darwin", "windows": "windows"}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
LONGEST_NAME = MAX_LAYER_NAME + 9
"""The limit of `repository_name`, in characters."""


class Tag(NamedTuple):
    """The place of a layer's manifest: the last part of its repository's name, and its tag."""

    repository: str
    name: str


def repository_name(layer: str) -> str:
    """The last part of the name of the repository of `layer`.

    It is the layer's name where a registry allows that. Otherwise it is in lower case with ``-``
    for other characters, followed by digits of the name's sha256, so that no two layers share it.
    """
    if repository_fault("host", layer) is None and "/" not in layer:
        return layer
    plain = re.sub("[^a-z0-9]+", "-", layer.lower()).strip("-")
    return f"{plain}-{hashlib.sha256(layer.encode()).hexdigest()[:8]}"


def manifest_tag(path: str) -> Tag | None:
    """The place of the manifest with the path `path` in an index; None for another file."""
    match = _MANIFEST_PATH.fullmatch(path)
    if match is None:
        return None
    name = f"{match['platform']}-{match['digest']}"
    return Tag(repository_name(match["layer"]), name)


def is_manifest_tag(name: str) -> bool:
    """Whether `name` may be the tag of a layer's manifest."""
    return bool(_MANIFEST_TAG.fullmatch(name))


def version_tag(version: str) -> str:
    """The tag for a version: ``_`` stands for characters that tags may not have."""
    plain = re.sub("[^A-Za-z0-9_.-]", "_", version)[:128]
    return plain if re.match("[A-Za-z0-9_]", plain) else f"_{plain[1:]}"


class Blob(NamedTuple):
    """A frame or a patch, which is a blob of the registry."""

    sha256: str
    size: int
    offset: int
    """Of its first byte in the archive or in the file of patches."""
    subject: str | None
    is_patch: bool

    @property
    def digest(self) -> str:
        """The digest of the blob."""
        return f"sha256:{self.sha256}"


def frames_of(manifest: Manifest) -> list[Blob]:
    """The frames, in the order of the archive."""
    return [
        Blob(one.frame.sha256, one.frame.size, one.offset, one.frame.subject, is_patch=False)
        for one in manifest.frames
    ]


def patches_of(manifest: Manifest) -> list[Blob]:
    """The patches, in the order of their file."""
    return [Blob(one.sha256, one.size, one.offset, None, is_patch=True) for one in manifest.patches]


def layer_manifest(entry: IndexEntry, manifest: Manifest, size: int, created: str) -> bytes:
    """The manifest of a layer on one platform; `size` is that of our own manifest in bytes."""
    layers = [
        {
            **_descriptor(kind, f"sha256:{blob.sha256}", blob.size),
            # The file name for clients that pull artifacts; in the order of the archive.
            "annotations": {_TITLE: f"{number:05}{suffix}"},
        }
        for blobs, kind, suffix in (
            (frames_of(manifest), FRAME_TYPE, ".tar.zst"),
            (patches_of(manifest), PATCH_TYPE, ".patch"),
        )
        for number, blob in enumerate(blobs)
    ]
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": LAYER_TYPE,
            "config": _descriptor(MANIFEST_TYPE, f"sha256:{entry.sha256}", size),
            "layers": layers,
            "annotations": {
                _PATH: entry.manifest,
                _VERSION: entry.version,
                _CREATED: created,
            },
        }
    )


class FoundLayer(NamedTuple):
    """What is read of the manifest of a layer."""

    digest: str
    """Of the manifest."""
    size: int
    config: str
    """The digest of our own manifest."""
    path: str
    """The path of our own manifest in the index; empty if the manifest does not name it."""
    created: str


def read_layer_manifest(data: bytes, source: str) -> FoundLayer:
    """The manifest that `layer_manifest` made. Raises IntegrityError."""

    def read(item: Item[object]) -> FoundLayer:
        notes = _annotations(item)
        return FoundLayer(
            digest=digest_of(data),
            size=len(data),
            config=item["config"]["digest"].text(),
            path=notes.get(_PATH, ""),
            created=notes.get(_CREATED, ""),
        )

    return read_json(data, source, read)


def image_index(tag: str, layers: Mapping[Platform, FoundLayer]) -> bytes:
    """The image index of a layer over its platforms.

    The tag is an annotation, so that two tags do not have the same digest, by which a registry
    deletes all tags of a manifest.
    """
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": IMAGE_INDEX,
            "artifactType": LAYER_TYPE,
            "manifests": [
                {
                    **_descriptor(MANIFEST, layers[platform].digest, layers[platform].size),
                    "artifactType": LAYER_TYPE,
                    "platform": {
                        "os": _SYSTEMS[platform.os],
                        "architecture": _MACHINES[platform.machine],
                    },
                }
                for platform in sorted(layers)
            ],
            "annotations": {_VERSION: tag},
        }
    )


def document_manifest(name: str, data: bytes, previous: str | None) -> bytes:
    """The manifest of a small file; `previous` is the digest of the manifest that it replaces."""
    blob = _descriptor("application/json", digest_of(data), len(data))
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": DOCUMENT_TYPE,
            "config": _descriptor(_EMPTY_TYPE, digest_of(EMPTY), len(EMPTY)),
            "layers": [{**blob, "annotations": {_TITLE: name}}],
            "annotations": {_PREVIOUS: previous} if previous else {},
        }
    )


class FoundDocument(NamedTuple):
    """What is read of the manifest of a small file."""

    digest: str
    """Of its contents."""
    previous: str | None
    """The manifest that this one replaced."""


def read_document_manifest(data: bytes, source: str) -> FoundDocument:
    """The manifest that `document_manifest` made. Raises IntegrityError."""

    def read(item: Item[object]) -> FoundDocument:
        layers = item["layers"]
        if len(blobs := layers.items()) != 1:
            raise layers.error("does not have one item")
        return FoundDocument(blobs[0]["digest"].text(), _annotations(item).get(_PREVIOUS))

    return read_json(data, source, read)


def _annotations(item: Item[object]) -> dict[str, str]:
    notes = item.table().get("annotations")
    return {key: str(value) for key, value in notes.items()} if isinstance(notes, dict) else {}


def _descriptor(kind: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest, "size": size}


def versions(entries: Iterable[IndexEntry]) -> dict[str, IndexEntry]:
    """The newest of `entries`, which are sorted so, for each tag of a version, and `latest`."""
    found: dict[str, IndexEntry] = {}
    for entry in entries:
        words = ("latest", entry.version, entry.lock_version)
        for word in words:
            if word is not None:
                found.setdefault(version_tag(str(word)), entry)
    return found
