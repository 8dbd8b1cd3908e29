"""Write images: to an OCI layout, to an archive for docker, to a registry."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, NamedTuple, Protocol

from stackbuild import strictjson
from stackbuild.compose.serialize import canonical_json
from stackbuild.errors import InstallError, UsageError, in_the_way, system_errors
from stackbuild.files import atomic_file, atomic_write, locked, read_regular
from stackbuild.frames.tarformat import END, header, padding
from stackbuild.images.base import LAYOUT, REF_NAME, split_path
from stackbuild.install.archive import new_file
from stackbuild.reading import Item, ReadError
from stackbuild.transport.oci import IMAGE_INDEX, MAX_MANIFEST, OciClient
from stackbuild.transport.references import is_digest, parse_reference

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackbuild.images.blobs import Blob
    from stackbuild.images.config import Image
    from stackbuild.messages import Messages
    from stackbuild.transport.references import Reference

ARCHIVE = "docker-archive:"
REGISTRY = "oci://"
EXPECTED = f"{LAYOUT}DIR[:TAG], {ARCHIVE}FILE[:NAME:TAG] or {REGISTRY}HOST/REPOSITORY[:TAG]"

_ELSEWHERE = "name another place with --to"
_LAYOUT_FILE = b'{"imageLayoutVersion": "1.0.0"}\n'
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class Destination(Protocol):
    """A place for one image."""

    def write(self, image: Image, messages: Messages) -> int:
        """Write `image`. Returns the bytes that were written or sent, without small files.

        Raises IntegrityError for damaged layers, and FetchError or InstallError.
        """


def destination(text: str, layer: str) -> Destination:
    """The place `text` for an image of `layer`. Raises UsageError."""
    if text.startswith(LAYOUT):
        directory, tag = split_path(text)
        return Layout(directory, _checked(tag or layer, text))
    if text.startswith(ARCHIVE):
        file, name = split_path(text)
        return DockerArchive(file, name and str(_reference(name, text)))
    if not text.startswith(REGISTRY):
        raise UsageError(f"{text!r} is not a place for images", expected=EXPECTED)
    return Repository(_reference(text.removeprefix(REGISTRY), text))


def _reference(name: str, text: str) -> Reference:
    try:
        reference = parse_reference(name)
    except ValueError as fault:
        raise UsageError(f"the place {text!r} {fault}", expected=EXPECTED) from None
    if is_digest(reference.name):
        raise UsageError(
            f"the place {text!r} has a digest", expected="a tag: the digest is that of the image"
        )
    return reference


def _checked(tag: str, text: str) -> str:
    if not _TAG.fullmatch(tag):
        raise UsageError(
            f"the place {text!r} has an invalid tag",
            expected="letters, digits, '.', '_' and '-', at most 128",
            found=tag,
        )
    return tag


class Layout(NamedTuple):
    """An OCI layout; images of other tags are kept, and share their blobs with this one."""

    directory: Path
    tag: str

    def write(self, image: Image, messages: Messages) -> int:
        """Write what is missing, the index last."""
        written = 0
        with system_errors(InstallError, self.directory, elsewhere=_ELSEWHERE):
            self._claim()
            with locked(self.directory / ".stackbuild.lock", messages):
                index = self._index()
                total = sum(blob.size for blob in image.blobs)
                with messages.task("writing the image", total) as task:
                    for blob in (*image.blobs, image.manifest):
                        written += self._add(blob)
                        task.advance(blob.size)
                others = [item for item in index if _name(item) != self.tag]
                entry = {
                    **image.manifest.descriptor(),
                    "platform": {"os": "linux", "architecture": image.architecture},
                    "annotations": {REF_NAME: self.tag},
                }
                content = {
                    "schemaVersion": 2,
                    "mediaType": IMAGE_INDEX,
                    "manifests": [*others, entry],
                }
                atomic_write(self.directory / "index.json", canonical_json(content))
        return written

    def _claim(self) -> None:
        """Begin the layout, unless it exists. Raises InstallError for another directory."""
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "oci-layout"
        if not file.exists():
            if any(self.directory.iterdir()):
                raise in_the_way(InstallError, self.directory, _ELSEWHERE)
            atomic_write(file, _LAYOUT_FILE)

    def _index(self) -> list[dict[str, object]]:
        """The images of the layout."""
        path = self.directory / "index.json"
        try:
            found = strictjson.parse(read_regular(path, MAX_MANIFEST + 1), str(path))
            return [item.table() for item in Item("", found)["manifests"].items()]
        except FileNotFoundError:
            return []
        except ReadError as error:
            raise error.damage(str(path)) from None

    def _add(self, blob: Blob) -> int:
        path = self.directory / "blobs" / "sha256" / blob.sha256
        try:
            if path.stat().st_size == blob.size:
                return 0
        except FileNotFoundError:
            pass
        with blob.open() as source, atomic_file(path) as work, work.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        return blob.size


def _name(item: dict[str, object]) -> object:
    notes = item.get("annotations")
    return notes.get(REF_NAME) if isinstance(notes, dict) else None


class DockerArchive(NamedTuple):
    """A file for `docker load` and `podman load`."""

    file: Path
    name: str | None
    """The image's name there, with its tag; None for that of the layer and its version."""

    def write(self, image: Image, messages: Messages) -> int:
        """Write the file, or replace an image that stackbuild wrote."""
        name = self.name or _docker_name(image)
        with new_file(self.file, _ELSEWHERE) as file:
            total = sum(blob.size for blob in image.blobs)
            with messages.task("writing the image", total) as task:
                for data in _docker_archive(image, name):
                    file.write(data)
                    task.advance(len(data))
            return file.tell()


def _docker_name(image: Image) -> str:
    """A name for docker, which knows fewer characters than stackbuild does."""
    tag = re.sub(r"[^A-Za-z0-9._-]", "-", image.version)[:128]
    return f"{re.sub('[^a-z0-9]+', '-', image.name.lower()).strip('-')}:{tag or 'latest'}"


def _docker_archive(image: Image, name: str) -> Iterator[bytes]:
    files = {blob.digest: f"{blob.sha256}.tar" for blob in image.layers}
    config = f"{image.config.sha256}.json"
    layers = [files[blob.digest] for blob in image.layers]
    content = canonical_json([{"Config": config, "RepoTags": [name], "Layers": layers}])
    yield header("manifest.json", size=len(content)) + content + padding(len(content))
    for blob in image.blobs:
        yield header(files.get(blob.digest, config), size=blob.size)
        with blob.open() as file:
            while data := file.read(1 << 20):
                yield data
        yield padding(blob.size)
    yield END


class Repository(NamedTuple):
    """A repository of a registry."""

    reference: Reference

    def write(self, image: Image, messages: Messages) -> int:
        """Push what is missing, the manifest last. Blobs of the base are mounted if possible."""
        client = OciClient(self.reference.host, messages)
        repository = self.reference.repository
        sent = 0
        with messages.task("pushing the image", sum(blob.size for blob in image.blobs)) as task:
            for blob in image.blobs:
                origin = blob.origin
                same = origin is not None and origin.host == self.reference.host
                source = origin.repository if origin and same else None
                new = client.push_blob(repository, blob.digest, blob.size, blob.open, source)
                sent += blob.size if new else 0
                task.advance(blob.size)
            manifest = image.manifest
            with manifest.open() as file:
                client.push_manifest(
                    repository, self.reference.name, file.read(), manifest.media_type
                )
        return sent
