"""The projects of the repository that layers are built from, and their digests."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stackbuild.errors import LockError
from stackbuild.files import is_inside, sha256_file, why
from stackbuild.lock.model import LockedFile, ProjectSource
from stackbuild.mark import MARK
from stackbuild.strictjson import digest_of
from stackbuild.transport.urls import path_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from stackbuild.lock.model import LayerLock
    from stackbuild.project.files import ProjectFiles


_NOT_SOURCES = re.compile(
    r"(wheelhouse|exports|build|\.stackbuild)/|layers/[^/]+/(pylock\.[^/]+|runtime)\.toml$"
    r"|venvstacks[^/]*\.toml$|pydist/\."
)
"""Of a project whose directory has the spec, what stackbuild reads and writes there."""

_PRODUCTS = re.compile(
    r"(build|dist|wheelhouse|exports|venv|env|htmlcov)(/|$)"
    r"|(.*/)?(\.[^/]*|node_modules|[^/]*\.egg-info|_version\.py|[^/]*\.(so|pyd|o|log))$"
)
"""Of what git ignores in a project: what tools and builds make there, and builds make again."""
_SHOWN = 3


def files_of(path: str, files: ProjectFiles) -> list[Path]:
    """The files of the project at `path`: those that git tracks or would track.

    So named pipes and sockets are left out. Directories that a command has made and marked
    (`stackbuild.mark`) are, too. Raises ComposeError if they cannot be listed, and LockError if
    there are none.
    """
    directory = files.project / path
    there = files.below(directory)
    made = {file.parent for file in there if file.name == MARK}
    found = [
        file
        for file in there
        if (file.is_file() or file.is_symlink())
        and made.isdisjoint(file.parents)
        and not _NOT_SOURCES.match(os.path.relpath(file, files.project).replace(os.sep, "/"))
    ]
    if not found:
        raise LockError(
            "a project that a wheel is built from has no files",
            file=directory,
            expected="files that git tracks or would track",
            found="git ignores all of them, or the directory is empty",
            remedy="remove the directory from .gitignore, or require another one",
        )
    return found


class OwnProjects:
    """The projects of one repository; each is read once. Thread-safe."""

    def __init__(self, files: ProjectFiles) -> None:
        self._files = files
        self._found: dict[str, ProjectSource] = {}

    def source(self, path: str) -> ProjectSource:
        """The project at `path`, relative to the spec, with its present digest.

        Raises ComposeError and LockError as `files_of` does, and LockError for a link that leads
        out of it.
        """
        if path not in self._found:
            directory = self._files.project / path
            digest = digest_of_files(directory, files_of(path, self._files))
            self._found[path] = ProjectSource(path=path, sha256=digest)
        return self._found[path]

    def notes(self) -> list[str]:
        """A sentence for each project that was read and has files that git ignores."""
        texts = []
        for path in self._found:
            found = self._files.ignored_in(self._files.project / path)
            names = [name for name in found if not _PRODUCTS.match(name)]
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            if names:
                texts.append(
                    f"{path}: git ignores {', '.join(names[:_SHOWN])}{more}, so the wheel is built"
                    " without; to include such files, change .gitignore or use `git add --force`"
                )
        return texts

    def changed(self, lock: LayerLock, given: Mapping[str, str]) -> list[str]:
        """The projects and files of the repository that are not those `lock` was made from.

        `given` are the addresses of the files that the layer requires, by name.
        """
        files = [
            file
            for item in lock.distributions
            for file in (item.wheel, item.source)
            if isinstance(file, LockedFile)
            and (path := path_of(urlsplit(given.get(file.name, ""))))
            and (path.stat().st_size, sha256_file(path)) != (file.size, file.sha256)
        ]
        return [file.name for file in files] + [
            item.source.path
            for item in lock.distributions
            if isinstance(item.source, ProjectSource)
            and not (
                (self._files.project / item.source.path).is_dir()
                and self.source(item.source.path) == item.source
            )
        ]


def digest_of_files(directory: Path, paths: Iterable[Path]) -> str:
    """The sha256 (hex) of the names, modes and contents of `paths` in `directory`.

    Raises LockError for a link that leads out of it, and for a file that cannot be read.
    """
    described: list[tuple[str, str, str]] = []
    for path in paths:
        name = path.relative_to(directory).as_posix()
        if not path.is_symlink():
            try:
                kind = "executable" if path.stat().st_mode & 0o100 else "file"
                described.append((name, kind, sha256_file(path)))
            except OSError as error:
                raise LockError(
                    f"a file of a project that a wheel is built from {why(error)}",
                    file=path,
                    remedy="make it readable, or let git ignore it",
                ) from error
        elif is_inside(path, directory) and not path.readlink().is_absolute():
            described.append((name, "link", path.readlink().as_posix()))
        else:
            raise LockError(
                "a link leads out of a project that a wheel is built from",
                file=path,
                expected=f"a relative link to a file in {directory.name}",
                found=f"a link to {path.readlink()}",
                remedy="replace the link by a copy of the file, or let git ignore it",
            )
    return digest_of(described)
