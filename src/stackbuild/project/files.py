"""Select the files of a project that may be published: those that git tracks or would track.

Outside a git work tree, and among untracked files, the names in `USUAL` are left out. Directories
are only read here, so an unreadable directory is always an error.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.errors import ComposeError
from stackbuild.files import is_inside, is_top, work_tree
from stackbuild.project.git import Status, ignores_all, is_submodule, status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stackbuild.spec.model import Layer

NEVER = frozenset((".git", "__pycache__"))
"""Never in a layer, tracked or not: bytecode is made when the layer is composed."""

USUAL = (
    *(".hg", ".svn", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"),
    *("*.pyc", "*.pyo", ".DS_Store", "._*", "Thumbs.db", "desktop.ini"),
    *("*~", "#*#", ".#*", ".*.sw[a-p]", "*.orig", "*.rej"),
)
"""Names of files and directories that are left out unless git tracks them: those of version
control, caches, operating systems and editors."""

_SHOWN = 5


def project_files(project: Path, overlays: Path, layers: Iterable[Layer]) -> ProjectFiles:
    """The files of `project`, whose folder `overlays` and modules go into `layers`."""
    roots: list[Path] = []
    for layer in layers:
        if layer.copy_files or layer.platform_copy_files:
            roots.append(overlays / layer.name)
        roots += layer.modules
    return ProjectFiles(project, roots)


class ProjectFiles:
    """The files of one project. Runs git once for all `roots`. Thread-safe."""

    def __init__(self, project: Path, roots: Iterable[Path] = ()) -> None:
        self.project = project
        self._real = _real(project)
        self._roots = [_real(root) for root in roots]
        self._lock = RLock()
        self._trees: dict[Path, _Tree] = {}
        self._holds: dict[Path, bool] = {}
        self._untracked: dict[str, None] = {}
        self._ignored: dict[str, None] = {}
        self._missing: dict[str, None] = {}

    def is_inside(self, path: Path) -> bool:
        """Whether `path` is in the project; follows links."""
        return is_inside(path, self._real)

    def may_publish(self, path: Path, module: Path) -> bool:
        """Whether `path` of `module` is in the project; follows links.

        The files of a module that the spec names outside of the project may be anywhere in the
        work tree of the project; without git, they are those of the module alone.
        """
        if self.is_inside(path):
            return True
        named_inside = Path(os.path.normpath(module)).is_relative_to(os.path.normpath(self.project))
        return not named_inside and is_inside(path, work_tree(self._real) or module)

    def is_ignored(self, path: Path) -> bool:
        """Whether git ignores the file that `path` leads to. Raises ComposeError."""
        real = _real(path)
        with self._lock:
            tree = self._tree(real)
            name = tree.name(real) if tree else ""
            if tree and name in tree.status.untracked:
                self._untracked[self._shown(real)] = None
            return tree is not None and tree.status.ignores(name)

    def below(self, directory: Path, *, include_ignored: bool = False) -> tuple[Path, ...]:
        """All files and links in `directory`, sorted; links are not followed.

        With `include_ignored`, files that git ignores are included. Raises ComposeError if a
        directory cannot be read, if git fails, and for a submodule that is not checked out.
        """
        found: list[Path] = []
        with self._lock:
            waiting = [self._place(directory)]
            while waiting:
                place = waiting.pop()
                for entry in _entries(place):
                    path = place.path / entry.name
                    if self._is_left_out(place, entry.name, include_ignored=include_ignored):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(self._inner(place, entry.name))
                    else:
                        found.append(path)
        return tuple(sorted(found))

    def ignored_in(self, directory: Path) -> list[str]:
        """The files and directories below `directory` that `below` left out, as git ignores them.

        Relative to `directory`, sorted; without names in `USUAL`.
        """
        prefix = f"{self._shown(_real(directory))}/".removeprefix("./")
        names = [name for name in self._ignored if name.startswith(prefix)]
        return sorted(name.removeprefix(prefix) for name in names)

    def notes(self) -> list[str]:
        """Notes about untracked, ignored and missing files, for the user."""
        texts = (
            ("not in git yet, but published", self._untracked),
            ("ignored by git and not published", self._ignored),
            ("tracked by git but missing", self._missing),
        )
        return [f"{text}: {_listed(list(paths))}" for text, paths in texts if paths]

    def _is_left_out(self, place: _Place, name: str, *, include_ignored: bool) -> bool:
        if name in NEVER:
            return True
        usual = place.is_usual or any(fnmatchcase(name, pattern) for pattern in USUAL)
        tree = place.tree
        if tree is None:
            return usual
        path = place.name_of(name)
        is_ignored = place.is_ignored or not tree.status.ignored.isdisjoint((path, f"{path}/"))
        if is_ignored and not include_ignored:
            if not usual:
                self._ignored[self._shown(tree.top / path)] = None
            return True
        if path not in tree.status.untracked:
            return is_ignored and usual
        if not usual:
            self._untracked[self._shown(tree.top / path)] = None
        return usual

    def _place(self, directory: Path) -> _Place:
        """The place of the first directory."""
        real = _real(directory)
        tree = self._tree(real)
        if tree is None:
            return _Place(directory)
        name = tree.name(real)
        prefix = f"{name}/" if name else ""
        for gone in tree.status.missing:
            if gone.startswith(prefix):
                self._missing[self._shown(tree.top / gone)] = None
        return _Place(directory, tree, name, is_ignored=tree.status.ignores(name))

    def _inner(self, place: _Place, name: str) -> _Place:
        """The directory `name` in `place`."""
        path = place.path / name
        if place.tree is None:
            return _Place(path)
        if is_top(path):
            if f"{place.name_of(name)}/" in place.tree.status.untracked:
                self._untracked[f"{self._shown(_real(path))}/"] = None
            return self._place(path)
        return _Place(
            path,
            place.tree,
            place.name_of(name),
            is_ignored=place.is_ignored or f"{place.name_of(name)}/" in place.tree.status.ignored,
            is_usual=place.is_usual or any(fnmatchcase(name, pattern) for pattern in USUAL),
        )

    def _tree(self, directory: Path) -> _Tree | None:
        """The work tree around the real path `directory`; None if git's rules do not apply."""
        top = work_tree(directory)
        if top is None or not self._rules(top):
            return None
        known = self._trees.get(top)
        if known and known.covers(directory):
            return known
        asked = {directory, *(root for root in self._roots if work_tree(root) == top)}
        asked |= known.asked if known else set()
        names = [root.relative_to(top).as_posix() for root in asked]
        self._trees[top] = _Tree(top, frozenset(asked), status(top, names))
        return self._trees[top]

    def _rules(self, top: Path) -> bool:
        """Whether the rules of the work tree `top` apply: it does not ignore the whole project."""
        if top not in self._holds:
            is_above = top != self._real and self._real.is_relative_to(top)
            name = self._real.relative_to(top).as_posix() if is_above else ""
            self._holds[top] = not (is_above and ignores_all(top, name))
        return self._holds[top]

    def _shown(self, path: Path) -> str:
        """`path` for a message."""
        inside = path.is_relative_to(self._real)
        return (path.relative_to(self._real) if inside else path).as_posix()


class _Tree(NamedTuple):
    """A work tree and its git status."""

    top: Path
    asked: frozenset[Path]
    status: Status

    def covers(self, path: Path) -> bool:
        return any(path.is_relative_to(root) for root in self.asked)

    def name(self, path: Path) -> str:
        """The real path `path`, as named by git."""
        name = path.relative_to(self.top).as_posix()
        return "" if name == "." else name


class _Place(NamedTuple):
    """A directory that is being read."""

    path: Path
    tree: _Tree | None = None
    name: str = ""
    """The name in git, with links in parent directories resolved."""
    is_ignored: bool = False
    is_usual: bool = False
    """Whether it is below a name in `USUAL`."""

    def name_of(self, entry: str) -> str:
        return f"{self.name}/{entry}" if self.name else entry


def _entries(place: _Place) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place.path) as found:
            entries = list(found)
    except OSError as error:
        raise ComposeError(
            f"a directory of the project cannot be read: {error.strerror}",
            file=place.path,
            remedy="make it readable, or exclude it from the layer",
        ) from error
    if not entries and place.tree and is_submodule(place.tree.top, place.name):
        raise ComposeError(
            "a git submodule is not checked out",
            file=place.path,
            remedy="run `git submodule update --init --recursive`",
        )
    return entries


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _listed(paths: list[str]) -> str:
    more = len(paths) - _SHOWN
    return ", ".join(sorted(paths)[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
