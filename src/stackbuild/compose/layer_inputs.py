"""What a layer is put together from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from stackbuild.compose.layer_metadata import LowerLayer
    from stackbuild.frames.model import FrameSet
    from stackbuild.layout import Layout
    from stackbuild.lock.model import LayerLock
    from stackbuild.platforms import Platform
    from stackbuild.runtimes.model import RuntimeArchive
    from stackbuild.spec.model import Layer


class PartName(NamedTuple):
    """The name of a part in the workshop, unless the part has a key of its own."""

    what: str
    layer: str
    platform: Platform | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTarget:
    """One layer on one platform, with its lock."""

    layer: Layer
    platform: Platform
    layout: Layout
    lock: LayerLock
    directory: str

    def part(self, what: str) -> PartName:
        """The name of one of its parts."""
        return PartName(what, self.layer.name, self.platform)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything one layer on one platform is put together from."""

    target: LayerTarget
    below: tuple[LayerTarget, ...]
    """The layers below, nearest first."""
    lower: tuple[LowerLayer, ...]
    """What they hold, in the same order."""
    runtime: RuntimeArchive | None
    """Set for runtimes only, like `interpreter`."""
    interpreter: FrameSet | None
    """The runtime's own files."""
    distributions: tuple[FrameSet, ...]
    """In the order of the lock, which is by name."""
    overlay: FrameSet | None
    overwriting: frozenset[str]
    """The overlay's paths that may take the place of others."""
    modules: FrameSet | None
    """The layer's own Python modules."""
    bytecode: tuple[FrameSet, ...]
    """Of the interpreter and the distributions."""
    own_bytecode: tuple[FrameSet, ...]
    """Of the overlays and of the layer's own modules."""
    compiled_by: str | None
    """The version of the interpreter that made the bytecode."""
