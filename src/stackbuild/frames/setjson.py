"""Frame sets as JSON, for the cache. A manifest has a JSON of its own."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stackbuild.frames.model import EntryPoint, Frame, FrameKind, FrameSet

if TYPE_CHECKING:
    from collections.abc import Mapping


def dump(frame_set: FrameSet) -> bytes:
    """`frame_set` as JSON."""
    return json.dumps(asdict(frame_set), separators=(",", ":")).encode()


def load(data: bytes) -> FrameSet:
    """The frame set that `dump` wrote. Raises ValueError for anything else."""
    try:
        return _frame_set(json.loads(data))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _frame_set(value: Mapping[str, Any]) -> FrameSet:
    return FrameSet(
        key=value["key"],
        frames=tuple(
            Frame(**{**frame, "kind": FrameKind(frame["kind"])}) for frame in value["frames"]
        ),
        paths=tuple(value["paths"]),
        entry_points=tuple(EntryPoint(**point) for point in value["entry_points"]),
        pth=tuple(value["pth"]),
        licence=value["licence"],
    )
