"""Patches: contents of frames, compressed with the contents of other frames as a prefix.

A patch is one zstd frame (RFC 8878). The prefix, its *source*, is in the window when decompression
begins, as with `zstd --patch-from`. A source has the entries of the regular files of its frames, in
order; so it can also be made of unpacked frames, whose links and directories have no order. The
result are the tar fragments of frames, one after the other.
"""

from __future__ import annotations

from itertools import accumulate
from typing import IO, TYPE_CHECKING

from stackbuild.errors import IntegrityError
from stackbuild.frames.keys import library_version
from stackbuild.frames.tarformat import header, padding
from stackbuild.strictjson import digest_of
from stackbuild.zstd import (
    MAX_WINDOW_LOG,
    CompressionParameter,
    ZstdCompressor,
    ZstdDict,
    ZstdError,
    decompressor,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from stackbuild.frames.model import Frame
    from stackbuild.frames.tarformat import Member

MAX_BYTES = 1 << 27
"""Limit for the bytes of a source, of a result, and of the window of a patch: 128 MiB."""

_FORMAT = 1
_LEVEL = 9
_LEAST_WINDOW_LOG = 10
_LEAST_PREFIX = 8
"""The library takes no shorter prefix."""
_PIECE = 1 << 20


def patch_key(sources: Sequence[Frame], frames: Sequence[Frame]) -> str:
    """The sha256 (hex) of all that decides the bytes of a patch."""
    names = [[frame.sha256 for frame in some] for some in (sources, frames)]
    return digest_of(["patch", _FORMAT, library_version(), _LEVEL, *names])


def source_of(members: Iterable[Member]) -> Iterator[bytes]:
    """The part of a source with `members`, the entries of a frame, in pieces."""
    for member in members:
        if member.link is None and not member.is_directory:
            executable = bool(member.mode & 0o111)
            yield from source_entry(member.path, member.size, executable, member.data())


def source_entry(path: str, size: int, executable: bool, data: Iterable[bytes]) -> Iterator[bytes]:
    """The part of a source with one file, in pieces."""
    yield header(path, size=size, executable=executable)
    yield from data
    yield padding(size)


def limited(pieces: Iterable[bytes]) -> bytearray:
    """`pieces` together. Raises IntegrityError if they have more than `MAX_BYTES`."""
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) > MAX_BYTES:
            raise IntegrityError(
                "the source of a patch is too large", expected=f"at most {MAX_BYTES} bytes"
            )
    return data


def make_patch(source: bytes | bytearray, contents: Iterable[bytes], size: int) -> bytes:
    """The patch that makes `contents`, of `size` bytes in total, from `source`.

    Its bytes depend on nothing else but the version of zstd. The library copies `source`, which may
    be freed meanwhile if the caller does not keep it.
    """
    window_log = max((len(source) + size).bit_length(), _LEAST_WINDOW_LOG)
    compressor = ZstdCompressor(
        options={
            CompressionParameter.compression_level: _LEVEL,
            CompressionParameter.enable_long_distance_matching: 1,
            CompressionParameter.window_log: min(window_log, MAX_WINDOW_LOG),
            CompressionParameter.checksum_flag: 1,
        },
        zstd_dict=_prefix(source),
    )
    del source
    compressor.set_pledged_input_size(size)
    pieces = [compressor.compress(piece) for piece in contents]
    return b"".join([*pieces, compressor.flush()])


def apply_patch(source: bytes | bytearray, patch: IO[bytes], size: int) -> Iterator[bytes]:
    """The contents that `patch` makes from `source`, in pieces.

    `source` is freed as by `make_patch`. Raises IntegrityError if the patch is damaged, has other
    than `size` bytes of contents, or needs a window of more than `MAX_BYTES`.
    """
    content = decompressor(_prefix(source))
    del source
    left = size
    try:
        while not content.eof:
            data = patch.read(_PIECE) if content.needs_input else b""
            if content.needs_input and not data:
                raise _fault(f"ends {left} bytes too early")
            piece = content.decompress(data, max_length=_PIECE)
            left -= len(piece)
            if left < 0:
                raise _fault(f"has more than {size} bytes of contents")
            yield piece
    except ZstdError as error:
        raise _fault(f"cannot be decompressed: {error}") from error
    if left or content.unused_data or patch.read(1):
        raise _fault("has other contents than its manifest says")


def _prefix(source: bytes | bytearray) -> tuple[ZstdDict, int] | None:
    if len(source) < _LEAST_PREFIX:
        return None
    return ZstdDict(source, is_raw=True).as_prefix


def _fault(what: str) -> IntegrityError:
    return IntegrityError(f"a patch {what}")


def grouped(frames: Sequence[Frame]) -> list[list[Frame]]:
    """`frames` in groups of neighbours that one patch can make; larger frames are left out."""
    groups: list[list[Frame]] = [[]]
    for frame in frames:
        if frame.content_size > MAX_BYTES:
            continue
        if sum(one.content_size for one in groups[-1]) + frame.content_size > MAX_BYTES:
            groups.append([])
        groups[-1].append(frame)
    return [group for group in groups if group]


def nearest(
    sources: Sequence[Frame], all_of: Sequence[Frame], group: Sequence[Frame]
) -> list[Frame]:
    """Those of `sources` that are placed most like `group` in `all_of`, as many as possible.

    Files are ordered alike in two versions of a distribution, so that frames with equal files are
    in nearly equal places.
    """
    middle = _middles(all_of)
    place = sum(middle[all_of.index(frame)] for frame in group) / len(group)
    by_distance = sorted(
        zip(_middles(sources), range(len(sources)), strict=True),
        key=lambda item: abs(item[0] - place),
    )
    chosen, left = [], MAX_BYTES
    for _, number in by_distance:
        if sources[number].content_size <= left:
            left -= sources[number].content_size
            chosen.append(number)
    return [sources[number] for number in sorted(chosen)]


def _middles(frames: Sequence[Frame]) -> list[float]:
    """The place of the middle of each frame, between 0 and 1."""
    ends = list(accumulate(frame.content_size for frame in frames))
    return [
        (end - frame.content_size / 2) / max(ends[-1], 1)
        for frame, end in zip(frames, ends, strict=True)
    ]
