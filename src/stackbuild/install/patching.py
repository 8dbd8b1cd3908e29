"""Make missing frames of a store from patches, and from frames that the store has."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING

from stackbuild import windows
from stackbuild.compose.manifest import patches_for
from stackbuild.errors import FetchError, IntegrityError
from stackbuild.files import Pieces, remove_tree, why
from stackbuild.frames.patches import MAX_BYTES, apply_patch, limited, source_entry
from stackbuild.install.store import CONTENT, LISTING, PRIVATE
from stackbuild.install.unpack import content_entries, write_entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stackbuild.compose.manifest import Manifest, Patch
    from stackbuild.frames.model import Frame
    from stackbuild.install.naming import Namer
    from stackbuild.install.store import Store
    from stackbuild.messages import Messages
    from stackbuild.registry.find import Published

_IN_MEMORY = 16 << 20
"""Larger patches and contents are buffered on disk."""


def patch_frames(
    manifests: Iterable[Manifest], published: Published, namer: Namer, messages: Messages
) -> set[str]:
    """Make the frames of `manifests` that the store lacks from patches where that saves bytes.

    Returns the sha256 of the frames that are unpacked and passed to `namer`. A patch that is
    damaged or cannot be fetched is reported and skipped. Raises OSError.
    """
    store, made = namer.store, set[str]()
    for manifest in manifests:
        frames = {placed.frame.sha256: placed.frame for placed in manifest.frames}
        missing = {sha256 for sha256, frame in frames.items() if not store.holds(frame)} - made
        patches = patches_for(manifest, missing, store.has)
        if not patches:
            continue
        with messages.task("fetching patches", sum(patch.size for patch in patches)) as task:
            for patch in patches:
                parts = [frames[sha256] for sha256 in patch.frames]
                try:
                    for frame in _apply(manifest, patch, parts, published, namer, missing - made):
                        made.add(frame.sha256)
                except (FetchError, IntegrityError) as error:
                    messages.note(
                        f"{parts[0].subject}: the patch is not used, and the whole frames are"
                        f" fetched: {error.message}"
                    )
                task.advance(patch.size)
    return made


def _apply(
    manifest: Manifest,
    patch: Patch,
    frames: Iterable[Frame],
    published: Published,
    namer: Namer,
    missing: set[str],
) -> Iterator[Frame]:
    """Unpack those `frames` of `patch` that are `missing`, each once its sha256 is checked."""
    store = namer.store
    frames = list(frames)
    size = sum(frame.content_size for frame in frames)
    if size > MAX_BYTES:
        raise IntegrityError("the result of a patch is too large")
    with SpooledTemporaryFile(_IN_MEMORY, dir=str(store.staging)) as data:
        _fetch(manifest, patch, published, data)
        contents = Pieces(apply_patch(_source(patch, store), data, size))
        for frame in frames:
            with SpooledTemporaryFile(_IN_MEMORY, dir=str(store.staging)) as content:
                _check_content(contents, frame, content)
                if frame.sha256 in missing:
                    _unpack(content, frame, manifest, namer)
                    yield frame
        if contents.read(1):
            raise IntegrityError("a patch has more contents than its manifest says")


def _fetch(manifest: Manifest, patch: Patch, published: Published, to: IO[bytes]) -> None:
    """Write the bytes of `patch` to `to`. Raises FetchError, IntegrityError."""
    span = (patch.offset, patch.offset + patch.size)
    digest = hashlib.sha256()
    for piece in published.registry.read_patches(published.entry(manifest), manifest, [span]):
        digest.update(piece)
        to.write(piece)
    if digest.hexdigest() != patch.sha256:
        raise IntegrityError("the patch does not match its manifest")
    to.seek(0)


def _source(patch: Patch, store: Store) -> bytearray:
    """The source of `patch`, from the files of the store. Raises IntegrityError."""
    try:
        return limited(piece for sha256 in patch.sources for piece in _entries(sha256, store))
    except OSError as error:
        raise IntegrityError(f"a file of the older version cannot be read: {why(error)}") from error


def _entries(sha256: str, store: Store) -> Iterator[bytes]:
    listing = store.listing(sha256)
    if listing is None:
        raise IntegrityError("a frame of the older version is damaged")
    base = windows.extended(store.tree(sha256))
    for file in listing.files:
        with Path(windows.inside(base, file.path)).open("rb") as stream:
            yield from source_entry(file.path, file.size, file.executable, [stream.read()])


def _check_content(contents: Pieces, frame: Frame, to: IO[bytes]) -> None:
    """Write the contents of `frame` to `to`. Raises IntegrityError if they have another sha256."""
    digest = hashlib.sha256()
    for piece in contents.take(frame.content_size):
        digest.update(piece)
        to.write(piece)
    if digest.hexdigest() != frame.content_sha256:
        raise IntegrityError("the result of the patch does not match its manifest")
    to.seek(0)


def _unpack(content: IO[bytes], frame: Frame, manifest: Manifest, namer: Namer) -> None:
    """Unpack the contents of `frame` in the staging directory, and pass it to `namer`."""
    work = namer.store.staging / frame.sha256
    siblings = {manifest.directory, *(link.directory for link in manifest.chain)}
    work.mkdir(mode=PRIVATE)
    try:
        members = content_entries(content.read, frame, siblings, manifest.platform.os)
        listing = write_entries(members, work / "tree")
    except IntegrityError:
        remove_tree(work)
        raise
    (work / CONTENT).write_text(frame.content_sha256, encoding="ascii")
    (work / LISTING).write_text(listing.to_json(), encoding="utf-8")
    namer.add(frame.sha256, frame.content_size)
