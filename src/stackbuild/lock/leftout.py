"""What layers do without, and skips that meet nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stackbuild.lock.current import Locks
    from stackbuild.lock.model import LayerLock, LeftOut
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer, Setting, Settings, Stack


def describe_left_out(
    locks: Iterable[tuple[LayerLock, Iterable[LeftOut]]],
) -> list[str]:
    """`name in layer on its platforms: reason`, a line for each name, layer and reason."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for lock, items in locks:
        for item in items:
            key = (item.name, lock.layer, item.reason)
            grouped.setdefault(key, []).append(str(lock.platform))
    return [
        f"{name} in {layer} on {', '.join(platforms)}: {reason}"
        for (name, layer, reason), platforms in grouped.items()
    ]


def unmet_skips(stack: Stack, locks: Locks, current: Iterable[LayerLock]) -> tuple[str, ...]:
    """A sentence for each skip of the spec that no lock needs.

    `current` are the locks that were just looked at; those of other layers,
    which a shared skip may concern as well, are taken from `locks`. Nothing
    is said of a skip while a layer that it concerns is not locked.
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
        f"{place}: nothing needs {name} there, so it need not be skipped"
        for (place, name), used in met.items()
        if not used
    )


def _skips(layer: Layer) -> Iterator[tuple[str, Platform, Setting]]:
    for name, reasons in cast("Settings", layer.settings.get("skip", {})).items():
        for platform, setting in cast("Settings", reasons).items():
            yield name, cast("Platform", platform), cast("Setting", setting)
