"""Interpreters to frames."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from stackbuild.frames.keys import frame_key
from stackbuild.frames.make import Part, run_parts
from stackbuild.frames.model import Frame, FrameKind, FrameSet
from stackbuild.frames.order import plan_parts

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from stackbuild.frames.archivefiles import ArchiveFile, ArchiveFiles
    from stackbuild.frames.cache import FrameCache
    from stackbuild.layout import Layout
    from stackbuild.runtimes.model import RuntimeArchive
    from stackbuild.spec.model import FrameSettings


def interpreter_key(
    archive: RuntimeArchive, layout: Layout, keep: Collection[str], settings: FrameSettings
) -> str:
    """The key of the frame set that `interpreter_set` makes."""
    inputs = (archive.sha256, layout.os, layout.python, *sorted(keep))
    return frame_key("interpreter", *inputs, settings=settings)


def interpreter_set(
    archive: RuntimeArchive,
    layout: Layout,
    keep: Collection[str],
    settings: FrameSettings,
    cache: FrameCache,
) -> FrameSet:
    """The frames of the interpreter in `archive`, from the cache or made now.

    `keep` names the distributions of its site-packages that stay (normalised
    names). Raises IntegrityError for an archive that is damaged, is not in the
    `install_only` layout, or holds what no layer may.
    """
    key = interpreter_key(archive, layout, keep, settings)
    if found := cache.get(key):
        return found
    from stackbuild.frames.archivefiles import opened

    with opened(archive, layout, keep, cache) as contents:
        parts = plan_parts(contents.files, lambda file: (file.path, file.size))
        make = partial(_make_frame, contents, f"cpython {archive.version}", settings, cache)
        frames = run_parts(
            [Part(cost=sum(file.size for file in part), run=partial(make, part)) for part in parts]
        )
        paths = tuple(sorted(file.path for file in contents.files))
    made = FrameSet(key=key, frames=tuple(frames), paths=paths)
    cache.put(made)
    return made


def _make_frame(
    contents: ArchiveFiles,
    subject: str,
    settings: FrameSettings,
    cache: FrameCache,
    files: Sequence[ArchiveFile],
) -> Frame:
    size = sum(file.size for file in files)
    with cache.new_frame(FrameKind.INTERPRETER, subject, settings.level, expected=size) as frame:
        for file in files:
            if file.link is not None:
                frame.add(file.path, link=file.link)
            else:
                chunks = contents.chunks(file)
                frame.add(file.path, chunks, size=file.size, executable=file.executable)
    return frame.frame
