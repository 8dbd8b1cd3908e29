"""Updates the locks of a stack, or reports which are stale, and the changes."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from stackbuild.errors import LockError, UsageError
from stackbuild.lock.current import Locks, find_orphaned_locks, find_stale, remove_locks
from stackbuild.lock.venvstacks_locks import (
    DIRECTORY,
    read_venvstacks_locks,
    venvstacks_lock_path,
)
from stackbuild.platforms import nearest
from stackbuild.resolve.unused_settings import excluded_requirements, unused_settings
from stackbuild.spec.select import find_layers, left_alone, select

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.utils import NormalizedName

    from stackbuild.lock.model import Conflict, LayerLock, StaleLock
    from stackbuild.lock.venvstacks_locks import VenvstacksLock
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.resolve.build_orders import Builder
    from stackbuild.spec.model import Layer, Stack
    from stackbuild.workspace import Workspace


ChangeState = Literal["new", "changed", "renewed", "current"]
"""`renewed`: made from other inputs, with the same distributions."""

VenvstacksUse = Literal["read", "missing", "not needed"]
"""`missing`: venvstacks has no lock of the layer. `not needed`: stackbuild has all of its locks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The change of one lock. Names and versions are text, for printing."""

    layer: str
    platform: Platform
    state: ChangeState
    version: int
    """The lock's counter."""
    added: tuple[tuple[str, str], ...] = ()
    """Name and version."""
    removed: tuple[tuple[str, str], ...] = ()
    upgraded: tuple[tuple[str, str, str], ...] = ()
    downgraded: tuple[tuple[str, str, str], ...] = ()
    """Name, former and present version."""
    refiled: tuple[tuple[str, str], ...] = ()
    """Name and version, unchanged but for the file."""
    interpreter: bool = False
    """Whether a runtime's archive changed."""
    own: bool = False
    """Whether the modules, the overlays or a version below a versioned layer changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockReport:
    """The result of `stackbuild lock`, or of `--check`."""

    changes: tuple[Change, ...] = ()
    stale: tuple[StaleLock, ...] = ()
    """With `check`: the locks that are missing or stale."""
    locks: tuple[LayerLock, ...] = ()
    """The current locks, including the distributions that each leaves out."""
    leftovers: tuple[str, ...] = ()
    """Locks of what is no longer in the spec, relative to the project; removed unless `check`."""
    warnings: tuple[str, ...] = ()
    """Settings that may be mistakes."""
    from_venvstacks: Mapping[str, VenvstacksUse] = dataclasses.field(default_factory=dict)
    """With `from_venvstacks`: how the lock that venvstacks has of each layer was used."""


def change_of(lock: LayerLock, old: LayerLock | None) -> Change:
    """The difference between a lock and the one before it."""
    if old is None:
        state: ChangeState = "new"
    elif old.digest != lock.digest:
        state = "changed"
    else:
        state = "current" if old == lock else "renewed"
    before = {item.name: item for item in old.distributions} if old else {}
    after = {item.name: item for item in lock.distributions}
    both = [name for name in after if name in before]

    def moved(names: Iterable[NormalizedName]) -> tuple[tuple[str, str, str], ...]:
        return tuple((name, str(before[name].version), str(after[name].version)) for name in names)

    return Change(
        layer=lock.layer,
        platform=lock.platform,
        state=state,
        version=lock.version,
        added=tuple((name, str(after[name].version)) for name in after if name not in before),
        removed=tuple((name, str(before[name].version)) for name in before if name not in after),
        upgraded=moved(name for name in both if before[name].version < after[name].version),
        downgraded=moved(name for name in both if before[name].version > after[name].version),
        refiled=tuple(
            (name, str(after[name].version))
            for name in both
            if before[name].version == after[name].version
            and before[name].wheel != after[name].wheel
        ),
        interpreter=old is not None and old.interpreter != lock.interpreter,
        own=old is not None and old.own != lock.own,
    )


def describe_conflicts(locks: Iterable[LayerLock]) -> list[str]:
    """A sentence for each requirement that is not met in one of `locks`."""
    grouped: dict[tuple[str, Conflict], list[str]] = {}
    for lock in locks:
        for conflict in lock.conflicts:
            grouped.setdefault((lock.layer, conflict), []).append(str(lock.platform))
    return [
        f"{layer} on {', '.join(platforms)} has {one.name} {one.version} of {one.layer}, but"
        f" {one.asked_by} requires {one.requirement}"
        for (layer, one), platforms in grouped.items()
    ]


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
    from_venvstacks: bool = False,
    builder: Builder | None = None,
) -> LockReport:
    """Lock `layers` and those below them; see `api.Project.lock`.

    With `check` nothing is resolved and nothing written. Locks of layers and platforms that
    left the spec are removed. `builder` builds wheels from source; without it, a layer that
    needs a source build is refused.
    """
    pairs = select(stack, layers, platforms)
    layers = [layer.name for word in layers for layer in find_layers(stack, word)]
    locks = Locks(stack, workspace)
    locks.read_all(pairs)
    stale = find_stale(locks, pairs)
    if check:
        return _with_notes(LockReport(stale=stale, locks=_present(locks, pairs)), locks, workspace)
    names = _names(upgrade_packages, locks, pairs, layers)
    venvstacks: dict[str, VenvstacksLock] = {}
    use: dict[str, VenvstacksUse] = {}
    if from_venvstacks:
        if upgrade:
            raise UsageError(
                "an upgrade takes the newest versions, so it cannot start from those of venvstacks",
                remedy="leave out --from-venvstacks or --upgrade",
            )
        venvstacks, use = _of_venvstacks(stack, locks, pairs)
    for text in _not_continued(stack, locks, pairs, wanted=from_venvstacks):
        messages.warn(text)
    if stale or upgrade or names:
        from stackbuild.resolve.uv import Uv

        uv = Uv(workspace)
        uv.start()
        from stackbuild.resolve.source_wheels import Upgrade
        from stackbuild.resolve.stack_resolver import StackResolver

        choice = Upgrade(everything=upgrade, names=names, layers=layers or None)
        resolver = StackResolver(
            stack,
            workspace,
            messages,
            locks,
            choice,
            uv=uv,
            builder=builder,
            venvstacks=venvstacks,
        )
        current = resolver.run(pairs)
    else:
        current = _present(locks, pairs)
    # `locks` has those before this run.
    changes = tuple(change_of(lock, locks.get(lock.layer, lock.platform)) for lock in current)
    report = LockReport(changes=changes, locks=current, from_venvstacks=use)
    report = _with_notes(report, locks, workspace)
    remove_locks(workspace.project / path for path in report.leftovers)
    return report


def _of_venvstacks(
    stack: Stack, locks: Locks, pairs: Sequence[tuple[Layer, Platform]]
) -> tuple[dict[str, VenvstacksLock], dict[str, VenvstacksUse]]:
    """The locks of venvstacks that first locks start from. Raises LockError if there are none."""
    first = {
        layer.name: layer for layer, platform in pairs if locks.get(layer.name, platform) is None
    }
    # The number of a layer also depends on those of the versioned layers below it.
    needed = first | {layer.name: layer for layer, _ in pairs if first and layer.versioned}
    found = read_venvstacks_locks(stack, needed.values())
    if first and not found:
        layer = next(iter(first.values()))
        raise LockError(
            "there are no locks of venvstacks 0.8 to start from",
            file=stack.directory / DIRECTORY,
            expected=f"such as {venvstacks_lock_path(stack, layer).relative_to(stack.directory)}",
            remedy="run `venvstacks lock` of version 0.8, or leave out --from-venvstacks",
        )
    use: dict[str, VenvstacksUse] = {}
    for layer, _ in pairs:
        if layer.name in first:
            use[layer.name] = "read" if layer.name in found else "missing"
        else:
            use[layer.name] = "not needed"
    return found, use


def _not_continued(
    stack: Stack, locks: Locks, pairs: Sequence[tuple[Layer, Platform]], *, wanted: bool
) -> Iterator[str]:
    """A warning for layers with a lock of venvstacks that locks of stackbuild do not start from.

    If that is not `wanted`, these are the layers with new locks; otherwise those that have a lock
    with a lower version than there. Damage to the locks of venvstacks is no error here.
    """
    layers: dict[str, Layer] = {}
    for layer, platform in pairs:
        lock = locks.get(layer.name, platform)
        if (lock is not None and layer.versioned) if wanted else lock is None:
            layers[layer.name] = layer
    found: dict[str, VenvstacksLock] = {}
    for layer in layers.values():
        with suppress(LockError):
            found |= read_venvstacks_locks(stack, [layer])
    numbers = {name: lock.version for name, lock in found.items() if lock.version}
    if wanted:
        here = {
            layer.name: lock.version
            for layer, platform in pairs
            if (lock := locks.get(layer.name, platform))
        }
        found = {name: found[name] for name, number in numbers.items() if here[name] < number}
    if not found:
        return
    versions = ", ".join(f"{name}@{numbers[name]}" for name in found if name in numbers)
    there = f" ({versions} there)" if versions else ""
    places = ", ".join(f"layers/{name}/pylock.*.toml" for name in found)
    yield (
        f"{'locks' if wanted else 'new locks'} of {', '.join(found)} do not start from those of"
        f" venvstacks in {DIRECTORY}/{there}; to start from them, remove {places} and run"
        " `stackbuild lock --from-venvstacks`"
    )


def _present(locks: Locks, pairs: Sequence[tuple[Layer, Platform]]) -> tuple[LayerLock, ...]:
    found = (locks.get(layer.name, platform) for layer, platform in pairs)
    return tuple(lock for lock in found if lock is not None)


def _with_notes(report: LockReport, locks: Locks, workspace: Workspace) -> LockReport:
    leftovers = find_orphaned_locks(locks.stack, workspace)
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
            *unused_settings(locks.stack, locks, report.locks, stale=bool(report.stale)),
            *excluded_requirements(locks.stack, report.locks),
            *locks.projects.notes(),
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
                remedy="name that layer",
            )
        guess = nearest(name, known)
        raise UsageError(
            f"no layer has {name}, so it cannot be upgraded",
            remedy=f"did you mean {guess!r}?" if guess else None,
        )
    return names
