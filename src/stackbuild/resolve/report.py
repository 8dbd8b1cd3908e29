"""The changes of `stackbuild lock`: the difference of two sets of locks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from stackbuild.reading import did_you_mean
from stackbuild.spec.select import select

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from packaging.utils import NormalizedName

    from stackbuild.lock.current import Locks
    from stackbuild.lock.model import Conflict, LayerLock, StaleLock
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer, Setting, Settings, Stack


ChangeState = Literal["new", "changed", "renewed", "current"]
"""`renewed`: made from other inputs, with the same distributions."""


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


def unmet_skips(stack: Stack, locks: Locks, current: Iterable[LayerLock]) -> tuple[str, ...]:
    """A sentence for each skip of the spec that no lock needs.

    `current` are the locks of this run; a shared skip may also be used by other
    layers, whose locks are taken from `locks`. A skip is not reported while one
    of its layers is not locked.
    """
    by_pair = {(lock.layer, lock.platform): lock for lock in current}
    met: dict[tuple[str, str], bool] = {}
    for layer in stack.layers.values():
        for name, platform, setting in _skips(layer):
            key = (setting.place, name)
            if platform not in layer.platforms:
                met.setdefault(key, False)
                continue
            lock = by_pair.get((layer.name, platform)) or locks.get(layer.name, platform)
            used = lock is None or any(item.name == name for item in lock.skipped)
            met[key] = met.get(key, False) or used
    return tuple(
        f"{place}: no distribution needs {name} there; remove this skip"
        for (place, name), used in met.items()
        if not used
    )


def unknown_names(stack: Stack, current: Sequence[LayerLock]) -> tuple[str, ...]:
    """A sentence for each distribution that a policy or index is set for and no lock names.

    `current` are the locks of this run. Nothing is reported unless they are those of the
    whole stack, since another layer or platform may have the distribution.
    """
    from packaging.utils import canonicalize_name

    pairs = select(stack, (), ())
    if len(current) < len(pairs):
        return ()
    known = {item.name for lock in current for item in lock.distributions}
    known |= {item.name for lock in current for item in lock.inherited}
    known |= {item.name for lock in current for item in (*lock.skipped, *lock.omitted)}
    known |= {
        canonicalize_name(requirement.name)
        for layer, platform in pairs
        for requirement in layer.requirements_on(platform)
    }
    named = {name: field for pair in pairs for name, field in _named(*pair)}
    return tuple(
        f"`{field}` names {name}, which no layer has; "
        + (did_you_mean(name, known) or "remove it, or correct the name")
        for name, field in sorted(named.items())
        if name not in known
    )


def _named(layer: Layer, platform: Platform) -> Iterator[tuple[NormalizedName, str]]:
    policy = layer.policy(platform)
    for field, names in (
        ("package_indexes", layer.package_indexes),
        ("overrides", policy.overrides),
        ("no-deps", policy.no_deps),
        ("force-source", policy.force_source),
        ("build-wheel", policy.build_wheel),
    ):
        yield from ((name, field) for name in names)


def _skips(layer: Layer) -> Iterator[tuple[str, Platform, Setting]]:
    for name, reasons in cast("Settings", layer.settings.get("skip", {})).items():
        for platform, setting in cast("Settings", reasons).items():
            yield name, cast("Platform", platform), cast("Setting", setting)
