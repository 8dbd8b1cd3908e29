"""Install layers into a root and uninstall them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.durable import sync_to_disk
from stackbuild.errors import UsageError
from stackbuild.install.change import apply
from stackbuild.install.compare import compare, installed
from stackbuild.install.home import must_be_adjusted
from stackbuild.install.plan import find_installed, plan_install, plan_uninstall
from stackbuild.install.root import Root
from stackbuild.install.state import State
from stackbuild.install.store import Store
from stackbuild.messages import SILENT
from stackbuild.platforms import host_platform
from stackbuild.registry.find import Published
from stackbuild.workspace import expanded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stackbuild.compose.manifest import Manifest
    from stackbuild.durable import Sync
    from stackbuild.install.report import InstallReport, Upgrade
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.registry.base import Registry

ELSEWHERE = "choose another root directory or store"


def install(
    layers: Sequence[str],
    registry: Registry,
    root: Path,
    platform: Platform | None,
    messages: Messages,
    *,
    store: Path | None = None,
    sync: Sync = sync_to_disk,
) -> InstallReport:
    """Install `layers` and the layers they depend on; see `api.install`.

    The generation in use does not change until the switch at the end.
    """
    where = Root(root)
    where.check_free(())
    before = where.state()
    target = platform_of(platform, before, where)
    published = Published(registry, target)
    wanted = published.find(layers)
    if before is None:
        # Create a new root only after checking that the layers exist and no file is in the way.
        _plan(wanted, State(platform=target, asked=()), published, where, store, SILENT)
    with where.explained(ELSEWHERE):
        where.claim()
    with where.explained(ELSEWHERE), where.locked(messages):
        before = where.state() or State(platform=target, asked=())
        platform_of(target, before, where)
        after = _plan(wanted, before, published, where, store, messages)
        report = apply(where, before, after, published, sync, messages)
    tell_elsewhere(report, after, messages)
    return report


def preview(
    layers: Sequence[str],
    registry: Registry,
    root: Path,
    platform: Platform | None,
    messages: Messages,
    *,
    store: Path | None = None,
) -> Upgrade:
    """What `install` with the same arguments would change; see `api.preview_install`."""
    where = Root(root)
    where.check_free(())
    state = where.state()
    target = platform_of(platform, state, where)
    published = Published(registry, target)
    before = state or State(platform=target, asked=())
    wanted = published.find(layers)
    after = _plan(wanted, before, published, where, store, messages)
    return upgrade(before, after, published, where)


def upgrade(before: State, after: State, published: Published, where: Root) -> Upgrade:
    """What changes from `before` to `after`, and which frames are fetched for that."""
    used = Store(after.store or where.own_store)
    kept = {
        placed.frame.sha256
        for manifest in after.layers.values()
        if not published.has(manifest)
        for placed in manifest.frames
    }
    return compare(
        installed(before),
        installed(after),
        lambda frame: frame.sha256 in kept or used.holds(frame),
        used.has,
    )


def _plan(
    wanted: Sequence[Manifest],
    before: State,
    published: Published,
    where: Root,
    store: Path | None,
    messages: Messages,
) -> State:
    """The next state of a root, whose state is `before`, with the layers `wanted`."""
    plan = plan_install(wanted, before, published, where.path)
    for layer in plan.brought:
        messages.note(f"{layer} is upgraded to its current version: a layer below it changes")
    for layer in plan.moved:
        messages.note(f"{layer} is replaced with the layer from {published.location}")
    tell_doubts(wanted, published, messages)
    where.check_free(plan.state.layers)
    return replace(plan.state, store=chosen_store(store, before, where))


def tell_doubts(named: Sequence[Manifest], published: Published, messages: Messages) -> None:
    """Warn of layers that are deprecated or superseded."""
    for manifest in named:
        if doubts := published.entry(manifest).doubts:
            messages.warn(f"{manifest.layer} is {'; '.join(doubts)}")


def chosen_store(asked: Path | None, before: State, where: Root) -> Path | None:
    """The store for the next state: `asked`, or that of `before`; None for the root's own."""
    named = _store(asked) if asked is not None else before.store
    # Not by its path, so that the root can be moved.
    return None if named == where.own_store else named


def tell_elsewhere(report: InstallReport, state: State, messages: Messages) -> None:
    """Say what to do with layers for another machine that contain the path of their runtime."""
    is_here = state.platform == host_platform()
    if report.changed and not is_here and must_be_adjusted(state.layers.values()):
        messages.note(_on_another_machine(state.platform, state))


def _on_another_machine(platform: Platform, state: State) -> str:
    """What to do with a root, or its export, whose layers contain the path of their runtime."""
    first = (
        f"the layers are for {platform} and contain the path of their runtime: copy the directory "
        "there, then run"
    )
    if platform.os != "windows":
        return f"{first} `stackbuild repair ROOT`"
    (runtime, *_), (*_, top) = state.layers, state.layers
    return (
        rf"{first} the postinstall.py of each layer: DIR\{runtime}\python.exe "
        rf"DIR\{top}\postinstall.py; in a root, `stackbuild repair ROOT` does the same"
    )


def _store(path: Path) -> Path:
    """The absolute path of a store. Raises UsageError if it cannot be written as JSON."""
    found = expanded(path).absolute()
    try:
        str(found).encode()
    except UnicodeEncodeError:
        raise UsageError(
            "the path of the store is not UTF-8",
            file=found,
            remedy="choose another directory for the store",
        ) from None
    return found


def uninstall(layers: Sequence[str], root: Path, messages: Messages) -> InstallReport:
    """Remove `layers` from `root`, and lower layers not needed any more; see `api.uninstall`."""
    where = Root(root)
    where.installed_state()
    where.check_free(())
    with where.explained(), where.locked(messages):
        before = where.installed_state()
        leaving = find_installed(layers, before, where.path)
        plan = plan_uninstall([manifest.directory for manifest in leaving], before)
        where.check_free(plan.state.layers)
        return apply(where, before, plan.state, None, sync_to_disk, messages)


def platform_of(asked: Platform | None, state: State | None, root: Root) -> Platform:
    """The platform of `root`, whose state is `state`. Raises UsageError if another is `asked`."""
    if state is None or not state.layers:
        return asked or host_platform()
    if asked not in {None, state.platform}:
        raise UsageError(
            f"{root.path} contains layers for {state.platform}; a root is for one platform",
            platform=asked,
            remedy="choose another root directory",
        )
    return state.platform
