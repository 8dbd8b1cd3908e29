"""zstd frames in one call."""

from __future__ import annotations

import io

from stackbuild.zstd import ZstdCompressor, ZstdReader


def compressed(data: bytes, options: dict[int, int] | None = None) -> bytes:
    """`data` as one frame, without its size in the header."""
    compressor = ZstdCompressor(options=options or {})
    return compressor.compress(data) + compressor.flush()


def decompressed(data: bytes) -> bytes:
    """The content of all frames in `data`."""
    reader = ZstdReader(io.BytesIO(data), all_frames=True)
    return b"".join(iter(lambda: reader.read(1 << 20), b""))
