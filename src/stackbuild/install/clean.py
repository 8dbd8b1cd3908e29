"""Remove files that can be recreated or fetched again."""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import TYPE_CHECKING

from stackbuild import windows
from stackbuild.compose.export_directory import LOCK
from stackbuild.errors import InstallError, quoted
from stackbuild.files import remove_tree, tree_size
from stackbuild.install.history import processes
from stackbuild.install.report import CleanReport, Freed
from stackbuild.install.root import Root
from stackbuild.install.state import STATE_DIRECTORY, state_or_none
from stackbuild.install.store import Store
from stackbuild.mark import MARK, Kind, check_mark, read_mark
from stackbuild.platforms import Platform
from stackbuild.registry.base import INDEX_NAME
from stackbuild.workspace import open_workspace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from stackbuild.install.state import State
    from stackbuild.messages import Messages
    from stackbuild.workspace import Workspace


def clean(
    project: Path,
    root: Path | None,
    messages: Messages,
    *,
    keep: int,
    older_than: int,
    all_caches: bool,
    unused_for: int | None,
) -> CleanReport:
    """Clean `root`, or the local roots in the directory `project` if it is None; then the caches.

    `keep` and `older_than` are as for `clean_root`; `all_caches` removes the caches, `unused_for`
    only the frames not used for this many days. Raises the errors of the functions below.
    """
    workspace = open_workspace(project.absolute(), read_only=True)
    freed = (
        clean_builds(workspace, messages)
        if root is None
        else clean_root(root, messages, keep=keep, older_than=older_than)
    )
    if unused_for is not None:
        freed.append(prune_frames(workspace, unused_for))
    if all_caches:
        freed += clean_caches(workspace)
    kept = caches(workspace) if root is None and not all_caches else []
    return CleanReport(freed=tuple(freed), kept=tuple(kept))


def clean_root(
    root: Path, messages: Messages, *, keep: int = 1, older_than: int = 0
) -> list[Freed]:
    """Remove old generations, unused frames in the store and leftovers of killed processes.

    The generation in use is kept, the newest others, `keep` together, those made in the last
    `older_than` days, and those that processes run in (`history.processes`). In a store shared by
    several roots, a frame is in use if one of its files has another hard link. Raises InstallError,
    before anything is removed, if there is no root or if the root does not use the store.
    """
    where = Root(root)
    where.installed_state()
    where.check_free(())
    with where.explained(), where.locked(messages):
        state = where.installed_state()
        stores = _stores(where, state)
        kept = _kept(where, keep, older_than, messages)
        freed = list(_remove_old(where, kept))
        freed += _remove_path("unfinished work", where.staging)
        where.sweep()
        states = [state_or_none(where.generation(number)) for number in kept]
        used = {
            placed.frame.sha256
            for state in filter(None, states)
            for layer in state.layers.values()
            for placed in layer.frames
        }
        for store in stores:
            in_use = used if store.directory == (state.store or where.own_store) else set()
            with store.locked(messages):
                freed += _remove_path("unfinished work", store.staging)
                freed += _remove_frames(store, in_use)
                store.sweep()
    return freed


def _stores(root: Root, state: State) -> list[Store]:
    """The stores to clean: the root's own, and the one named in its state.

    A damaged or edited state file must not cause the removal of unrelated directories.
    """
    mark = root.claim()
    stores = [Store(path) for path in dict.fromkeys((root.own_store, state.store)) if path]
    present = [store for store in stores if store.directory.is_dir()]
    for store in present:
        store.check()
        if not store.serves(mark):
            raise InstallError(
                f"{root.path} has never used the store {store.directory}",
                file=store.directory,
                expected="a store that layers of this root were installed from",
                remedy="nothing was removed; to use the store: stackbuild install "
                f"{_asked(state)} --from PLACE --root {quoted(root.path)} "
                f"--store {quoted(store.directory)}",
            )
    return present


def _asked(state: State) -> str:
    return " ".join(state.layers[name].layer for name in state.asked) or "LAYER"


def _kept(root: Root, keep: int, days: int, messages: Messages) -> set[int]:
    """The generations to keep; see `clean_root`."""
    current = root.number()
    others = [number for number in reversed(root.numbers()) if number != current]
    since = time.time() - days * 24 * 3600
    kept = {current, *others[: max(keep - 1, 0)]}
    kept |= {number for number in others if days and _made(root.generation(number)) > since}
    running = processes(root) if kept < {current, *others} else {}
    if running is None:
        messages.note(
            "this system does not tell which processes run in a generation; those that run in a "
            "removed one lose its files"
        )
    for number in sorted((running or {}).keys() - kept):
        ids = ", ".join(map(str, (running or {})[number]))
        messages.note(f"generation {number} is kept, because processes run in it: {ids}")
    return kept | (running or {}).keys()


def _made(generation: Path) -> float:
    """When `generation` was made, in seconds since the epoch."""
    state = state_or_none(generation)
    if state is None or state.created is None:
        return generation.stat().st_mtime
    return datetime.fromisoformat(state.created).timestamp()


def _remove_old(root: Root, kept: Collection[int]) -> Iterator[Freed]:
    for number in root.numbers():
        path = root.generation(number)
        if number not in kept and (path / STATE_DIRECTORY).is_dir():
            yield from _remove_path(f"generation {number}", path)


def _remove_frames(store: Store, used: set[str]) -> list[Freed]:
    """One line for all frames; there may be hundreds."""
    gone = [sha256 for sha256 in store.frames() if sha256 not in used and _is_unused(store, sha256)]
    size = sum(_own_size(store.directory / sha256) for sha256 in gone)
    for sha256 in gone:
        store.discard(sha256)
    if not gone:
        return []
    return [
        Freed(
            what=f"{len(gone)} unused frame{'s' * (len(gone) != 1)}",
            path=store.directory,
            size=size,
        )
    ]


def _is_unused(store: Store, sha256: str) -> bool:
    """Whether no generation of any root links to a file of the frame."""
    listing = store.listing(sha256)
    if listing is None:
        return True
    tree = windows.extended(store.tree(sha256))
    return all(_links(windows.inside(tree, file.path)) < 2 for file in listing.files)


def _links(path: str) -> int:
    try:
        return os.lstat(path).st_nlink
    except FileNotFoundError:
        return 0


def clean_builds(workspace: Workspace, messages: Messages) -> list[Freed]:
    """Remove the local roots that `build` made, and the archives it installed them from.

    Other files are kept: directories without the mark, because many tools use a directory of that
    name, and foreign files in a marked directory.
    """
    freed = []
    published = workspace.build_exports
    if _is_marked(published, Kind.EXPORTS):
        ours = [published / name for name in (INDEX_NAME, *Platform)]
        freed += _remove_ours("archives of build", published, [*ours, published / LOCK])
    for platform in Platform:
        path = workspace.build / platform
        if _is_marked(path, Kind.ROOT):
            root = Root(path)
            with root.locked(messages):
                freed += _remove_ours("build root", path, root.ours())
    return freed


def _is_marked(path: Path, kind: Kind) -> bool:
    return not path.is_symlink() and read_mark(path, kind) is not None


def _remove_ours(what: str, directory: Path, ours: Iterable[Path]) -> list[Freed]:
    """Remove the paths `ours` and the mark, and `directory` if nothing is left in it."""
    before = tree_size(directory)
    for path in (*ours, directory / MARK):
        remove_tree(path)
    if not any(directory.iterdir()):
        directory.rmdir()
    return [Freed(what=what, path=directory, size=before - tree_size(directory))]


def caches(workspace: Workspace) -> list[Freed]:
    """The existing caches with their sizes; nothing is removed."""
    named = {
        "frames": workspace.frames,
        "interpreters": workspace.runtimes,
        "wheels built from source": workspace.builds,
        "addresses of files": workspace.addresses,
        "uv's downloads": workspace.uv,
        "layers of images": workspace.images,
        "seals of archives": workspace.cache / "published",
    }
    return [
        Freed(what=f"cache of {name}", path=path, size=tree_size(path))
        for name, path in named.items()
        if path.is_dir()
    ]


def clean_caches(workspace: Workspace) -> list[Freed]:
    """Remove the caches, which all projects of this user share.

    Raises UsageError if their directory contains other files.
    """
    check_mark(workspace.cache, Kind.CACHE)
    freed = caches(workspace)
    for cache in freed:
        remove_tree(cache.path)
    return freed


def prune_frames(workspace: Workspace, days: int) -> Freed:
    """Remove the cached frames that no command has used for `days` days.

    Raises UsageError if their directory contains other files.
    """
    check_mark(workspace.cache, Kind.CACHE)
    from stackbuild.frames.cache import FrameCache

    size = FrameCache(workspace.frames).prune((), grace=days * 24 * 3600)
    return Freed(what="frames not used lately", path=workspace.frames, size=size)


def _remove_path(what: str, path: Path) -> list[Freed]:
    if not os.path.lexists(path):
        return []
    freed = Freed(what=what, path=path, size=_own_size(path))
    remove_tree(path)
    return [freed]


def _own_size(path: Path) -> int:
    """Bytes of the files below `path` that have no hard link elsewhere."""
    total = 0
    pending = [windows.extended(path)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif (status := entry.stat(follow_symlinks=False)).st_nlink == 1:
                    total += status.st_size
    return total
