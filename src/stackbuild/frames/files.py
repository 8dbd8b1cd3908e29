"""Make frames of single files: a layer's own files, and overlays."""

from __future__ import annotations

import hashlib
import posixpath
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from stackbuild.errors import ComposeError, IntegrityError
from stackbuild.frames.binaries import BinaryReader
from stackbuild.frames.keys import frame_key
from stackbuild.frames.make import Part, plan_parts, run_parts
from stackbuild.frames.model import Frame, FrameKind, FrameSet, pth_lines
from stackbuild.layout import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from stackbuild.frames.cache import FrameCache
    from stackbuild.frames.model import Binary
    from stackbuild.layout import Layout
    from stackbuild.platforms import OsName
    from stackbuild.project.overlays import OverlayFile
    from stackbuild.spec.model import FrameSettings


class FileContent(NamedTuple):
    """The contents of a file, and whether it is executable."""

    data: bytes
    executable: bool = False


class Link(NamedTuple):
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
    """Make one frame of `files`, by layer-relative path, sorted.

    `end` adds the end-of-archive blocks. Link targets are not checked, because links of the layer's
    own files may lead into a lower layer. Raises IntegrityError for a path outside the layer.
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
    return cache.put(FrameSet(key=key, frames=(frame.frame,), paths=paths))


def _digests(files: Mapping[str, FileContent | Link]) -> list[str]:
    digests = []
    for path, item in sorted(files.items()):
        if isinstance(item, Link):
            digests += [path, "link", item.target]
        else:
            mode = "executable" if item.executable else "file"
            digests += [path, mode, hashlib.sha256(item.data).hexdigest()]
    return digests


class FramedFile(Protocol):
    """A file or link to put into frames."""

    @property
    def path(self) -> str:
        """Relative to the layer."""

    @property
    def size(self) -> int:
        """In bytes; 0 for a link."""

    @property
    def executable(self) -> bool:
        """Whether it is executable."""

    @property
    def link(self) -> str | None:
        """The target of a link."""


_File = TypeVar("_File", bound=FramedFile)


def frames_of(
    kind: FrameKind,
    subject: str,
    files: Sequence[_File],
    chunks: Callable[[_File], Iterable[bytes]],
    settings: FrameSettings,
    cache: FrameCache,
    *,
    os: OsName,
) -> tuple[tuple[Frame, ...], tuple[Binary, ...]]:
    """Make as many frames as `files` need; `chunks` reads a file.

    Also returns the programs and libraries of the operating system `os` among them.
    """
    reader = BinaryReader(os, cache)

    def make(part: Sequence[_File]) -> Frame:
        size = sum(file.size for file in part)
        with cache.new_frame(kind, subject, settings.level, expected=size) as frame:
            for file in part:
                if file.link is not None:
                    frame.add(file.path, link=file.link)
                else:
                    pieces = reader.watch(file.path, chunks(file))
                    frame.add(file.path, pieces, size=file.size, executable=file.executable)
        return frame.frame

    parts = plan_parts(files, lambda file: (file.path, file.size))
    frames = run_parts(
        [Part(cost=sum(file.size for file in part), run=partial(make, part)) for part in parts]
    )
    links = {
        file.path: posixpath.normpath(posixpath.join(posixpath.dirname(file.path), file.link))
        for file in files
        if file.link is not None
    }
    return tuple(frames), reader.found(links)


_CHUNK = 1024 * 1024
_WHEEL_LEVEL = 1
"""Wheels are compressed already (zip)."""


def packed_wheel_set(
    wheel: Path, sha256: str, settings: FrameSettings, cache: FrameCache
) -> FrameSet:
    """One frame with the file `wheel` itself, in `packages/`, from the cache or newly made.

    Raises IntegrityError for a wheel without the `sha256` of its lock.
    """
    path, size = f"{PACKAGES}/{wheel.name}", wheel.stat().st_size
    error = IntegrityError(
        "a wheel in the wheelhouse is damaged",
        file=wheel,
        expected=f"sha256 {sha256}",
        remedy="remove it and run the command again: it is then fetched again",
    )
    with cache.new_frame(FrameKind.WHEEL, wheel.name, _WHEEL_LEVEL, expected=size) as frame:
        frame.add(path, _chunks(wheel, sha256, error), size=size)
    key = packed_wheel_key(wheel.name, sha256, settings)
    return cache.put(FrameSet(key=key, frames=(frame.frame,), paths=(path,)))


def packed_wheel_key(name: str, sha256: str, settings: FrameSettings) -> str:
    """The key of `packed_wheel_set`."""
    return frame_key("packed wheel", name, sha256, settings=settings)


def overlay_set(
    layer: str,
    files: Sequence[OverlayFile],
    layout: Layout,
    settings: FrameSettings,
    cache: FrameCache,
) -> FrameSet:
    """The frames of `files`, the overlays of `layer`, from the cache or newly made.

    Raises IntegrityError for a file that changes while it is read, ComposeError for a `.pth` file
    that is not UTF-8 or cannot be read.
    """
    digests = {file.path: file.digest() for file in files}
    inputs = [text for file in files for text in (file.path, file.kind, digests[file.path])]
    key = frame_key("overlay", layer, layout.os, layout.site_packages, *inputs, settings=settings)
    if found := cache.get(key):
        return found
    frames, binaries = frames_of(
        FrameKind.OVERLAY,
        layer,
        files,
        lambda file: _chunks(
            file.source,
            digests[file.path],
            IntegrityError("a file of an overlay changed while it was read", file=file.source),
        ),
        settings,
        cache,
        os=layout.os,
    )
    return cache.put(
        FrameSet(
            key=key,
            frames=frames,
            paths=tuple(file.path for file in files),
            pth=tuple(line for file in files for line in _pth_lines(file, layout)),
            binaries=binaries,
        )
    )


def _pth_lines(file: OverlayFile, layout: Layout) -> tuple[str, ...]:
    directory, _, name = file.path.rpartition("/")
    if directory != layout.site_packages or not name.endswith(".pth"):
        return ()
    try:
        return pth_lines(file.source.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise ComposeError(
            f"a .pth file of an overlay cannot be read: {error}", file=file.source
        ) from error


def _chunks(path: Path, sha256: str, error: IntegrityError) -> Iterator[bytes]:
    """The contents of a file in pieces; `error` is raised at the end if its sha256 is another."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            yield chunk
    if digest.hexdigest() != sha256:
        raise error
