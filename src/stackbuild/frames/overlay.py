"""Overlays to frames: files of the project's own, copied into a layer (`copy-files`)."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

from stackbuild.errors import IntegrityError
from stackbuild.frames.keys import frame_key
from stackbuild.frames.make import Part, run_parts
from stackbuild.frames.model import Frame, FrameKind, FrameSet
from stackbuild.frames.order import plan_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stackbuild.frames.cache import FrameCache
    from stackbuild.project.overlays import OverlayFile
    from stackbuild.spec.model import FrameSettings

_CHUNK = 1024 * 1024


def overlay_set(
    layer: str, files: Sequence[OverlayFile], settings: FrameSettings, cache: FrameCache
) -> FrameSet:
    """The frames that hold `files`, the overlays of `layer`; from the cache, or made now.

    Raises IntegrityError for a file that changes while it is read.
    """
    digests = {file.path: file.digest() for file in files}
    inputs = [text for file in files for text in (file.path, file.kind, digests[file.path])]
    key = frame_key("overlay", layer, *inputs, settings=settings)
    if found := cache.get(key):
        return found
    parts = plan_parts(files, lambda file: (file.path, file.size))
    make = partial(_make_frame, layer, settings, cache, digests)
    frames = run_parts(
        [Part(cost=sum(file.size for file in part), run=partial(make, part)) for part in parts]
    )
    made = FrameSet(key=key, frames=tuple(frames), paths=tuple(file.path for file in files))
    cache.put(made)
    return made


def _make_frame(
    name: str,
    settings: FrameSettings,
    cache: FrameCache,
    digests: Mapping[str, str],
    files: Sequence[OverlayFile],
) -> Frame:
    size = sum(file.size for file in files)
    with cache.new_frame(FrameKind.OVERLAY, name, settings.level, expected=size) as frame:
        for file in files:
            if file.link is not None:
                frame.add(file.path, link=file.link)
            else:
                chunks = _chunks(file, digests[file.path])
                frame.add(file.path, chunks, size=file.size, executable=file.executable)
    return frame.frame


def _chunks(file: OverlayFile, sha256: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    with file.source.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            yield chunk
    if digest.hexdigest() != sha256:
        raise IntegrityError("a file of an overlay changed while it was read", file=file.source)
