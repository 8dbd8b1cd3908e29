"""Read the image that a new image begins with: from an OCI layout or a registry, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stackbuild import strictjson
from stackbuild.errors import IntegrityError, UsageError
from stackbuild.files import open_regular, read_regular
from stackbuild.images.blobs import LAYER_TYPE, Blob, file_blob, read_digest
from stackbuild.reading import Item, ReadError
from stackbuild.transport.oci import IMAGE_INDEX, MANIFEST, MAX_MANIFEST, OciClient
from stackbuild.transport.references import digest_of, parse_reference
from stackbuild.workspace import expanded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackbuild.images.blobs import BlobCache, Contents
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.transport.references import Reference

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""The names of processors in images, those of Go (GOARCH)."""
LAYOUT = "oci-layout:"
REF_NAME = "org.opencontainers.image.ref.name"

_DOCKER = "application/vnd.docker."
_INDEXES = (IMAGE_INDEX, f"{_DOCKER}distribution.manifest.list.v2+json")
_MANIFESTS = (MANIFEST, f"{_DOCKER}distribution.manifest.v2+json")
_LAYERS = {
    **{f"{LAYER_TYPE}{end}": f"{LAYER_TYPE}{end}" for end in ("", "+gzip", "+zstd")},
    f"{_DOCKER}image.rootfs.diff.tar": LAYER_TYPE,
    f"{_DOCKER}image.rootfs.diff.tar.gzip": f"{LAYER_TYPE}+gzip",
    f"{_DOCKER}image.rootfs.diff.tar.zstd": f"{LAYER_TYPE}+zstd",
}
"""The media types of layers that can be used, with those of OCI images."""
_MAX_DEPTH = 4
"""Indexes in an index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """An image to begin with; empty for ``scratch``."""

    name: str = "scratch"
    """As the user wrote it."""
    reference: str | None = None
    """Where it is in a registry."""
    digest: str | None = None
    """Of its manifest."""
    layers: tuple[Blob, ...] = ()
    diff_ids: tuple[str, ...] = ()
    config: Mapping[str, object] = field(default_factory=dict)
    """Its configuration file."""


class _Source(Protocol):
    """Where manifests and blobs are read."""

    def manifest(self, digest: str) -> bytes:
        """The manifest with this digest, checked."""

    def config(self, digest: str, size: int) -> bytes:
        """The configuration with this digest, which has `size` bytes, checked."""

    def layer(self, media_type: str, digest: str, size: int) -> Blob:
        """A large blob."""


def open_base(text: str, platform: Platform, cache: BlobCache, messages: Messages) -> Base:
    """The image that `text` means: ``scratch``, ``oci-layout:DIR[:TAG]`` or one in a registry.

    Raises UsageError for other texts and for an image that is not for `platform`, FetchError,
    IntegrityError for a damaged image.
    """
    if text == "scratch":
        return Base()
    source: _Source
    if text.startswith(LAYOUT):
        directory, tag = split_path(text)
        source = _LayoutSource(directory)
        found = _chosen(source.index(), platform, text, tag)
        return _read(text, None, source, found, platform)
    try:
        reference = parse_reference(text)
    except ValueError as fault:
        raise UsageError(
            f"the base {text!r} {fault}",
            expected="scratch, oci-layout:DIR[:TAG], or an image such as debian:12-slim",
        ) from None
    source = _RegistrySource(reference, cache, messages)
    pulled = source.client.manifest(reference.repository, reference.name)
    descriptor = {"mediaType": pulled.media_type, "digest": pulled.digest}
    return _read(text, str(reference), source, descriptor, platform)


def split_path(text: str) -> tuple[Path, str | None]:
    """The path and the name of an image in ``KIND:PATH[:NAME]``, as skopeo and podman read it."""
    kind, _, rest = text.partition(":")
    drive, rest = (rest[:2], rest[2:]) if rest[1:3] in {":\\", ":/"} else ("", rest)
    path, _, name = rest.partition(":")
    if not path:
        raise UsageError(f"{text!r} has no path", expected=f"{kind}:PATH")
    return expanded(Path(drive + path)).absolute(), name or None


class _LayoutSource:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def index(self) -> Item[object]:
        path = self._directory / "index.json"
        return Item("", _json(self._file(path), str(path)))

    def config(self, digest: str, size: int) -> bytes:
        return self.manifest(digest)

    def manifest(self, digest: str) -> bytes:
        path = self._path(digest)
        return _same(self._file(path), digest, str(path))

    def layer(self, media_type: str, digest: str, size: int) -> Blob:
        return file_blob(self._path(digest), media_type, digest, size)

    def _path(self, digest: str) -> Path:
        return self._directory / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def _file(self, path: Path) -> bytes:
        try:
            return read_regular(path, MAX_MANIFEST + 1)
        except OSError as error:
            raise UsageError(
                f"{self._directory} is no complete OCI layout",
                file=path,
                expected="a directory such as `skopeo copy IMAGE oci:DIR` makes",
                found=error.strerror,
            ) from error


class _RegistrySource:
    def __init__(self, reference: Reference, cache: BlobCache, messages: Messages) -> None:
        self.client = OciClient(reference.host, messages)
        self._reference = reference
        self._cache = cache
        self._messages = messages

    def manifest(self, digest: str) -> bytes:
        return self.client.manifest(self._reference.repository, digest).data

    def config(self, digest: str, size: int) -> bytes:
        pieces = self.client.read_blob(self._reference.repository, digest, [(0, size)])
        return _same(b"".join(pieces), digest, str(self._reference))

    def layer(self, media_type: str, digest: str, size: int) -> Blob:
        def source() -> Contents:
            if not self._cache.has(digest, size):
                repository = self._reference.repository
                with self._messages.task(f"fetching {self._reference}", size) as task:
                    pieces = self.client.read_blob(repository, digest, count=task.advance)
                    self._cache.add(digest, pieces)
            return open_regular(self._cache.path(digest))

        return Blob(
            media_type=media_type,
            digest=digest,
            size=size,
            source=source,
            place=str(self._cache.path(digest)),
            origin=self._reference,
        )


def _same(data: bytes, digest: str, source: str) -> bytes:
    if (found := digest_of(data)) != digest:
        raise IntegrityError(
            "a part of the base image is damaged", file=source, expected=digest, found=found
        )
    return data


def _json(data: bytes, source: str) -> object:
    found: object = strictjson.parse(data, source)
    return found


def _chosen(
    index: Item[object], platform: Platform, name: str, tag: str | None = None
) -> dict[str, object]:
    """The descriptor in `index` with `tag`, if given, for `platform`.

    Raises UsageError if there is none or more than one.
    """
    try:
        items = [item.table() for item in index["manifests"].items()]
    except ReadError as error:
        raise error.damage(f"the index of {name}") from None
    tagged = [item for item in items if tag is None or _notes(item).get(REF_NAME) == tag]
    if not tagged:
        names = sorted(str(_notes(item).get(REF_NAME)) for item in items)
        raise UsageError(
            f"{name} has no such image", expected=f"a tag of the layout: {', '.join(names)}"
        )
    architecture = ARCHITECTURES[platform.machine]
    # An image of one platform may have none here; its configuration is checked.
    suitable = [item for item in tagged if _platform(item) in {None, ("linux", architecture)}]
    if not suitable:
        found = sorted({"/".join(part) for item in tagged if (part := _platform(item))})
        raise _not_for(platform, name, ", ".join(found))
    if len({str(item.get("digest")) for item in suitable}) > 1:
        names = sorted(str(_notes(item).get(REF_NAME)) for item in suitable)
        raise UsageError(
            f"{name} has several images for {platform}",
            expected=f"a tag at its end: {', '.join(names)}",
        )
    return suitable[0]


def _notes(item: Mapping[str, object]) -> Mapping[str, object]:
    found = item.get("annotations")
    return found if isinstance(found, dict) else {}


def _platform(item: Mapping[str, object]) -> tuple[str, str] | None:
    found = item.get("platform")
    if not isinstance(found, dict):
        return None
    return str(found.get("os")), str(found.get("architecture"))


def _not_for(platform: Platform, name: str, found: str) -> UsageError:
    return UsageError(
        f"the base {name} is not for {platform}",
        platform=platform,
        expected=f"an image for linux/{ARCHITECTURES[platform.machine]}",
        found=found,
    )


def _read(
    name: str,
    reference: str | None,
    source: _Source,
    descriptor: Mapping[str, object],
    platform: Platform,
) -> Base:
    try:
        for _ in range(_MAX_DEPTH):
            item = Item[object]("", descriptor)
            digest = read_digest(item["digest"])
            kind = item["mediaType"].text()
            content = Item("", _json(source.manifest(digest), name))
            if kind in _MANIFESTS:
                return _image(name, reference, source, digest, content, platform)
            if kind not in _INDEXES:
                break
            descriptor = _chosen(content, platform, name)
    except ReadError as error:
        raise error.damage(f"the manifest of {name}") from None
    raise UsageError(
        f"{name} is not an image",
        expected=" or ".join((*_MANIFESTS, *_INDEXES)),
        found=str(descriptor.get("mediaType")),
    )


def _image(
    name: str,
    reference: str | None,
    source: _Source,
    digest: str,
    manifest: Item[object],
    platform: Platform,
) -> Base:
    about = manifest["config"]
    size = about["size"].integer(0, MAX_MANIFEST)
    config = Item("", _json(source.config(read_digest(about["digest"]), size), name))
    found = (config["os"].text(), config["architecture"].text())
    if found != ("linux", ARCHITECTURES[platform.machine]):
        raise _not_for(platform, name, "/".join(found))
    layers = tuple(_layer(item, source, name) for item in manifest["layers"].items())
    diff_ids = config["rootfs"]["diff_ids"].tuple_of(read_digest)
    if len(diff_ids) != len(layers):
        raise config["rootfs"]["diff_ids"].error(f"does not have {len(layers)} items")
    return Base(
        name=name,
        reference=reference,
        digest=digest,
        layers=layers,
        diff_ids=diff_ids,
        config=config.table(),
    )


def _layer(item: Item[object], source: _Source, name: str) -> Blob:
    kind = item["mediaType"].text()
    if kind not in _LAYERS:
        raise UsageError(
            f"the base {name} has a layer of another kind",
            expected=" or ".join(_LAYERS),
            found=kind,
        )
    return source.layer(_LAYERS[kind], read_digest(item["digest"]), item["size"].count())
