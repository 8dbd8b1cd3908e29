"""Build wheels from source, with the interpreter of the layer, on the target platform."""

from __future__ import annotations

from threading import Lock, Semaphore
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackbuild.lock.model import LayerLock, LockedDistribution
    from stackbuild.messages import Messages
    from stackbuild.resolve.build_orders import Builder, BuildOrder, BuiltWheel
    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace


def wheel_builder(stack: Stack, workspace: Workspace, messages: Messages) -> Builder:
    """The wheel builder of a command; it runs `workspace.jobs` builds at a time."""
    slots = Semaphore(workspace.jobs)
    locks: dict[str, Lock] = {}

    def build(order: BuildOrder) -> BuiltWheel:
        # Imported late: most commands build no wheel.
        from stackbuild.builds.build import build_wheel

        # The platforms that get the same wheel of a project ask for it at the same time.
        with locks.setdefault(order.recipe, Lock()), slots:
            return build_wheel(order, stack, workspace, messages)

    return build


def wheel_rebuilder(
    stack: Stack, workspace: Workspace, messages: Messages, *, index: str | None = None
) -> Callable[[Sequence[tuple[LockedDistribution, LayerLock]]], None]:
    """The function `rebuild` of `lock.wheelhouse.fetch`; `index` is the default index."""

    def run(missing: Sequence[tuple[LockedDistribution, LayerLock]]) -> None:
        from stackbuild.resolve.build_orders import rebuild

        builder = wheel_builder(stack, workspace, messages)
        rebuild(stack, workspace, builder, missing, index=index)

    return run
