"""Frame sets as JSON, for the cache. A manifest has a JSON of its own."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stackbuild import strictjson
from stackbuild.frames.model import EntryPoint, Frame, FrameKind, FrameSet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def dump(frame_set: FrameSet) -> bytes:
    """`frame_set` as JSON."""
    return json.dumps(asdict(frame_set), separators=(",", ":")).encode()


def read(path: Path) -> FrameSet:
    """The frame set in a file that `dump` made. Raises OSError and ValueError."""
    try:
        return _frame_set(strictjson.read(path))
    except (strictjson.JsonError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _frame_set(value: Mapping[str, Any]) -> FrameSet:
    frame_set = FrameSet(
        key=value["key"],
        frames=tuple(
            Frame(**{**frame, "kind": FrameKind(frame["kind"])}) for frame in value["frames"]
        ),
        paths=tuple(value["paths"]),
        entry_points=tuple(EntryPoint(**point) for point in value["entry_points"]),
        pth=tuple(value["pth"]),
        licence=value["licence"],
    )
    texts = (
        frame_set.key,
        "" if frame_set.licence is None else frame_set.licence,
        *frame_set.paths,
        *frame_set.pth,
        *(text for frame in frame_set.frames for text in (frame.subject, frame.sha256)),
        *(text for one in frame_set.entry_points for text in (one.name, one.module, one.attribute)),
    )
    counts = [
        n for frame in frame_set.frames for n in (frame.size, frame.content_size, frame.files)
    ]
    if not all(isinstance(point.gui, bool) for point in frame_set.entry_points):
        raise TypeError("gui is not true or false")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a text is not a string")
    if not all(type(count) is int and count >= 0 for count in counts):
        raise TypeError("a size is not a whole number")
    return frame_set
