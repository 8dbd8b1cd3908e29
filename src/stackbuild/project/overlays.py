"""Overlays: files of the project that are copied into a layer (`copy-files`)."""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.errors import ComposeError
from stackbuild.files import sha256_file
from stackbuild.globs import parts_match
from stackbuild.names import link_fault, path_fault
from stackbuild.spec.overlays import SITE_PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stackbuild.layout import Layout
    from stackbuild.platforms import Platform
    from stackbuild.project.files import ProjectFiles
    from stackbuild.spec.model import CopyFiles, Layer


class OverlayFile(NamedTuple):
    """A file or link of an overlay, and its path in the layer."""

    path: str
    """Relative to the layer."""
    source: Path
    link: str | None
    executable: bool
    size: int
    overwrite: bool
    """Whether it may replace a file of a distribution."""

    @property
    def kind(self) -> str:
        """Its kind in the layer: ``link``, ``executable`` or ``file``."""
        return "link" if self.link is not None else "executable" if self.executable else "file"

    def digest(self) -> str:
        """The sha256 (hex) of its contents, or a link's target. Raises OSError."""
        return self.link if self.link is not None else sha256_file(self.source)


def overlay_files(
    layer: Layer, platform: Platform, layout: Layout, overlays: Path, files: ProjectFiles
) -> tuple[OverlayFile, ...]:
    """The files that `layer`'s overlays copy into it on `platform`, sorted by path.

    `overlays` is the project's folder of overlays; a layer's folder in it has its name. Links are
    kept if their targets are copied too. Raises ComposeError for a source that is missing, has no
    files or is outside the layer's folder; for a target outside the layer; for unreadable files;
    for two overlays with one path without `overwrite`; and for a path that is both a file and a
    directory.
    """
    found: dict[str, OverlayFile] = {}
    try:
        for copy in layer.overlays(platform):
            for file in _Reading(platform, layout, overlays / layer.name, copy, files).files():
                if file.path in found and not copy.overwrite:
                    raise _error(
                        "two overlays have the same path",
                        file.path,
                        "set overwrite = true for the one to use",
                    )
                found[file.path] = file
        if both := _with_parents(map(posixpath.dirname, found)) & found.keys():
            raise _error(
                "a path is a file in one overlay and a directory in another",
                min(both),
                "give one of the two entries in copy-files another `to`",
            )
    except OSError as error:
        raise _error(
            f"a file of an overlay cannot be read: {error.strerror}",
            error.filename,
            "make it readable, or remove it from the overlay",
        ).in_layer(layer.name, platform) from error
    except ComposeError as error:
        raise error.in_layer(layer.name, platform) from error
    return tuple(file for _, file in sorted(found.items()))


_FROM = "correct the `from` of this entry of copy-files, or add the files"
_LINK = "point the link to a file that the same entry copies, or remove it"


def _error(message: str, file: object, remedy: str) -> ComposeError:
    return ComposeError(message, file=file, remedy=remedy)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One entry of `copy-files`, being read."""

    platform: Platform
    layout: Layout
    folder: Path
    """The layer's folder of overlays."""
    copy: CopyFiles
    project: ProjectFiles

    def _leaves(self, source: object) -> ComposeError:
        remedy = f"move the files into {self.folder}, and name them in `from` relative to it"
        return _error("the source of an overlay is outside its directory", source, remedy)

    def files(self) -> Iterator[OverlayFile]:
        """The files and links that it copies."""
        source = self._source(self.copy.base)
        if self.copy.pattern or source.is_dir():
            yield from self._below(source)
            return
        if self.copy.source.endswith("/"):
            raise _error("the source of an overlay is not a directory", source, _FROM)
        if not self.copy.include_ignored and self.project.is_ignored(source):
            raise _error(
                "git ignores the source of an overlay, so it is not published",
                source,
                "set include-ignored = true for this entry, or add the file to git",
            )
        target = self._target()
        is_directory = self.copy.target.endswith("/") or not target
        yield self._file(source, posixpath.join(target, source.name) if is_directory else target)

    def _source(self, relative: str) -> Path:
        relative = posixpath.normpath(relative or ".")
        source = self.folder / relative
        if path_fault(relative) and relative != ".":
            raise self._leaves(self.copy.source)
        if not source.exists():
            raise _error("the source of an overlay is missing", source, _FROM)
        inside = source.resolve().is_relative_to(self.folder.resolve())
        if not inside or not self.project.is_inside(source):
            raise self._leaves(source)
        return source

    def _target(self) -> str:
        target = self.copy.target.replace(SITE_PACKAGES, self.layout.site_packages, 1)
        target = posixpath.normpath(target or ".")
        if path_fault(target) and target != ".":
            raise _error(
                "the target of an overlay is outside the layer",
                self.copy.target,
                "give `to` a path in the layer, without ..",
            )
        return "" if target == "." else target

    def _below(self, source: Path) -> Iterator[OverlayFile]:
        if not source.is_dir():
            raise _error("the source of an overlay is not a directory", source, _FROM)
        paths = self._matching(source, include_ignored=self.copy.include_ignored)
        if not paths:
            raise self._empty(source)
        copied = _with_parents(path.relative_to(source).as_posix() for path in paths)
        for path in paths:
            relative = path.relative_to(source).as_posix()
            yield self._file(path, posixpath.join(self._target(), relative), source, copied)

    def _matching(self, source: Path, *, include_ignored: bool) -> list[Path]:
        paths = self.project.below(source, include_ignored=include_ignored)
        pattern = self.copy.pattern
        if not pattern:
            return list(paths)
        return [path for path in paths if parts_match(path.relative_to(source).parts, pattern)]

    def _empty(self, source: Path) -> ComposeError:
        if not self.copy.include_ignored and self._matching(source, include_ignored=True):
            return _error(
                "git ignores all files of an overlay, so none of them is published",
                self.copy.source,
                "set include-ignored = true for this entry, or add the files to git",
            )
        if self.copy.pattern:
            return _error(
                "the source of an overlay matches no file",
                self.copy.source,
                f"correct the pattern, or add files that match to {source}",
            )
        return _error(
            "the source of an overlay is an empty directory",
            source,
            "add files to it, or remove this entry of copy-files",
        )

    def _file(
        self,
        source: Path,
        path: str,
        within: Path | None = None,
        copied: frozenset[str] = frozenset(),
    ) -> OverlayFile:
        if fault := path_fault(path, self.platform.os):
            raise _error(
                f"a path of an overlay {fault}",
                ascii(path),
                "rename the file, or change `to`",
            )
        status = source.lstat() if within else source.stat()
        link = self._link(source, path, within, copied) if within and source.is_symlink() else None
        if link is not None and self.platform.os == "windows":
            # Creating a link needs a privilege there.
            link, status = None, source.stat()
            if stat.S_ISDIR(status.st_mode):
                raise _error(
                    "an overlay for Windows cannot contain a link to a directory",
                    source,
                    f"replace the link with the files, or leave it out on {self.platform}",
                )
        if link is None and not stat.S_ISREG(status.st_mode):
            raise _error(
                "an overlay can only contain files, directories and links",
                source,
                "remove it, or exclude it in the `from` of this entry",
            )
        return OverlayFile(
            path=path,
            source=source,
            link=link,
            executable=link is None and _is_executable(source, status.st_mode),
            size=0 if link is not None else status.st_size,
            overwrite=self.copy.overwrite,
        )

    def _link(self, source: Path, path: str, within: Path, copied: frozenset[str]) -> str:
        target = source.readlink().as_posix()
        real = Path(os.path.realpath(source))
        base = Path(os.path.realpath(within))
        if target.startswith("/") or not real.is_relative_to(base):
            raise _error("a link of an overlay leads out of its directory", source, _LINK)
        if not source.exists():
            raise _error("a link of an overlay is broken or leads to itself", source, _LINK)
        if fault := link_fault(path, target):
            raise _error(f"the target {target!r} of a link {fault}", source, _LINK)
        if real != base and real.relative_to(base).as_posix() not in copied:
            raise _error(
                "the target of a link of an overlay is not copied",
                source,
                "extend the entry's `from` to the target of the link, or remove the link",
            )
        return target


def _with_parents(paths: Iterable[str]) -> frozenset[str]:
    """`paths` and their parent directories."""
    found = set()
    for path in paths:
        while path and path not in found:
            found.add(path)
            path = posixpath.dirname(path)  # noqa: PLW2901 - walks up to the top
    return frozenset(found)


def _is_executable(source: Path, mode: int) -> bool:
    if os.name != "nt":
        return bool(mode & 0o111)
    with source.open("rb") as stream:  # Windows has no executable bit; scripts begin like this
        return stream.read(2) == b"#!"
