"""Make the next generation of a root: fetch, link, switch."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild import windows
from stackbuild.compose.manifest import now
from stackbuild.errors import InstallError, quoted
from stackbuild.files import remove_tree
from stackbuild.install.contents import installed_layers, new_layers
from stackbuild.install.damage import Damage, find_damage, find_damage_in_use
from stackbuild.install.fetch import fetch_frames, missing_runs
from stackbuild.install.generation import carry_over, link_layer
from stackbuild.install.home import adjustments
from stackbuild.install.report import InstallReport
from stackbuild.install.state import damaged, mark_damaged, write_state
from stackbuild.install.store import Store
from stackbuild.platforms import host_platform

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackbuild.compose.manifest import Manifest
    from stackbuild.durable import Sync
    from stackbuild.install.root import Root
    from stackbuild.install.state import State
    from stackbuild.messages import Messages
    from stackbuild.registry.find import Published


def apply(
    root: Root,
    before: State,
    after: State,
    published: Published | None,
    sync: Sync,
    messages: Messages,
) -> InstallReport:
    """Change the state of `root` from `before` to `after`.

    The root's lock must be held. Missing or damaged frames are fetched from `published`. If nothing
    changes, no generation is made. `sync` writes files to the disk before their names, and names
    before the switch.
    """
    store = Store(after.store or root.own_store)
    with working_in(store.directory):
        store.claim()
    with working_in(store.directory), store.locked(messages):
        store.enter_root(root.claim(), root.path)
        root.sweep()
        root.link_layers(before.layers)
        adjust_in_place(root, before, messages)
        wanted = [m for m in after.layers.values() if published is not None and published.has(m)]
        repaired = _discard_damaged(root, before, after, wanted, store, messages)
        runs = missing_runs(wanted, store)
        if not runs and not repaired and after.same_tree(before) and root.numbers():
            root.settle(sync)
            return InstallReport(
                root=root.path,
                platform=after.platform,
                generation=root.number(),
                layers=installed_layers(after),
            )
        fetched = fetch_frames(runs, published, store, sync, messages) if runs and published else 0
        with working_in(root.path):
            generation = _build(root, before, after, repaired, store, messages)
            root.begin_switch()
            sync(
                trees=[generation],
                directories=[root.generations, root.private, root.path, store.directory],
            )
            root.switch(generation, after)
            root.settle(sync, trees=not root.is_plain)
    changed = {*new_layers(before, after)}
    return InstallReport(
        root=root.path,
        platform=after.platform,
        generation=int(generation.name),
        layers=installed_layers(after),
        added=tuple(name for name in after.layers if name in repaired | changed),
        repaired=tuple(name for name in after.layers if name in repaired),
        removed=tuple(name for name in before.layers if name not in after.layers),
        fetched_frames=sum(len(run.frames) for run in runs),
        fetched_bytes=fetched,
        changed=True,
    )


def _discard_damaged(
    root: Root,
    before: State,
    after: State,
    wanted: list[Manifest],
    store: Store,
    messages: Messages,
) -> set[str]:
    """Remove damaged frames from the store if they can be fetched again.

    Returns the directories of the layers to recreate. Raises InstallError for a layer that depends
    on a damaged layer whose frames cannot be fetched again.
    """
    current = root.in_use()
    damage = find_damage(after.layers.values(), store)
    marked: set[str] = set()
    if current is not None:
        find_damage_in_use(before, _kept(before, after), root.trees(current), store, damage)
        layers, frames = damaged(current)
        marked = after.layers.keys() & layers
        damage.frames.update(frames)
    available = {placed.frame.sha256 for manifest in wanted for placed in manifest.frames}
    lost = damage.frames - available
    marked = {name for name in marked if _can_be_had(after.layers[name], lost, available, store)}
    beyond_repair = {
        directory
        for directory in damage.files
        if any(placed.frame.sha256 in lost for placed in after.layers[directory].frames)
    }
    _tell(after, damage, beyond_repair, wanted, root, messages)
    for sha256 in damage.frames & available:
        store.discard(sha256)
    return marked | (damage.files.keys() - beyond_repair)


def _can_be_had(manifest: Manifest, lost: set[str], available: set[str], store: Store) -> bool:
    """Whether every frame of a layer is intact in the store or can be fetched."""
    return all(
        frame.sha256 in available or (frame.sha256 not in lost and store.holds(frame))
        for frame in (placed.frame for placed in manifest.frames)
    )


def _kept(before: State, after: State) -> list[str]:
    """The directories of the layers that do not change."""
    return [
        name
        for name, manifest in after.layers.items()
        if name in before.layers and before.layers[name].digest == manifest.digest
    ]


def _tell(
    after: State,
    damage: Damage,
    beyond_repair: set[str],
    wanted: list[Manifest],
    root: Root,
    messages: Messages,
) -> None:
    """Report which layers are damaged and whether they are repaired."""
    for directory in damage.files:
        layer = after.layers[directory].layer
        if directory not in beyond_repair:
            messages.note(f"repairing damaged layer {layer}: {damage.text(directory)}")
            continue
        command = f"stackbuild install {layer} --from PLACE --root {quoted(root.path)}"
        for above in wanted:
            if directory in {above.directory, *(link.directory for link in above.chain)}:
                raise InstallError(
                    f"{layer} is damaged, and its files are not published there",
                    layer=above.layer,
                    file=damage.files[directory][0],
                    remedy=f"where {layer} is published: {command}",
                )
        messages.warn(f"{layer} is damaged: {damage.text(directory)}; to repair it: {command}")


def _build(
    root: Root, before: State, after: State, repaired: set[str], store: Store, messages: Messages
) -> Path:
    """Create the directory of a new generation with the layers of `after`.

    In a plain root, layers that do not change stay where they are.
    """
    final = root.generations / str(max(root.numbers(), default=0) + 1)
    current = root.in_use()
    trees = None if current is None else root.trees(current)
    work = root.staging / final.name
    work.mkdir(parents=True)
    try:
        copied = False
        carried = []
        for name, manifest in after.layers.items():
            is_same = trees is not None and _same(before, manifest)
            if is_same and root.is_plain and name not in repaired and (root.path / name).is_dir():
                if not _is_stored(manifest, store):
                    carried.append(name)
            elif _is_stored(manifest, store):
                copied |= link_layer(manifest, store, work / name)
            elif is_same and trees is not None:
                # Neither the store nor this registry has its frames, so link the installed files.
                copied |= carry_over(trees / name, work / name)
                carried.append(name)
            else:
                # Raises an error that names the missing frame.
                link_layer(manifest, store, work / name)
        if copied:
            messages.note(f"files were copied: {store.directory} cannot be linked from {root.path}")
        _adjust(root, after, work, final)
        _warn_of_long_paths(root, after, store, messages)
        write_state(replace(after, created=now()), work)
        _keep_marks(current, carried, work)
        root.generations.mkdir(exist_ok=True)
        windows.rename(work, final)
    finally:
        remove_tree(root.staging)
    return final


def _is_stored(manifest: Manifest, store: Store) -> bool:
    frames = (placed.frame for placed in manifest.frames)
    return all(store.holds(frame) and store.listing(frame.sha256) for frame in frames)


def _adjust(root: Root, after: State, work: Path, final: Path) -> None:
    """Adjust the layers in `work`, and those that stay in a plain root."""

    def place(name: str) -> Path:
        return work / name if (work / name).is_dir() else root.path / name

    # In a plain root the layers leave the generation.
    there = root.path if after.platform.os == "windows" else final
    destination = there if after.platform == host_platform() else None
    for change in adjustments(after.layers.values(), place, destination):
        if not change.is_applied():
            change.apply()


def _warn_of_long_paths(root: Root, after: State, store: Store, messages: Messages) -> None:
    """Warn of files that programs on Windows do not open unless long paths are enabled."""
    if after.platform.os != "windows" or after.platform != host_platform():
        return
    room = windows.MAX_PATH - len(f"{root.path}/")
    paths = (
        f"{name}/{file.path}"
        for name, manifest in after.layers.items()
        for placed in manifest.frames
        if (listing := store.listing(placed.frame.sha256)) is not None
        for file in listing.files
    )
    if long := sorted({path for path in paths if len(path) > room}, key=len):
        messages.warn(
            f"{long[-1]}{f' and {len(long) - 1} more' * (len(long) > 1)}: the path has more than "
            f"{windows.MAX_PATH} characters; Python finds such a file only where Windows allows "
            "long paths (LongPathsEnabled), or in a root with a shorter path"
        )


def adjust_in_place(
    root: Root, state: State, messages: Messages, generation: Path | None = None
) -> list[str]:
    """Adjust the layers of a generation to the path of the root, which may have been moved.

    It is the one in use by default. Returns the directories of the layers that were adjusted.
    Raises InstallError, OSError.
    """
    generation = generation or root.in_use()
    if generation is None or state.platform != host_platform():
        return []
    trees = root.trees(generation)
    adjusted: dict[str, None] = {}
    for change in adjustments(state.layers.values(), trees.joinpath, trees):
        layer = change.target.relative_to(trees).parts[0]
        if (trees / layer).is_dir() and not change.is_applied():
            change.apply()
            adjusted[layer] = None
    if adjusted:
        messages.note(f"{', '.join(adjusted)}: adjusted to {root.path}")
    return list(adjusted)


def _same(before: State, manifest: Manifest) -> bool:
    installed = before.layers.get(manifest.directory)
    return installed is not None and installed.digest == manifest.digest


def _keep_marks(current: Path | None, carried: list[str], work: Path) -> None:
    """Damaged layers that were carried over stay marked as damaged."""
    layers, frames = damaged(current) if current is not None else ([], [])
    if still := [name for name in layers if name in carried]:
        mark_damaged(work, still, frames)


@contextmanager
def working_in(place: Path) -> Iterator[None]:
    """Add `place` to system errors that name no file, such as a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(place)
        raise
