"""zstd parameters and the keys of frame sets."""

from __future__ import annotations

import io
from functools import cache
from typing import IO, TYPE_CHECKING

from stackbuild.frames.model import FORMAT_VERSION
from stackbuild.strictjson import digest_of

if TYPE_CHECKING:
    import zstandard

    from stackbuild.spec.model import FrameSettings


_MAGIC = 0xFD2FB528.to_bytes(4, "little")

_WINDOW_LOG = 24
"""A window of 16 MiB covers all files of a frame (`MAX_FILE_BYTES`)."""

# Larger tables than zstd's default for the middle levels save 2.5 % on wheels at level 9 and cost
# little time. Smaller ones than its default for the highest levels keep two parallel compressions
# below 300 MiB and cost 0.1 %.
_LEAST_TABLE_LOG = 22
_MOST_CHAIN_LOG = 24
_MOST_HASH_LOG = 23
_FAST_LEVELS = range(-100, 6)
"""Levels chosen for speed, which larger tables would reduce."""


@cache
def library_version() -> str:
    """The version of the zstd library; another one may make different bytes from the same input."""
    import zstandard

    return ".".join(map(str, zstandard.ZSTD_VERSION))


def frame_length(file: IO[bytes]) -> int | None:
    """The size in bytes of the zstd frame at the position of `file`, which does not change.

    Only headers are read, not blocks. None if there is no frame or it is truncated; the
    decompressor reports that (RFC 8878, section 3.1.1).
    """
    start = file.tell()
    try:
        head = file.read(5)
        if len(head) < 5 or head[:4] != _MAGIC:
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


def compressor(level: int, expected: int) -> zstandard.ZstdCompressor:
    """A compressor for one frame of about `expected` bytes, at zstd's `level` (1 to 22).

    `expected` may depend only on the frame's input, because it influences the table sizes and so
    the output. The frame has a checksum of its content (RFC 8878, section 3.1.1).
    """
    import zstandard

    make = zstandard.ZstdCompressionParameters.from_level
    usual = make(level, source_size=expected)
    wide = expected > 1 << usual.window_log
    least = _LEAST_TABLE_LOG if wide and level not in _FAST_LEVELS else 0
    parameters = make(
        level,
        window_log=_WINDOW_LOG if wide else usual.window_log,
        chain_log=min(max(usual.chain_log, least), _MOST_CHAIN_LOG),
        hash_log=min(max(usual.hash_log, least), _MOST_HASH_LOG),
        source_size=expected,
        write_checksum=True,
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


def frame_key(*inputs: str | bool, settings: FrameSettings) -> str:
    """The sha256 (hex) of `inputs`, the format version, zstd's version and the level."""
    return digest_of([FORMAT_VERSION, library_version(), settings.level, *inputs])
