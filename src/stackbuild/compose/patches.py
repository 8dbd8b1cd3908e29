"""Writes the patches of a new version of a layer from the versions before it."""

from __future__ import annotations

import hashlib
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.compose.manifest import Patch, PatchFile
from stackbuild.files import Pieces, atomic_copy, open_regular, sha256_file
from stackbuild.frames.contents import members, uncompressed
from stackbuild.frames.model import FrameKind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from stackbuild.compose.manifest import Manifest
    from stackbuild.frames.cache import FrameCache
    from stackbuild.frames.model import Frame
    from stackbuild.messages import Messages

_LEAST_SAVING = 16 * 1024
"""A patch that saves fewer bytes costs more than it saves: a request, lines in the manifest."""
_ONE_AT_A_TIME = Lock()
"""Making a patch takes the memory of its source, its result and zstd's tables."""


class Older(NamedTuple):
    """A version of a layer that is published already, with the directory of its archive."""

    manifest: Manifest
    directory: Path


class _Made(NamedTuple):
    sources: tuple[Frame, ...]
    frames: tuple[Frame, ...]
    data: bytes


def write_patches(
    manifest: Manifest,
    versions: Sequence[Older],
    cache: FrameCache,
    directory: Path | None,
    messages: Messages,
) -> PatchFile | None:
    """Write the patches of `manifest` from `versions` into `directory`, or only plan them.

    They are made of the changed frames of each distribution, where they have at most half their
    size. The frames of `versions` come from `cache`, or from their archives. Without patches there
    is no file, and None is returned. Raises OSError, and IntegrityError for a frame that is damaged
    in the cache.
    """
    patches: list[Patch] = []
    offset = 0
    with cache.work_file() as work:
        with work.open("wb") as file:
            for older in versions:
                for sources, frames, data in _patches(manifest, older, cache, messages):
                    file.write(data)
                    patches.append(
                        Patch(
                            sources=tuple(frame.sha256 for frame in sources),
                            frames=tuple(frame.sha256 for frame in frames),
                            offset=offset,
                            size=len(data),
                            sha256=hashlib.sha256(data).hexdigest(),
                        )
                    )
                    offset += len(data)
        if not patches:
            return None
        name = f"{manifest.layer}-{manifest.digest[:12]}.patches"
        if directory:
            atomic_copy(work, directory / name)
        sha256 = sha256_file(work)
    return PatchFile(name=name, size=offset, sha256=sha256, patches=tuple(patches))


def _patches(
    manifest: Manifest, older: Older, cache: FrameCache, messages: Messages
) -> Iterator[_Made]:
    """The patches from one older version."""
    old, new = _by_subject(older.manifest), _by_subject(manifest)
    kept = {placed.frame.sha256 for placed in older.manifest.frames}
    kept.intersection_update(placed.frame.sha256 for placed in manifest.frames)
    lost: list[str] = []
    for subject, frames in new.items():
        sources = [frame for frame in old.get(subject, ()) if frame.sha256 not in kept]
        changed = [frame for frame in frames if frame.sha256 not in kept]
        if not sources or not changed:
            continue
        if not all(_provide(frame, older, cache) for frame in sources):
            lost.append(sources[0].subject)
            continue
        siblings = {link.directory for link in older.manifest.chain}
        make = partial(_patch, cache=cache, siblings=siblings)
        yield from _of_distribution(sources, frames, changed, make)
    if lost:
        messages.note(
            f"{manifest.layer} for {manifest.platform}: no patches from {', '.join(lost)}: frames "
            f"are neither in the cache nor in {older.directory / older.manifest.archive.name}"
        )


def _by_subject(manifest: Manifest) -> dict[tuple[FrameKind, str], list[Frame]]:
    """The frames of `manifest` by their kind and the name in their subject, without its version.

    Wheels are left out: they are compressed.
    """
    found: dict[tuple[FrameKind, str], list[Frame]] = {}
    for placed in manifest.frames:
        frame = placed.frame
        if frame.kind is not FrameKind.WHEEL:
            found.setdefault((frame.kind, frame.subject.partition(" ")[0]), []).append(frame)
    return found


def _provide(frame: Frame, older: Older, cache: FrameCache) -> bool:
    """Whether `frame` is in the cache, also if it has to be copied from the archive of `older`."""
    if cache.has(frame):
        return True
    offset = next(one.offset for one in older.manifest.frames if one.frame.sha256 == frame.sha256)
    try:
        with open_regular(older.directory / older.manifest.archive.name) as file:
            file.seek(offset)
            whole = Pieces(iter(partial(file.read, 1 << 20), b""))
            return cache.put_frame(frame, map(bytes, whole.take(frame.size)))
    except FileNotFoundError:
        return False


def _of_distribution(
    sources: Sequence[Frame],
    frames: Sequence[Frame],
    changed: Sequence[Frame],
    make: Callable[[Sequence[Frame], Sequence[Frame]], bytes],
) -> Iterator[_Made]:
    """Patches for those `frames` of one distribution that are `changed`.

    `sources` are the frames of another version, `make` is `_patch`.

    Each covers as many frames as the limits allow, or one where that is too large.
    """
    from stackbuild.frames.patches import grouped, nearest

    for group in grouped(changed):
        chosen = nearest(sources, frames, group)
        data = make(chosen, group)
        if data:
            yield _Made(tuple(chosen), tuple(group), data)
        elif len(group) > 1:
            for frame in group:
                if data := make(chosen, [frame]):
                    yield _Made(tuple(chosen), (frame,), data)


def _patch(
    sources: Sequence[Frame],
    frames: Sequence[Frame],
    *,
    cache: FrameCache,
    siblings: Collection[str],
) -> bytes:
    """The patch from `sources` to `frames`, from the cache or newly made; empty if too large.

    Links in `sources` may lead into `siblings`.
    """
    from stackbuild.frames.patches import limited, make_patch, patch_key, source_of

    key = patch_key(sources, frames)
    made = cache.patch(key)
    if made is None:
        with _ONE_AT_A_TIME:
            parts = (source_of(members(frame, cache, siblings)) for frame in sources)
            contents = (piece for frame in frames for piece in uncompressed(frame, cache))
            size = sum(frame.content_size for frame in frames)
            # No name for the source, so that it is freed when zstd has its copy.
            made = make_patch(limited(piece for part in parts for piece in part), contents, size)
        made = cache.put_patch(key, made if _is_useful(len(made), frames) else b"")
    return made


def _is_useful(size: int, frames: Sequence[Frame]) -> bool:
    full = sum(frame.size for frame in frames)
    return 2 * size <= full and full - size >= _LEAST_SAVING
