"""The parts of a layer, and the result of making each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from stackbuild.errors import StackbuildError
from stackbuild.frames.model import FrameSet

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from stackbuild.layout import Layout
    from stackbuild.linking.plan import Linking
    from stackbuild.lock.model import LayerLock
    from stackbuild.platforms import Platform
    from stackbuild.runtimes.model import RuntimeArchive
    from stackbuild.spec.model import Layer

T = TypeVar("T")


class PartName(NamedTuple):
    """The name of a part that has no key in the frame cache."""

    what: str
    layer: str
    platform: Platform | None = None


def attempted(work: Callable[[], T]) -> T | StackbuildError:
    """The result of `work`, or the error that it raises."""
    try:
        return work()
    except StackbuildError as error:
        return error


class Outcomes:
    """The result of each part, by its name: a value or an error."""

    def __init__(self) -> None:
        self._found: dict[Hashable, object] = {}

    def __contains__(self, name: Hashable) -> bool:
        return name in self._found

    def put(self, name: Hashable, outcome: object) -> None:
        """Keep the value or the error of `name`."""
        self._found[name] = outcome

    def get(self, name: Hashable, kind: type[T]) -> T | None:
        """The value of `name`, which is of `kind`; None if there is none."""
        value = self._found.get(name)
        return value if isinstance(value, kind) else None

    def sets(self, names: Iterable[Hashable]) -> tuple[FrameSet, ...]:
        """The frame sets of those of `names` that have one."""
        found = (self.get(name, FrameSet) for name in names)
        return tuple(frame_set for frame_set in found if frame_set)

    def error(self, names: Iterable[Hashable]) -> StackbuildError | None:
        """The error of the first of `names` that failed."""
        errors = (self.get(name, StackbuildError) for name in names)
        return next((error for error in errors if error), None)


class LayerTarget(NamedTuple):
    """One layer on one platform, with its lock."""

    layer: Layer
    platform: Platform
    layout: Layout
    lock: LayerLock
    directory: str

    def part(self, what: str) -> PartName:
        """The name of one of its parts."""
        return PartName(what, self.layer.name, self.platform)


class LowerLayer(NamedTuple):
    """A layer of the chain, as far as the layers above need it."""

    target: LayerTarget
    sets: tuple[FrameSet, ...]
    """Of its distributions and overlays."""

    @property
    def directory(self) -> str:
        """Its directory in a root."""
        return self.target.directory

    @property
    def pth(self) -> tuple[str, ...]:
        """The lines of its `.pth` files."""
        return tuple(line for frame_set in self.sets for line in frame_set.pth)


class Parts(NamedTuple):
    """All parts of one layer on one platform."""

    target: LayerTarget
    lower: tuple[LowerLayer, ...]
    """The layers below, nearest first."""
    runtime: RuntimeArchive | None
    """Set for runtimes only, like `interpreter`."""
    interpreter: FrameSet | None
    """The runtime's own files."""
    distributions: tuple[FrameSet, ...]
    """In the order of the lock, which is by name."""
    packages: tuple[FrameSet, ...]
    """The wheels that the layer has as files."""
    overlay: FrameSet | None
    overwriting: frozenset[str]
    """The overlay's paths that may replace others."""
    linking: Linking
    """What is added for shared libraries."""
    library_warning: str
    """Of missing and excluded libraries; empty if there are none."""
    edited: tuple[FrameSet, ...]
    """The edited and copied files of `linking`."""
    dll_directories: tuple[str, ...]
    """Those of `Linking`, of the whole chain."""
    modules: FrameSet | None
    """The layer's own Python modules."""
    bytecode: tuple[FrameSet, ...]
    """Of the interpreter and the distributions."""
    own_bytecode: tuple[FrameSet, ...]
    """Of the overlays and of the layer's own modules."""
    compiled_by: str | None
    """The version of the interpreter that made the bytecode."""
