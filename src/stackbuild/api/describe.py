"""What `Project.describe` tells about layers, out of the spec and the locks."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from stackbuild.api.values import LayerDescription
from stackbuild.errors import LockError
from stackbuild.lock.current import Locks
from stackbuild.resolve.lock_stack import describe_conflicts
from stackbuild.spec.select import find_layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stackbuild.api.values import LockState
    from stackbuild.lock.model import LayerLock
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import CopyFiles, Layer, Stack
    from stackbuild.workspace import Workspace


def describe(
    stack: Stack, workspace: Workspace, layers: Sequence[str]
) -> tuple[LayerDescription, ...]:
    """`layers` of `stack` and those below them; all if none is named."""
    found = (layer for word in layers for layer in find_layers(stack, word))
    wanted = {member.name for layer in found for member in stack.chain(layer)}
    locks = Locks(stack, workspace)
    return tuple(
        _describe(stack, layer, locks)
        for layer in stack.layers.values()
        if not layers or layer.name in wanted
    )


def _describe(stack: Stack, layer: Layer, locks: Locks) -> LayerDescription:
    wanted = [platform for platform in layer.platforms if platform in stack.platforms]
    readable = list(_readable(layer, wanted, locks))
    overlays: list[tuple[Platform | None, CopyFiles]] = [(None, it) for it in layer.copy_files]
    for platform, entries in layer.platform_copy_files.items():
        overlays += ((platform, entry) for entry in entries)
    return LayerDescription(
        name=layer.name,
        kind=layer.kind,
        python_version=str(stack.python_version(layer)),
        chain=tuple(member.name for member in stack.chain(layer)),
        platforms=layer.platforms,
        locks={platform: _lock_state(layer, platform, locks) for platform in wanted},
        requirements=tuple(map(str, layer.requirements)),
        platform_requirements={
            platform: tuple(map(str, own))
            for platform in layer.platforms
            if (own := layer.policy(platform).dependencies)
        },
        conflicts=tuple(describe_conflicts(readable)),
        overlays=tuple(overlays),
        environment={one: layer.policy(one).environment for one in layer.platforms},
        launch_module=layer.launch_module,
        support_modules=layer.support_modules,
        versioned=layer.versioned,
        versions={one.platform: one.version for one in readable} if layer.versioned else {},
        dynlib_exclude=layer.dynlib_exclude,
        linux_target=layer.linux_target,
        macosx_target=layer.macosx_target,
    )


def _lock_state(layer: Layer, platform: Platform, locks: Locks) -> tuple[LockState, str | None]:
    try:
        if locks.get(layer.name, platform) is None:
            return "not locked", None
        reason = locks.staleness(layer, platform)
    except LockError as error:
        return "damaged", error.message
    return ("locked", None) if reason is None else ("stale", reason)


def _readable(layer: Layer, platforms: Sequence[Platform], locks: Locks) -> Iterator[LayerLock]:
    """The locks of `layer` that can be read."""
    for platform in platforms:
        with suppress(LockError):
            if lock := locks.get(layer.name, platform):
                yield lock
