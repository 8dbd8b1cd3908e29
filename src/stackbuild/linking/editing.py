"""Makes frames of edited copies: files that search a directory of their own layer for libraries.

A copy depends on the file and on the paths of the libraries in their layers, not on the names of
these layers: `linking.plan` puts links into the layer itself. So layers share its frame.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError, IntegrityError
from stackbuild.frames.contents import members
from stackbuild.frames.files import FileContent, files_set
from stackbuild.frames.keys import frame_key
from stackbuild.frames.model import FrameKind
from stackbuild.linking.plan import edited
from stackbuild.runtimes.elf import patchelf_version, set_search

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackbuild.frames.cache import FrameCache
    from stackbuild.frames.model import Binary, Frame, FrameSet
    from stackbuild.platforms import OsName
    from stackbuild.spec.model import FrameSettings


def edited_set(
    source: FrameSet,
    binary: Binary,
    libraries: Mapping[str, str],
    os: OsName,
    settings: FrameSettings,
    cache: FrameCache,
) -> FrameSet:
    """A frame with a copy of `binary`, a file of `source`, that finds `libraries` (`edited`).

    Raises ComposeError if the file cannot be edited.
    """
    tool = patchelf_version() if os == "linux" else ""
    found_at = (text for item in sorted(libraries.items()) for text in item)
    key = frame_key("edited", source.key, binary.path, tool, *found_at, settings=settings)
    if found := cache.get(key):
        return found
    after = edited(binary, libraries, os)
    frame, original = _read(source, binary.path, cache)
    try:
        if os == "linux":
            data = _elf(original.data, after, cache)
        else:
            data = _macho(original.data, binary, after)
    except ComposeError as error:
        details = dict(error.details)
        relative = "$ORIGIN/../lib" if os == "linux" else "@loader_path/../lib"
        raise ComposeError(
            "a file that needs a library of another distribution or layer cannot be edited",
            distribution=frame.subject,
            file=binary.path,
            expected=details.get("expected"),
            found=": ".join(filter(None, (error.message, details.get("found")))),
            remedy=details.get("to fix")
            or f"link it with an rpath such as `{relative}`; a link"
            " in that directory of the layer is then enough",
        ) from error
    content = FileContent(data=data, executable=original.executable)
    made = files_set(frame.kind, frame.subject, {binary.path: content}, settings, cache)
    return cache.put(replace(made, key=key))


def copied_set(
    source: FrameSet, path: str, new_path: str, settings: FrameSettings, cache: FrameCache
) -> FrameSet:
    """A frame with a copy of `path`, a file of `source`, at `new_path`."""
    key = frame_key("copied", source.key, path, new_path, settings=settings)
    if found := cache.get(key):
        return found
    frame, content = _read(source, path, cache)
    made = files_set(FrameKind.HEAD, frame.subject, {new_path: content}, settings, cache)
    return cache.put(replace(made, key=key))


def _read(source: FrameSet, path: str, cache: FrameCache) -> tuple[Frame, FileContent]:
    for frame in source.frames:
        for member in members(frame, cache):
            if member.path == path and member.link is None:
                data = b"".join(member.data())
                return frame, FileContent(data=data, executable=bool(member.mode & 0o111))
    raise IntegrityError("a file is missing from its frames", file=path)


def _elf(data: bytes, after: Binary, cache: FrameCache) -> bytes:
    with cache.work_file() as work:
        work.write_bytes(data)
        set_search({":".join(after.search): [work]})
        return work.read_bytes()


def _macho(data: bytes, before: Binary, after: Binary) -> bytes:
    from stackbuild.linking.machofile import renamed

    names = zip(before.needed, after.needed, strict=True)
    return renamed(data, {old: new for old, new in names if old != new})
