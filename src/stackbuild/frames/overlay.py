"""Overlays to frames: files of the project's own, copied into a layer (`copy-files`)."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError, IntegrityError
from stackbuild.frames.keys import frame_key
from stackbuild.frames.make import Part, run_parts
from stackbuild.frames.model import Frame, FrameKind, FrameSet
from stackbuild.frames.order import plan_parts
from stackbuild.frames.tarformat import check_link
from stackbuild.names import path_fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stackbuild.frames.cache import FrameCache
    from stackbuild.layout import Layout
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import CopyFiles, FrameSettings, Layer

PLACEHOLDER = "{site-packages}"
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayFile:
    """A file or link of an overlay, and where it goes."""

    path: str
    """Relative to the layer."""
    source: Path
    link: str | None
    executable: bool
    size: int
    overwrite: bool
    """Whether it may take the place of a file that a distribution has."""


def overlay_files(
    layer: Layer, platform: Platform, layout: Layout, overlays: Path
) -> tuple[OverlayFile, ...]:
    """What `layer`'s overlays put into it on `platform`, sorted by path.

    `overlays` is the project's folder; the layer's own has its name. Links are
    kept where they lead to something inside the directory that is copied.
    Raises ComposeError for a source that is missing, is empty, or leaves the
    layer's folder; for a target that leaves the layer; and where two overlays
    have one path without `overwrite`.
    """
    files: dict[str, OverlayFile] = {}
    for copy in layer.overlays(platform):
        reading = _Reading(
            layer=layer, platform=platform, layout=layout, folder=overlays / layer.name, copy=copy
        )
        for file in reading.files():
            if file.path in files and not copy.overwrite:
                raise reading.error(
                    "two overlays have one path",
                    file.path,
                    remedy="set overwrite = true for the one that shall win",
                )
            files[file.path] = file
    return tuple(file for _, file in sorted(files.items()))


def overlay_set(
    layer: Layer,
    platform: Platform,
    layout: Layout,
    overlays: Path,
    settings: FrameSettings,
    cache: FrameCache,
) -> FrameSet | None:
    """The frames of `layer`'s overlays, from the cache or made now; None if it has none.

    Raises ComposeError as `overlay_files` does.
    """
    files = overlay_files(layer, platform, layout, overlays)
    if not files:
        return None
    digests = {file.path: _digest(file) for file in files}
    inputs = [text for file in files for text in _identity(file, digests)]
    key = frame_key("overlay", layer.name, *inputs, settings=settings)
    if found := cache.get(key):
        return found
    parts = plan_parts(files, lambda file: (file.path, file.size))
    make = partial(_make_frame, layer.name, settings, cache, digests)
    frames = run_parts(
        [Part(cost=sum(file.size for file in part), run=partial(make, part)) for part in parts]
    )
    made = FrameSet(key=key, frames=tuple(frames), paths=tuple(file.path for file in files))
    cache.put(made)
    return made


def _identity(file: OverlayFile, digests: Mapping[str, str]) -> tuple[str, str, str]:
    kind = "link" if file.link is not None else "executable" if file.executable else "file"
    return file.path, kind, digests[file.path]


def _digest(file: OverlayFile) -> str:
    """The sha256 (hex) of a file's contents, or a link's target."""
    from stackbuild.transfer import sha256_file

    return file.link if file.link is not None else sha256_file(file.source)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """One entry of `copy-files`, being read."""

    layer: Layer
    platform: Platform
    layout: Layout
    folder: Path
    """The layer's folder of overlays."""
    copy: CopyFiles

    def files(self) -> Iterator[OverlayFile]:
        """The files and links it copies."""
        source = self._source()
        if source.is_dir():
            yield from self._below(source)
        elif self.copy.source.endswith("/"):
            raise self.error("the source of an overlay is no directory", source)
        else:
            name = "/" + source.name if self.copy.target.endswith("/") else ""
            yield self._file(source, self._target() + name)

    def error(self, message: str, file: object, remedy: str | None = None) -> ComposeError:
        """An error about this overlay."""
        return ComposeError(
            message, layer=self.layer.name, platform=self.platform, file=file, remedy=remedy
        )

    def _source(self) -> Path:
        relative = posixpath.normpath(self.copy.source)
        source = self.folder / relative
        if path_fault(relative) and relative != ".":
            raise self.error("the source of an overlay leaves its directory", self.copy.source)
        if not source.exists():
            raise self.error("the source of an overlay is missing", source)
        if not source.resolve().is_relative_to(self.folder.resolve()):
            raise self.error("the source of an overlay leaves its directory", source)
        return source

    def _target(self) -> str:
        target = self.copy.target.replace(PLACEHOLDER, self.layout.site_packages, 1)
        target = posixpath.normpath(target or ".")
        if path_fault(target) and target != ".":
            raise self.error("the target of an overlay leaves the layer", self.copy.target)
        return "" if target == "." else target

    def _below(self, source: Path) -> Iterator[OverlayFile]:
        found = False
        for directory, folders, names in os.walk(source):
            links = [name for name in folders if (Path(directory) / name).is_symlink()]
            folders[:] = sorted(set(folders) - set(links) - {"__pycache__"})
            for name in sorted([*names, *links]):
                found = True
                path = Path(directory) / name
                relative = path.relative_to(source).as_posix()
                yield self._file(path, posixpath.join(self._target(), relative), within=source)
        if not found:
            raise self.error("the source of an overlay is an empty directory", source)

    def _file(self, source: Path, path: str, *, within: Path | None = None) -> OverlayFile:
        if fault := path_fault(path):
            raise self.error(f"a path of an overlay {fault}", ascii(path))
        status = source.lstat() if within else source.stat()
        link = self._link(source, path, within) if within and source.is_symlink() else None
        if link is None and not stat.S_ISREG(status.st_mode):
            raise self.error("an overlay can only hold files, directories and links", source)
        return OverlayFile(
            path=path,
            source=source,
            link=link,
            executable=link is None and _is_executable(source, status.st_mode),
            size=0 if link is not None else status.st_size,
            overwrite=self.copy.overwrite,
        )

    def _link(self, source: Path, path: str, within: Path) -> str:
        target = source.readlink().as_posix()
        if not source.resolve().is_relative_to(within.resolve()) or target.startswith("/"):
            raise self.error("a link of an overlay leaves its directory", source)
        if not source.exists():
            raise self.error("a link of an overlay leads to nothing", source)
        try:
            check_link(path, target)
        except IntegrityError as error:
            raise self.error(error.message, source) from None
        return target


def _is_executable(source: Path, mode: int) -> bool:
    if os.name != "nt":
        return bool(mode & 0o111)
    with source.open("rb") as stream:  # Windows keeps no such bit; scripts begin like this
        return stream.read(2) == b"#!"
