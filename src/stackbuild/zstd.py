"""zstd (RFC 8878): from the standard library or, before Python 3.14, from its backport.

Importing this module loads the library, so it is imported where it is used.
"""

from __future__ import annotations

import sys
from typing import IO

if sys.version_info >= (3, 14):
    from compression.zstd import (
        CompressionParameter,
        DecompressionParameter,
        ZstdCompressor,
        ZstdDecompressor,
        ZstdDict,
        ZstdError,
        zstd_version,
    )
else:
    from backports.zstd import (
        CompressionParameter,
        DecompressionParameter,
        ZstdCompressor,
        ZstdDecompressor,
        ZstdDict,
        ZstdError,
        zstd_version,
    )

__all__ = ["CompressionParameter", "ZstdCompressor", "ZstdDict", "ZstdError", "zstd_version"]

MAX_WINDOW_LOG = 27
"""zstd's own default limit, 128 MiB; a frame that asks for more memory is refused."""

_WINDOW_LOG = 24
"""A window of 16 MiB covers all files of a frame (`MAX_FILE_BYTES`)."""
_LEAST_WINDOW_LOG = 10
_WIDE = 1 << 22
"""Contents with more bytes get larger tables than those of the level."""
_FAST_LEVELS = range(-100, 6)
"""Levels chosen for speed, which larger tables would reduce."""
_SLOW_LEVELS = range(17, 23)
_READ = 1 << 20


def compressor(level: int, expected: int) -> ZstdCompressor:
    """A compressor for one frame of about `expected` bytes, at zstd's `level` (1 to 22).

    `expected` may depend only on the frame's input, because it influences the table sizes and so
    the output. The frame has a checksum of its content (RFC 8878, section 3.1.1).
    """
    window_log = min(max((2 * expected).bit_length(), _LEAST_WINDOW_LOG), _WINDOW_LOG)
    options: dict[int, int] = {
        CompressionParameter.compression_level: level,
        CompressionParameter.window_log: window_log,
        CompressionParameter.checksum_flag: 1,
    }
    if expected > _WIDE and level not in _FAST_LEVELS:
        # Larger tables than zstd's own for the middle levels save 2.5 % on wheels at level 9 and
        # cost little time. Smaller ones for the highest levels keep two parallel compressions
        # below 300 MiB and cost 0.1 %.
        slow = level in _SLOW_LEVELS
        options[CompressionParameter.chain_log] = 24 if slow else 22
        options[CompressionParameter.hash_log] = 23 if slow else 22
    return ZstdCompressor(options=options)


def decompressor(zstd_dict: tuple[ZstdDict, int] | None = None) -> ZstdDecompressor:
    """A decompressor for one frame whose window has at most `MAX_WINDOW_LOG`."""
    return ZstdDecompressor(zstd_dict, {DecompressionParameter.window_log_max: MAX_WINDOW_LOG})


class ZstdReader:
    """The content of the first zstd frame in a file, or with `all_frames` of all of them.

    `file` is positioned at the first byte. A truncated file ends without an error.
    """

    def __init__(self, file: IO[bytes], *, all_frames: bool = False) -> None:
        self._file = file
        self._all_frames = all_frames
        self._frame = decompressor()

    def read(self, size: int) -> bytes:
        """At most `size` bytes; empty only at the end. Raises ZstdError for damaged frames."""
        while True:
            data = b""
            if self._frame.eof:
                data = self._frame.unused_data or self._file.read(_READ)
                if not (self._all_frames and data):
                    return b""
                self._frame = decompressor()
            elif self._frame.needs_input and not (data := self._file.read(_READ)):
                return b""
            if piece := self._frame.decompress(data, max_length=size):
                return piece
