"""Reads files from the frames in the cache."""

from __future__ import annotations

import posixpath
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.files import Pieces
from stackbuild.frames.sources import in_memory
from stackbuild.strictjson import digest_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from stackbuild.frames.cache import FrameCache
    from stackbuild.frames.model import Frame, FrameSet
    from stackbuild.frames.sources import OpenSources
    from stackbuild.frames.tarformat import Member

_PIECE = 64 * 1024
"""Compressed bytes that are unpacked at a time, to limit the memory."""


def uncompressed(frame: Frame, cache: FrameCache) -> Iterator[bytes]:
    """The tar fragment in `frame`, in pieces; raises IntegrityError if the cache is damaged."""
    from stackbuild.zstd import ZstdError, decompressor

    content = decompressor()
    chunks = cache.read(frame)
    try:
        for chunk in chunks:
            for start in range(0, len(chunk), _PIECE):
                yield content.decompress(chunk[start : start + _PIECE])
    except (ZstdError, EOFError):
        # At its end the cache compares the digest, removes the damaged frame and says so.
        for _ in chunks:
            pass
        raise


def members(frame: Frame, cache: FrameCache, siblings: Collection[str] = ()) -> Iterator[Member]:
    """The entries of `frame`. Raises IntegrityError if the cache is damaged.

    Links may lead into `siblings`, the directories beside the layer's.
    """
    from stackbuild.frames.tarformat import TarReader

    yield from TarReader(Pieces(uncompressed(frame, cache)).read, siblings=siblings)


def read_files(
    frames: Sequence[Frame], paths: Collection[str], cache: FrameCache
) -> dict[str, bytes]:
    """The contents of those `paths` that are regular files in `frames`."""
    left = set(paths)
    found: dict[str, bytes] = {}
    for frame in frames:
        if not left:
            break
        for member in members(frame, cache):
            if member.path in left and member.link is None and not member.is_directory:
                found[member.path] = b"".join(member.data())
                left.discard(member.path)
    return found


def read_resolved(
    frames: Sequence[Frame], paths: Collection[str], cache: FrameCache
) -> dict[str, bytes | None]:
    """The contents at each of `paths`, links followed; None for a directory.

    The links must lead to files in `frames`.
    """
    links = {
        member.path: member.link
        for frame in frames
        for member in members(frame, cache)
        if member.link is not None
    }
    places = {path: _resolved(path, links) for path in paths}
    found = read_files(frames, set(places.values()), cache)
    return {path: found.get(place) for path, place in places.items()}


def _resolved(path: str, links: Mapping[str, str]) -> str:
    """`path` with all links resolved. There must be no loop."""
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        place = "/".join(parts[:count])
        if place in links:
            target = posixpath.join(posixpath.dirname(place), links[place], *parts[count:])
            return _resolved(posixpath.normpath(target), links)
    return path


class FrameSources(NamedTuple):
    """The modules in the frames of `frame_set`, to be compiled (frames.sources.Sources)."""

    frame_set: FrameSet

    @property
    def subject(self) -> str:
        """The name in its frames."""
        return self.frame_set.frames[0].subject

    @property
    def identity(self) -> str:
        """That of the frames, so that they are not read if the bytecode exists."""
        return digest_of(["frames", *(frame.sha256 for frame in self.frame_set.frames)])

    @contextmanager
    def opened(self, cache: FrameCache) -> Iterator[OpenSources]:
        """Read the modules. Raises IntegrityError if the cache is damaged."""
        paths = [path for path in self.frame_set.paths if path.endswith(".py")]
        yield in_memory(read_files(self.frame_set.frames, paths, cache))
