"""Updates the locks of a stack, or reports which are stale."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.errors import UsageError
from stackbuild.lock.current import Locks, find_leftovers, find_stale, remove_leftovers
from stackbuild.platforms import nearest
from stackbuild.resolve.report import (
    LockReport,
    change_of,
    describe_conflicts,
    unknown_names,
    unmet_skips,
)
from stackbuild.spec.select import left_alone, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.utils import NormalizedName

    from stackbuild.lock.model import LayerLock
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.resolve.build_orders import Builder
    from stackbuild.spec.model import Layer, Stack
    from stackbuild.workspace import Workspace


def lock_stack(  # noqa: PLR0913 - the options of the command, and who builds
    stack: Stack,
    workspace: Workspace,
    messages: Messages,
    *,
    layers: Sequence[str] = (),
    platforms: Sequence[str] = (),
    upgrade: bool = False,
    upgrade_packages: Sequence[str] = (),
    check: bool = False,
    builder: Builder | None = None,
) -> LockReport:
    """Lock `layers` and those below them; see `api.Project.lock`.

    With `check` nothing is resolved and nothing written. Locks of layers and platforms that
    left the spec are removed. `builder` builds wheels from source; without it, a layer that
    needs a source build is refused.
    """
    pairs = select(stack, layers, platforms)
    locks = Locks(stack, workspace)
    locks.read_all(pairs)
    stale = find_stale(locks, pairs)
    if check:
        return _with_notes(LockReport(stale=stale, locks=_present(locks, pairs)), locks, workspace)
    names = _names(upgrade_packages, locks, pairs, layers)
    if stale or upgrade or names:
        from stackbuild.resolve.uv import Uv

        uv = Uv(workspace)
        uv.start()
        from stackbuild.resolve.stack_resolver import StackResolver, Upgrade

        choice = Upgrade(everything=upgrade, names=names, layers=layers or None)
        resolver = StackResolver(stack, workspace, messages, locks, choice, uv=uv, builder=builder)
        report = resolver.run(pairs)
    else:
        current = _present(locks, pairs)
        changes = tuple(change_of(lock, lock) for lock in current)
        report = LockReport(changes=changes, locks=current)
    report = _with_notes(report, locks, workspace)
    remove_leftovers(workspace.project / path for path in report.leftovers)
    return report


def _present(locks: Locks, pairs: Sequence[tuple[Layer, Platform]]) -> tuple[LayerLock, ...]:
    found = (locks.get(layer.name, platform) for layer, platform in pairs)
    return tuple(lock for lock in found if lock is not None)


def _with_notes(report: LockReport, locks: Locks, workspace: Workspace) -> LockReport:
    leftovers = find_leftovers(locks.stack, workspace)
    return replace(
        report,
        leftovers=tuple(path.relative_to(workspace.project).as_posix() for path in leftovers),
        warnings=(
            *(
                f"{layer.name} is not locked: it is made for {', '.join(layer.platforms)}, and the"
                f" stack for {', '.join(locks.stack.platforms)}"
                for layer in left_alone(locks.stack)
            ),
            *describe_conflicts(report.locks),
            *unmet_skips(locks.stack, locks, report.locks),
            *(() if report.stale else unknown_names(locks.stack, report.locks)),
        ),
    )


def _names(
    words: Sequence[str],
    locks: Locks,
    pairs: Sequence[tuple[Layer, Platform]],
    layers: Sequence[str],
) -> frozenset[NormalizedName]:
    """The distributions named `words`, which one of `layers` must have or require."""
    if not words:
        return frozenset()
    from packaging.utils import canonicalize_name

    known: dict[NormalizedName, set[str]] = {}
    for layer, platform in pairs:
        lock = locks.get(layer.name, platform)
        found = {canonicalize_name(item.name) for item in layer.requirements_on(platform)}
        found |= {item.name for item in lock.distributions} if lock else set()
        for name in found:
            known.setdefault(name, set()).add(layer.name)
    names = frozenset(canonicalize_name(word) for word in words)
    for name in sorted(names):
        if name in known and not (layers and known[name].isdisjoint(layers)):
            continue
        if name in known:
            raise UsageError(
                f"{', '.join(layers)} does not have {name}, so it is not upgraded there",
                found=f"{name} in {', '.join(sorted(known[name]))}",
                remedy="name that layer with --layer",
            )
        guess = nearest(name, known)
        raise UsageError(
            f"no layer has {name}, so it cannot be upgraded",
            remedy=f"did you mean {guess!r}?" if guess else None,
        )
    return names
