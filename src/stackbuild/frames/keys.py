"""What decides the bytes of a frame, in one digest."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from stackbuild.frames.compression import library_version
from stackbuild.frames.model import FORMAT_VERSION

if TYPE_CHECKING:
    from stackbuild.spec.model import FrameSettings


def digest_of(*inputs: str | bool | int) -> str:
    """The sha256 (hex) of `inputs`, in their order."""
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def frame_key(*inputs: str | bool, settings: FrameSettings) -> str:
    """The sha256 (hex) of `inputs` and of what every frame depends on.

    That is the format version, zstd's version and the level.
    """
    return digest_of(FORMAT_VERSION, library_version(), settings.level, *inputs)
