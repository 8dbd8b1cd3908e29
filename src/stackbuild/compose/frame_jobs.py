"""Making many frame sets at once, where the failure of one leaves the others alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from stackbuild.builds import wheel_builder
from stackbuild.errors import StackbuildError
from stackbuild.frames.make import make_sets
from stackbuild.frames.model import FrameSet
from stackbuild.resolve.fetch import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
    from pathlib import Path

    from stackbuild.compose.layer_inputs import LayerTarget
    from stackbuild.lock.model import LayerLock, LockedDistribution
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace


T = TypeVar("T")

_NOTHING = FrameSet(key="", frames=(), paths=())


class FrameJobs:
    """Frame sets and errors by the name of what was to be made."""

    def __init__(self, workers: int, messages: Messages) -> None:
        self._workers = workers
        self._messages = messages
        self._made: dict[Hashable, FrameSet] = {}
        self._errors: dict[Hashable, StackbuildError] = {}

    def make(self, jobs: Mapping[Hashable, Callable[[], FrameSet]]) -> None:
        """Do those of `jobs` that were not done before, in parallel."""
        waiting = [partial(self._do, name, job) for name, job in jobs.items() if name not in self]
        if waiting:
            make_sets(waiting, self._workers, self._messages)

    def _do(self, name: Hashable, job: Callable[[], FrameSet]) -> FrameSet:
        # An error that got to make_sets would end the work of all.
        self.attempt([name], lambda: self.put(name, job()))
        return _NOTHING

    def attempt(self, names: Iterable[Hashable], work: Callable[[], T]) -> T | None:
        """What `work` returns; when it fails, all of `names` have failed."""
        try:
            return work()
        except StackbuildError as error:
            for name in names:
                self.fail(name, error)
            return None

    def fail(self, name: Hashable, error: StackbuildError) -> None:
        """Take `error` as what came of `name`; it is not tried any more."""
        self._errors.setdefault(name, error)

    def __contains__(self, name: Hashable) -> bool:
        """Whether `name` was made, or could not be."""
        return name in self._made or name in self._errors

    def put(self, name: Hashable, frame_set: FrameSet) -> None:
        """Take `frame_set` as what `name` stands for."""
        self._made[name] = frame_set

    def get(self, name: Hashable) -> FrameSet | None:
        """What was made for `name`, if it was."""
        return self._made.get(name)

    def sets(self, names: Iterable[Hashable]) -> tuple[FrameSet, ...]:
        """What was made for those of `names` for which something was."""
        return tuple(self._made[name] for name in names if name in self._made)

    def error(self, names: Iterable[Hashable]) -> StackbuildError | None:
        """The error of the first of `names` that failed."""
        return next((self._errors[name] for name in names if name in self._errors), None)


class NeededWheel(NamedTuple):
    """A wheel whose frames are needed, and the keys of its frame sets."""

    target: LayerTarget
    item: LockedDistribution
    key: str
    bytecode: str | None

    @property
    def names(self) -> list[str]:
        """The keys, which are what its sets are called in the workshop."""
        return [self.key, self.bytecode] if self.bytecode else [self.key]


def fetch_missing(
    missing: Sequence[NeededWheel],
    stack: Stack,
    workspace: Workspace,
    workshop: FrameJobs,
    messages: Messages,
) -> Mapping[str, Path]:
    """The wheels of `missing`, by sha256; in the workshop, those that cannot be had have failed."""
    by_member: dict[tuple[str, Platform], list[NeededWheel]] = {}
    for one in missing:
        by_member.setdefault((one.target.layer.name, one.target.platform), []).append(one)
    locks = [_lock_of(group) for group in by_member.values()]
    if not locks:
        return {}
    try:
        builder = wheel_builder(stack, workspace, messages)
        return fetch(stack, workspace, locks, messages, builder=builder)
    except StackbuildError as error:
        # What it could fetch is there; asking again for the rest would only take time.
        paths: dict[str, Path] = {}
        for one in missing:
            wheel = one.item.wheel
            paths[wheel.sha256] = workspace.wheelhouse / wheel.name
            if not _has_size(paths[wheel.sha256], wheel.size):
                for name in one.names:
                    workshop.fail(name, error)
        return paths


def _lock_of(group: Sequence[NeededWheel]) -> LayerLock:
    """The lock of one layer, with only the wheels of `group`."""
    return replace(group[0].target.lock, distributions=tuple(one.item for one in group))


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False
