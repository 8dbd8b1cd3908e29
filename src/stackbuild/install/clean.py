"""Removing what can be made or fetched again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild.files import remove_tree, tree_size
from stackbuild.install.change import explained
from stackbuild.install.root import Root
from stackbuild.install.store import Store
from stackbuild.platforms import Platform
from stackbuild.registry.base import INDEX_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackbuild.messages import Messages
    from stackbuild.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """Something that was removed, or that could be."""

    what: str
    path: Path
    size: int
    """Bytes of disk that go with it: files that have no other hard link."""


def clean_root(root: Path, messages: Messages) -> list[Freed]:
    """Remove old generations, frames in the store that nobody uses, and leftovers.

    The generation in use stays as it is. A frame in a store that several roots share is
    used when one of its files has another hard link. Processes that still run in
    an old generation lose it. Raises InstallError where no root is.
    """
    where = Root(root)
    where.installed_state()
    with explained(where), where.locked(messages):
        state = where.installed_state()
        store = Store(state.store or where.own_store)
        with store.locked(messages):
            freed = list(_remove_old(where))
            freed += _remove_path("unfinished work", where.staging)
            freed += _remove_path("unfinished work", store.staging)
            where.sweep()
            used = {
                placed.frame.sha256 for layer in state.layers.values() for placed in layer.frames
            }
            freed += _remove_frames(store, used)
            store.sweep()
    return freed


def _remove_old(root: Root) -> Iterator[Freed]:
    current = root.number()
    for number in root.numbers():
        if number != current:
            yield from _remove_path(f"generation {number}", root.generations / str(number))


def _remove_frames(store: Store, used: set[str]) -> list[Freed]:
    """One line for all frames, of which there may be hundreds."""
    gone = [sha256 for sha256 in store.frames() if sha256 not in used and _is_unused(store, sha256)]
    size = sum(_own_size(store.directory / sha256) for sha256 in gone)
    for sha256 in gone:
        store.discard(sha256)
    if not gone:
        return []
    return [
        Freed(
            what=f"{len(gone)} frame{'s' * (len(gone) != 1)} of no layer",
            path=store.directory,
            size=size,
        )
    ]


def _is_unused(store: Store, sha256: str) -> bool:
    """Whether no file of the frame has a hard link in a generation of any root."""
    listing = store.listing(sha256)
    if listing is None:
        return True
    tree = store.tree(sha256)
    return all(_links(tree / file.path) < 2 for file in listing.files)


def _links(path: Path) -> int:
    try:
        return path.lstat().st_nlink
    except FileNotFoundError:
        return 0


def clean_builds(workspace: Workspace, messages: Messages) -> list[Freed]:
    """Remove the local roots that `build` has made, and what it installed them from.

    Other files stay: many tools use a directory of that name, and nothing but the
    names that `build` itself gives tells ours from theirs.
    """
    freed = []
    published = workspace.build_exports
    if (published / INDEX_NAME).is_file() and not published.is_symlink():
        freed += _remove_path("archives of build", published, tree_size(published))
    for platform in Platform:
        path = workspace.build / platform
        if Root(path).is_one() and not path.is_symlink():
            with Root(path).locked(messages):
                freed += _remove_path("build root", path, tree_size(path))
    return freed


def caches(workspace: Workspace) -> list[Freed]:
    """The caches that are there, with their sizes; nothing is removed."""
    named = {
        "frames": workspace.frames,
        "interpreters": workspace.runtimes,
        "wheels built from source": workspace.builds,
        "addresses of files": workspace.addresses,
        "uv's downloads": workspace.uv,
    }
    return [
        Freed(what=f"cache of {name}", path=path, size=tree_size(path))
        for name, path in named.items()
        if path.is_dir()
    ]


def clean_caches(workspace: Workspace) -> list[Freed]:
    """Remove the caches, which all projects of this user share."""
    freed = caches(workspace)
    for cache in freed:
        remove_tree(cache.path)
    return freed


def prune_frames(workspace: Workspace, days: int) -> Freed:
    """Remove the frames of the cache that no command has used for `days` days."""
    from stackbuild.frames.cache import FrameCache

    size = FrameCache(workspace.frames).prune((), grace=days * 24 * 3600)
    return Freed(what="frames not used lately", path=workspace.frames, size=size)


def _remove_path(what: str, path: Path, size: int | None = None) -> list[Freed]:
    if not os.path.lexists(path):
        return []
    freed = Freed(what=what, path=path, size=_own_size(path) if size is None else size)
    remove_tree(path)
    return [freed]


def _own_size(path: Path) -> int:
    """Bytes of the files below `path` that have no hard link elsewhere."""
    total = 0
    pending = [os.fspath(path)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif (status := entry.stat(follow_symlinks=False)).st_nlink == 1:
                    total += status.st_size
    return total
