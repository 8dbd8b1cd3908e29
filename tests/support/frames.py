"""What frames hold, and wheels that are not what they say."""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import TYPE_CHECKING

from stackbuild.frames.tarformat import TarReader
from stackbuild.layout import Layout
from tests.support.zstd import decompressed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from stackbuild.frames.cache import FrameCache
    from stackbuild.frames.model import FrameSet

LINUX = Layout("linux", "3.12")
WINDOWS = Layout("windows", "3.12")


def contents(
    cache: FrameCache, frame_set: FrameSet, siblings: Collection[str] = ()
) -> dict[str, tuple[int, bytes | str]]:
    """Path to mode and data (of links the target) of all that is in the frames."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for frame in frame_set.frames:
        compressed = b"".join(cache.read(frame))
        data = decompressed(compressed)
        assert len(data) == frame.content_size
        members = 0
        for member in TarReader(io.BytesIO(data).read, siblings=siblings):
            members += 1
            assert member.path not in found
            content = member.link if member.link is not None else b"".join(member.data())
            found[member.path] = (member.mode, content)
        assert members == frame.files
    assert tuple(sorted(found)) == frame_set.paths
    return found


def files_of(cache: FrameCache, frame_set: FrameSet) -> dict[str, bytes | str]:
    """Path to data of all that is in the frames."""
    return {path: content for path, (_, content) in contents(cache, frame_set).items()}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(sets: Iterable[FrameSet]) -> list[str]:
    return [frame.sha256 for frame_set in sets for frame in frame_set.frames]


def rewrite_wheel(
    wheel: Path, change: Callable[[zipfile.ZipInfo, bytes], tuple[zipfile.ZipInfo, bytes] | None]
) -> None:
    """Write a wheel again with each member as `change` gives it; None leaves it out."""
    with zipfile.ZipFile(wheel) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(wheel, "w") as archive:
        for info, data in members:
            changed = change(info, data)
            if changed is not None:
                archive.writestr(*changed)
