"""Fetch missing frames from a registry into the store."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from itertools import groupby
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError, InstallError, IntegrityError
from stackbuild.files import Pieces
from stackbuild.install.store import LISTING, PRIVATE
from stackbuild.install.unpack import unpack
from stackbuild.registry.base import publish_layer_again

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from stackbuild.compose.manifest import Manifest, PlacedFrame
    from stackbuild.durable import Sync
    from stackbuild.install.naming import Namer
    from stackbuild.install.store import Store
    from stackbuild.messages import Messages
    from stackbuild.registry.find import Published

WORKERS = 2
"""Threads that unpack. Only decompression and system calls release the GIL, so more threads gain
nothing."""

IN_MEMORY = 16 << 20
"""Compressed frames larger than this many bytes are buffered on disk instead of in memory."""

AHEAD = 32 << 20
"""Limit for compressed bytes that are received and not yet unpacked. A frame on disk counts as
`IN_MEMORY`, so that one large frame does not block the other threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededFrame:
    """Consecutive frames of one archive."""

    manifest: Manifest
    frames: tuple[PlacedFrame, ...]

    @property
    def start(self) -> int:
        """The offset of the first byte in the archive."""
        return self.frames[0].offset

    @property
    def stop(self) -> int:
        """The offset after the last byte."""
        return self.frames[-1].offset + self.frames[-1].frame.size


def missing_runs(
    manifests: Iterable[Manifest], store: Store, patched: Collection[str] = ()
) -> list[NeededFrame]:
    """The frames of `manifests` that the store lacks, in as few byte ranges as possible.

    `patched` are frames (sha256) that are about to be named in the store.
    """
    runs: list[NeededFrame] = []
    seen = set(patched)
    for manifest in manifests:
        run: list[PlacedFrame] = []
        for placed in manifest.frames:
            sha256 = placed.frame.sha256
            if sha256 in seen or store.holds(placed.frame):
                if run:
                    runs.append(NeededFrame(manifest=manifest, frames=tuple(run)))
                run = []
                continue
            seen.add(sha256)
            run.append(placed)
        if run:
            runs.append(NeededFrame(manifest=manifest, frames=tuple(run)))
    return runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The compressed bytes of a frame."""

    manifest: Manifest
    placed: PlacedFrame
    data: io.BytesIO | io.BufferedRandom
    """Positioned at the first byte."""
    location: str
    """The location of the registry."""


def fetch_frames(
    runs: Sequence[NeededFrame], published: Published, store: Store, sync: Sync, messages: Messages
) -> int:
    """Fetch the frames of `runs` into the store, whose lock must be held.

    Where patches need fewer bytes, and the store has their sources, they are fetched instead.
    Returns the transferred bytes. They exceed the size of the frames if a server sends whole
    archives only, or if a transfer was repeated. The sha256 of each frame is checked before it is
    decompressed. After a failure, completed frames stay, so the next attempt continues from them.
    Raises FetchError, IntegrityError, InstallError, OSError.
    """
    from stackbuild.install.naming import naming
    from stackbuild.install.patching import patch_frames

    _check_format(runs)
    before = published.registry.transferred
    store.sweep()
    store.staging.mkdir(mode=PRIVATE, parents=True)
    try:
        with naming(store, sync) as namer:
            manifests = {run.manifest.digest: run.manifest for run in runs}.values()
            patched = patch_frames(manifests, published, namer, messages)
            _fetch(missing_runs(manifests, store, patched), published, namer, messages)
    finally:
        store.sweep()
    return published.registry.transferred - before


def _fetch(
    runs: Sequence[NeededFrame], published: Published, namer: Namer, messages: Messages
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    total = sum(placed.frame.size for run in runs for placed in run.frames)
    with messages.task("fetching", total) as task, ThreadPoolExecutor(WORKERS) as pool:
        pending: dict[Future[None], int] = {}
        try:
            for received in _received(runs, published, namer.store.staging):
                size = received.placed.frame.size
                pending[pool.submit(_keep, received, namer)] = min(size, IN_MEMORY)
                task.advance(size)
                _wait(pending, until=AHEAD)
            _wait(pending, until=0)
        except FetchError:
            # Keep the frames that were received before the failure.
            raise
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def verified_frames(
    manifest: Manifest, published: Published, staging: Path, messages: Messages
) -> Iterator[Received]:
    """The compressed bytes of each frame of `manifest`, with their sha256 checked.

    Large ones are buffered in the directory `staging`. The caller closes the data. Raises
    FetchError, IntegrityError, InstallError, OSError.
    """
    runs = [NeededFrame(manifest=manifest, frames=manifest.frames)]
    _check_format(runs)
    with messages.task(f"reading {manifest.layer}", manifest.archive.size) as task:
        for received in _received(runs, published, staging):
            _check_sha256(received)
            task.advance(received.placed.frame.size)
            yield received


def _wait(pending: dict[Future[None], int], until: int) -> None:
    """Wait until at most `until` bytes are pending. Raises the errors of the finished work."""
    from concurrent.futures import FIRST_COMPLETED, wait

    while sum(pending.values()) > until:
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            del pending[future]
            future.result()


def _check_format(runs: Sequence[NeededFrame]) -> None:
    for run in runs:
        if run.manifest.archive.format != "tar.zst":
            raise InstallError(
                "the layer is published in an archive format that cannot be installed",
                layer=run.manifest.layer,
                platform=run.manifest.platform,
                expected="tar.zst",
                found=run.manifest.archive.format,
                remedy="publish it as tar.zst",
            )


def _received(
    runs: Sequence[NeededFrame], published: Published, staging: Path
) -> Iterator[Received]:
    """Yield the compressed bytes of each frame."""
    for _, group in groupby(runs, key=lambda run: run.manifest.digest):
        of_archive = list(group)
        manifest = of_archive[0].manifest
        spans = [(run.start, run.stop) for run in of_archive]
        stream = Pieces(published.registry.read(published.entry(manifest), manifest, spans))
        for placed in (placed for run in of_archive for placed in run.frames):
            large = placed.frame.size > IN_MEMORY
            data = _on_disk(staging) if large else io.BytesIO()
            for piece in stream.take(placed.frame.size):
                data.write(piece)
            data.seek(0)
            yield Received(manifest=manifest, placed=placed, data=data, location=published.location)


def _on_disk(staging: Path) -> io.BufferedRandom:
    # The thread that unpacks it closes it, which removes the file.
    return TemporaryFile(dir=staging)


def _keep(received: Received, namer: Namer) -> None:
    """Check a frame, unpack it into the store's staging directory and pass it to `namer`."""
    manifest, frame = received.manifest, received.placed.frame
    work = namer.store.staging / frame.sha256
    siblings = {manifest.directory, *(link.directory for link in manifest.chain)}
    with received.data as data:
        _check_sha256(received)
        work.mkdir(mode=PRIVATE)
        try:
            listing = unpack(data, frame, work / "tree", siblings, manifest.platform.os)
        except IntegrityError as error:
            raise in_layer(error, manifest, frame.subject) from error
    (work / LISTING).write_text(listing.to_json(), encoding="utf-8")
    namer.add(frame.sha256, frame.content_size)


def in_layer(error: IntegrityError, manifest: Manifest, subject: str) -> IntegrityError:
    """`error` about a frame, with the layer that the frame belongs to."""
    details = {label: text for label, text in error.details if label != "to fix"}
    return IntegrityError(
        error.message,
        layer=manifest.layer,
        platform=manifest.platform,
        distribution=subject,
        file=details.get("file", manifest.archive.name),
        expected=details.get("expected"),
        found=details.get("found"),
        remedy="do not use this archive; download or publish it again",
    )


def _check_sha256(received: Received) -> None:
    """Check the sha256 of the bytes and rewind them. Raises IntegrityError."""
    manifest, placed, data = received.manifest, received.placed, received.data
    found = hashlib.file_digest(data, "sha256").hexdigest()
    data.seek(0)
    if found != placed.frame.sha256:
        raise IntegrityError(
            "a frame of the archive does not match the manifest",
            layer=manifest.layer,
            platform=manifest.platform,
            distribution=placed.frame.subject,
            file=f"{manifest.archive.name} in {received.location}, from byte {placed.offset}",
            expected=f"sha256 {placed.frame.sha256}",
            found=f"sha256 {found}",
            remedy=publish_layer_again(received.location, manifest),
        )
