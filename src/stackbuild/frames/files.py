"""Frames of files that are held in memory: a layer's head, for one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild.frames.keys import frame_key
from stackbuild.frames.model import FrameSet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackbuild.frames.cache import FrameCache
    from stackbuild.frames.model import FrameKind
    from stackbuild.spec.model import FrameSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """A file's bytes, and whether it can be run."""

    data: bytes
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link; `target` is relative to the link's directory."""

    target: str


def files_set(
    kind: FrameKind,
    subject: str,
    files: Mapping[str, FileContent | Link],
    settings: FrameSettings,
    cache: FrameCache,
    *,
    end: bool = False,
) -> FrameSet:
    """The one frame that holds `files`, by layer-relative path, sorted.

    With `end` it also holds the end-of-archive blocks. Links are taken as they
    are: a head's may lead into a lower layer. Raises IntegrityError for a path
    that leaves the layer.
    """
    paths = tuple(sorted(files))
    key = frame_key("files", kind, subject, end, *_digests(files), settings=settings)
    if found := cache.get(key):
        return found
    contents = [files[path] for path in paths]
    expected = sum(len(item.data) for item in contents if isinstance(item, FileContent))
    with cache.new_frame(kind, subject, settings.level, expected=expected) as frame:
        for path, item in zip(paths, contents, strict=True):
            if isinstance(item, Link):
                frame.add(path, link=item.target)
            else:
                frame.add(path, [item.data], size=len(item.data), executable=item.executable)
        if end:
            frame.end()
    made = FrameSet(key=key, frames=(frame.frame,), paths=paths)
    cache.put(made)
    return made


def _digests(files: Mapping[str, FileContent | Link]) -> list[str]:
    digests = []
    for path, item in sorted(files.items()):
        if isinstance(item, Link):
            digests += [path, "link", item.target]
        else:
            mode = "executable" if item.executable else "file"
            digests += [path, mode, hashlib.sha256(item.data).hexdigest()]
    return digests
