"""The `Builder` that the command line hands to locking and fetching."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Semaphore
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stackbuild.messages import Messages
    from stackbuild.resolve.build_orders import BuildOrder, BuiltWheel
    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace


@dataclass(slots=True)
class WheelBuilder:
    """Builds wheels for this machine's platform, as many at a time as it has processors.

    What building takes is imported when the first wheel is built: most commands build none.
    """

    stack: Stack
    workspace: Workspace
    messages: Messages
    _slots: Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._slots = Semaphore(self.workspace.jobs)

    def build(self, order: BuildOrder) -> BuiltWheel:
        """The wheel of `order`, in the cache. Raises as `WheelMaker.build` does."""
        from stackbuild.builds.build import WheelMaker

        with self._slots:
            return WheelMaker(self.stack, self.workspace, self.messages).build(order)
