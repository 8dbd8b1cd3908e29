"""The lengths of frames and the keys of frame sets."""

from __future__ import annotations

import io
from functools import cache
from typing import IO, TYPE_CHECKING

from stackbuild.frames.model import FORMAT_VERSION
from stackbuild.strictjson import digest_of

if TYPE_CHECKING:
    from stackbuild.spec.model import FrameSettings


ZSTD_MAGIC = 0xFD2FB528.to_bytes(4, "little")


@cache
def library_version() -> str:
    """The version of the zstd library; another one may make different bytes from the same input."""
    from stackbuild.zstd import zstd_version

    return zstd_version


def frame_length(file: IO[bytes]) -> int | None:
    """The size in bytes of the zstd frame at the position of `file`, which does not change.

    Only headers are read, not blocks. None if there is no frame or it is truncated; the
    decompressor reports that (RFC 8878, section 3.1.1).
    """
    start = file.tell()
    try:
        head = file.read(5)
        if len(head) < 5 or head[:4] != ZSTD_MAGIC:
            return None
        single = head[4] >> 5 & 1
        dictionary = (0, 1, 2, 4)[head[4] & 3]
        content_size = (single, 2, 4, 8)[head[4] >> 6]
        file.seek(1 - single + dictionary + content_size, io.SEEK_CUR)
        is_last = False
        while not is_last:
            block = file.read(3)
            if len(block) < 3:
                return None
            number = int.from_bytes(block, "little")
            is_last = bool(number & 1)
            # A block of type 1 is one repeated byte.
            file.seek(1 if number >> 1 & 3 == 1 else number >> 3, io.SEEK_CUR)
        checksum = 4 * (head[4] >> 2 & 1)
        return file.tell() + checksum - start
    finally:
        file.seek(start)


def frame_key(*inputs: str | bool, settings: FrameSettings) -> str:
    """The sha256 (hex) of `inputs`, the format version, zstd's version and the level."""
    return digest_of([FORMAT_VERSION, library_version(), settings.level, *inputs])
