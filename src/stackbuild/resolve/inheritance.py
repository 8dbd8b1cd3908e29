"""What a layer takes from the layers below it, besides their versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.lock.indexes import index_settings
from stackbuild.lock.model import imported
from stackbuild.lock.targets import target_of, unknown_extras

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from packaging.utils import NormalizedName

    from stackbuild.lock.model import LayerLock, LockedDistribution
    from stackbuild.lock.targets import Target
    from stackbuild.platforms import Platform
    from stackbuild.resolve.request import CoreMetadata
    from stackbuild.resolve.siblings import Describe
    from stackbuild.spec.model import Layer, Stack


def not_in_indexes(
    stack: Stack, target: Target, lower: Sequence[LayerLock], describe: Describe
) -> dict[NormalizedName, CoreMetadata]:
    """Distributions of `lower` that uv cannot choose from the indexes for `target`.

    Their wheels are for newer systems, as the target of a layer applies to what it adds and not
    to what it inherits, or are named by an address.
    """
    from packaging.utils import parse_wheel_filename

    found: dict[NormalizedName, CoreMetadata] = {}
    for lock, item in imported(lower).values():
        layer = stack.layers[lock.layer]
        its_own = target_of(layer, target.platform, target.python)
        given = index_settings(stack, layer).files
        if item.source or (its_own.level <= target.level and item.wheel.name not in given):
            continue
        if (
            item.wheel.name in given
            or target.rank(parse_wheel_filename(item.wheel.name)[3]) is None
        ):
            found |= describe(layer, [item])
    return found


def unknown_extras_of(
    stack: Stack,
    layer: Layer,
    platform: Platform,
    own: Sequence[LockedDistribution],
    lower: Sequence[LayerLock],
    describe: Describe,
) -> Iterator[str]:
    """Warnings for extras that `layer` requires and the distributions do not have."""
    from packaging.utils import canonicalize_name

    items = {name: (stack.layers[i.layer], item) for name, (i, item) in imported(lower).items()}
    items |= {item.name: (layer, item) for item in own}
    for requirement in stack.requirements_for(layer, platform):
        owner, item = items.get(canonicalize_name(requirement.name), (None, None))
        if not requirement.extras or owner is None or item is None:
            continue
        known = describe(owner, [item])[item.name].extras
        if absent := unknown_extras(requirement, known):
            has = f"; it has {', '.join(sorted(known))}" if known else ""
            text = f"{layer.name} requires {requirement}, but {item.name} {item.version} has no"
            yield f"{text} extra {', '.join(absent)}{has}"


def ineffective_exclusions(
    layer: Layer, platform: Platform, lower: Sequence[LayerLock]
) -> Iterator[str]:
    """Warnings for entries of `exclude` that a lower layer makes ineffective."""
    for lock in reversed(lower):
        for item in lock.distributions:
            if item.name in layer.policy(platform).exclude:
                text = f"{layer.name} on {platform} cannot exclude {item.name}"
                yield f"{text}: it is in {lock.layer}"
