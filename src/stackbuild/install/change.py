"""From one generation to the next: fetch, link, switch."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild.errors import InstallError
from stackbuild.files import DISK_FULL, FORBIDDEN, remove_tree
from stackbuild.install.fetch import fetch_frames, missing_runs
from stackbuild.install.generation import carry_over, link_layer
from stackbuild.install.home import adjustments
from stackbuild.install.state import damaged, mark_damaged, write_state
from stackbuild.install.store import Store
from stackbuild.platforms import host_platform

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackbuild.compose.manifest import Manifest
    from stackbuild.install.root import Root
    from stackbuild.install.state import State
    from stackbuild.messages import Messages
    from stackbuild.registry.find import Published


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallReport:
    """What an install or uninstall has done."""

    root: Path
    state: State
    """What the root holds now."""
    generation: int
    """Its number."""
    added: tuple[str, ...] = ()
    """Directories of layers that are new, in another version, or brought anew."""
    removed: tuple[str, ...] = ()
    """Directories of layers that are gone."""
    fetched_frames: int = 0
    fetched_bytes: int = 0
    """Compressed."""
    changed: bool = False
    """Whether there is a new generation."""


def apply(
    root: Root, before: State, after: State, published: Published | None, messages: Messages
) -> InstallReport:
    """Make `after` the state of `root`, whose lock is held; `before` is what it was.

    What is missing comes from `published`. Where nothing changes, no generation is made.
    """
    store = Store(after.store or root.own_store)
    with store.locked(messages):
        root.sweep()
        wanted = [m for m in after.layers.values() if published is not None and published.has(m)]
        repaired = _discard_damaged(root, wanted, store)
        runs = missing_runs(wanted, store)
        if not runs and not repaired and after.same_tree(before) and root.numbers():
            root.link_layers(after.layers)
            return InstallReport(root=root.path, state=after, generation=root.number())
        fetched = fetch_frames(runs, published, store, messages) if runs and published else 0
        generation = _build(root, before, after, store, messages)
        root.switch(generation, after.layers)
    return InstallReport(
        root=root.path,
        state=after,
        generation=int(generation.name),
        added=tuple(
            name
            for name, manifest in after.layers.items()
            if name in repaired
            or name not in before.layers
            or before.layers[name].digest != manifest.digest
        ),
        removed=tuple(name for name in before.layers if name not in after.layers),
        fetched_frames=sum(len(run.frames) for run in runs),
        fetched_bytes=fetched,
        changed=True,
    )


def _discard_damaged(root: Root, wanted: list[Manifest], store: Store) -> set[str]:
    """Take frames that `verify` found damaged out of the store.

    Only those that can be had again. Returns the directories of their layers.
    """
    current = root.current()
    if current is None:
        return set()
    layers, frames = damaged(current)
    for manifest in wanted:
        for placed in manifest.frames:
            if placed.frame.sha256 in frames:
                store.discard(placed.frame.sha256)
    return {manifest.directory for manifest in wanted if manifest.directory in layers}


def _build(root: Root, before: State, after: State, store: Store, messages: Messages) -> Path:
    """The directory of a new generation that holds `after`."""
    final = root.generations / str(max(root.numbers(), default=0) + 1)
    current = root.current()
    work = root.staging / final.name
    work.mkdir(parents=True)
    try:
        copied = False
        carried = []
        for name, manifest in after.layers.items():
            if all(store.has(placed.frame.sha256) for placed in manifest.frames):
                copied |= link_layer(manifest, store, work / name)
            elif current is not None and _same(before, manifest):
                # Neither the store nor this registry has its frames: what is installed serves.
                copied |= carry_over(current / name, work / name)
                carried.append(name)
            else:
                # Says which frame is missing.
                link_layer(manifest, store, work / name)
        if copied:
            messages.note(f"files were copied: {store.directory} cannot be linked from {root.path}")
        if after.platform == host_platform():
            for adjustment in adjustments(after.layers.values(), work, final):
                adjustment.apply()
        write_state(after, work)
        _keep_marks(current, carried, work)
        root.generations.mkdir(exist_ok=True)
        work.rename(final)
    finally:
        remove_tree(root.staging)
    return final


def _same(before: State, manifest: Manifest) -> bool:
    installed = before.layers.get(manifest.directory)
    return installed is not None and installed.digest == manifest.digest


def _keep_marks(current: Path | None, carried: list[str], work: Path) -> None:
    """What was damaged and carried over is damaged still."""
    layers, frames = damaged(current) if current is not None else ([], [])
    if still := [name for name in layers if name in carried]:
        mark_damaged(work, still, frames)


@contextmanager
def explained(root: Root) -> Iterator[None]:
    """Turn what the system refuses into InstallError; the state in use is unchanged."""
    try:
        yield
    except ConnectionError:
        raise
    except OSError as error:
        unchanged = "what was installed before is unchanged"
        if error.errno in DISK_FULL:
            raise InstallError(
                "the disk is full",
                file=error.filename or root.path,
                found=error.strerror,
                remedy="make room and run the same command again, which goes on from here; "
                + unchanged,
            ) from error
        if error.errno in FORBIDDEN:
            raise InstallError(
                f"no permission to work in {root.path}",
                file=error.filename,
                found=error.strerror,
                remedy=f"use another root or another account; {unchanged}",
            ) from error
        raise InstallError(
            f"{root.path} cannot be worked in",
            file=error.filename,
            found=error.strerror or str(error),
            remedy=f"use another root; {unchanged}",
        ) from error
