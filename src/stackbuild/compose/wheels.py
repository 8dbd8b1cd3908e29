"""The wheels whose frames are not in the cache."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.builds.builder import WheelBuilder
from stackbuild.errors import StackbuildError
from stackbuild.lock.fetch import fetch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stackbuild.compose.parts import Member
    from stackbuild.compose.workshop import Workshop
    from stackbuild.lock.model import LayerLock, LockedDistribution
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace


class Wanted(NamedTuple):
    """A wheel whose frames are needed, and the keys of its frame sets."""

    member: Member
    item: LockedDistribution
    key: str
    bytecode: str | None

    @property
    def names(self) -> list[str]:
        """The keys, which are what its sets are called in the workshop."""
        return [self.key, self.bytecode] if self.bytecode else [self.key]


def fetch_missing(
    missing: Sequence[Wanted],
    stack: Stack,
    workspace: Workspace,
    workshop: Workshop,
    messages: Messages,
) -> Mapping[str, Path]:
    """The wheels of `missing`, by sha256; in the workshop, those that cannot be had have failed."""
    by_member: dict[tuple[str, Platform], list[Wanted]] = {}
    for one in missing:
        by_member.setdefault((one.member.layer.name, one.member.platform), []).append(one)
    locks = [_lock_of(group) for group in by_member.values()]
    if not locks:
        return {}
    try:
        builder = WheelBuilder(stack, workspace, messages)
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


def _lock_of(group: Sequence[Wanted]) -> LayerLock:
    """The lock of one layer, with only the wheels of `group`."""
    return replace(group[0].member.lock, distributions=tuple(one.item for one in group))


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False
