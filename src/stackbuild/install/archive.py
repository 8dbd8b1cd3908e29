"""Write layers, and the layers below them, side by side into one archive.

Unpacked, the archive is a directory of layers as `install.export` makes it:

.stackbuild.tag                     the mark (`stackbuild.mark`); always the first entry
.stackbuild/manifests/<layer>.json  the manifest of each layer
<layer>/…                           the layers, lower ones first

The frames of the layers are kept compressed beside the archive while it is written, so that memory
is bounded and no tree of files is made. A path that several frames of a layer have is written once,
with the contents of the last frame, which is the one that an install uses. The bytes depend on the
manifests, and on the version of the compression library.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING

from stackbuild.compose.archive import add_to_zip
from stackbuild.compose.serialize import manifest_to_json
from stackbuild.errors import InstallError, IntegrityError, in_the_way, system_errors
from stackbuild.files import atomic_file, read_regular
from stackbuild.frames.keys import ZSTD_MAGIC
from stackbuild.frames.tarformat import END, TarReader, header, padding
from stackbuild.install.fetch import in_layer, verified_frames
from stackbuild.install.generation import check_apart
from stackbuild.install.home import must_be_adjusted
from stackbuild.install.plan import plan_install
from stackbuild.install.report import PackReport
from stackbuild.install.state import State
from stackbuild.install.unpack import entries
from stackbuild.mark import MARK, Kind, mark_text
from stackbuild.platforms import host_platform
from stackbuild.registry.find import Published
from stackbuild.workspace import expanded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from stackbuild.compose.manifest import Manifest
    from stackbuild.frames.model import Frame
    from stackbuild.frames.tarformat import Member
    from stackbuild.install.report import PackedFormat
    from stackbuild.messages import Messages, Task
    from stackbuild.platforms import Platform
    from stackbuild.registry.base import Registry

GZIP_LEVEL = 6
_ZSTD_LEVEL = 9
_BLOCK = 1 << 20
_MOST_THREADS = 8
"""Of gzip; each has four blocks of `_BLOCK` bytes at most."""
_ZSTD_THREADS = 2
"""Each takes about 80 MiB. The bytes are the same for any number of threads, but not for none."""
_WINDOW = 32 << 10
"""How far back deflate refers (RFC 1951)."""
_HEAD = 64 << 10
_ELSEWHERE = "name another file: --output FILE"


def export_archive(
    layers: Sequence[str],
    archive_format: PackedFormat,
    registry: Registry,
    path: Path | None,
    platform: Platform | None,
    messages: Messages,
) -> PackReport:
    """Write `layers`, and those below them, to the archive `path`; see `api.export_archive`."""
    published = Published(registry, platform or host_platform())
    wanted = published.find(layers)
    manifests = chains(wanted, published, messages)
    names = "-".join(one.layer for one in wanted)
    target = file_path(path, f"{names}-{published.platform}.{archive_format}")
    write_archive(target, archive_format, manifests, published, messages)
    if must_be_adjusted(manifests):
        runtime, top = manifests[0].directory, manifests[-1].directory
        messages.note(
            f"after unpacking on {published.platform}, run the postinstall.py of each layer: "
            rf"{runtime}\python.exe {top}\postinstall.py"
        )
    return pack_report(target, manifests, published)


def pack_report(path: Path, manifests: tuple[Manifest, ...], published: Published) -> PackReport:
    """The report about the file `path`, to which `manifests` were written."""
    size = path.stat().st_size
    return PackReport(path=path, platform=published.platform, layers=manifests, size=size)


def write_archive(
    path: Path,
    archive_format: PackedFormat,
    manifests: Sequence[Manifest],
    published: Published,
    messages: Messages,
) -> None:
    """Write `manifests`, lower layers first, to the archive `path`. Raises as `packed` does."""
    with new_file(path) as file, packed(manifests, published, path, messages) as members:
        _WRITERS[archive_format](members, file)


def chains(
    wanted: Sequence[Manifest], published: Published, messages: Messages
) -> tuple[Manifest, ...]:
    """The manifests of the layers `wanted` and of those below them, lower layers first.

    Raises InstallError for layers that do not fit together, or that contain their own place.
    """
    for manifest in wanted:
        if doubts := published.entry(manifest).doubts:
            messages.warn(f"{manifest.layer} is {'; '.join(doubts)}")
    state = State(platform=published.platform, asked=())
    plan = plan_install(wanted, state, published, Path("ROOT"))
    manifests = tuple(plan.state.layers.values())
    if published.platform.os != "windows" and must_be_adjusted(manifests):
        raise InstallError(
            f"layers on CPython {manifests[0].python_version} contain the path of their runtime, "
            "so they cannot be unpacked elsewhere",
            layer=manifests[0].layer,
            platform=published.platform,
            remedy="use CPython 3.14.1 or newer, or export to a directory: "
            f"stackbuild export {' '.join(one.layer for one in wanted)} DIR",
        )
    return manifests


def file_path(path: Path | None, default: str) -> Path:
    """The absolute path of the file to write."""
    return Path(os.path.abspath(expanded(path or Path(default))))  # noqa: PTH100 - removes `..`


@contextmanager
def new_file(path: Path, elsewhere: str = _ELSEWHERE) -> Iterator[IO[bytes]]:
    """A new file that replaces `path` if the block succeeds.

    Raises InstallError for a file that stackbuild did not write, and for system errors; `elsewhere`
    says how to name another file.
    """
    with system_errors(InstallError, path.parent, elsewhere=elsewhere):
        if os.path.lexists(path) and not _is_ours(path):
            raise in_the_way(InstallError, path, elsewhere)
        with atomic_file(path) as work, work.open("xb") as file:
            yield file


def _is_ours(path: Path) -> bool:
    """Whether `path` is empty, or an archive, bundle or image that stackbuild wrote."""
    from stackbuild.zstd import ZstdError, ZstdReader

    try:
        head = read_regular(path, _HEAD)
        if head[:4] == b"PK\x03\x04":
            head = head[30:]  # the name in the local file header (APPNOTE.TXT, 4.3.7)
        elif head[:2] == b"\x1f\x8b":
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, len(MARK))
        elif head[:4] == ZSTD_MAGIC:
            head = ZstdReader(io.BytesIO(head)).read(len(MARK))
    except (OSError, zlib.error, ZstdError):
        return False
    return not head or head.startswith((MARK.encode(), BUNDLE, IMAGE))


IMAGE = header("manifest.json")[:124]
"""The beginning of an archive for docker (`images.destination`), up to the size of the entry."""
BUNDLE = b"#!/bin/sh\n# stackbuild bundle"
"""The beginning of a bundle (`install.bundle`)."""


@contextmanager
def packed(
    manifests: Sequence[Manifest], published: Published, path: Path, messages: Messages
) -> Iterator[Iterator[Member]]:
    """The entries of an archive of `manifests`; frames are kept beside `path` until the block ends.

    Raises FetchError, IntegrityError, InstallError, OSError.
    """
    with TemporaryDirectory(dir=path.parent, prefix=".stackbuild-") as name:
        directory = Path(name)
        last: dict[tuple[str, str], int] = {}
        for manifest in manifests:
            last |= keep_frames(manifest, published, directory, messages)
        total = sum(placed.frame.content_size for one in manifests for placed in one.frames)
        with messages.task("packing", total) as task:
            yield _members(manifests, directory, last, task)


def keep_frames(
    manifest: Manifest, published: Published, directory: Path, messages: Messages
) -> dict[tuple[str, str], int]:
    """Write the verified frames of `manifest` to `directory`, as `<sha256>`.

    Returns, by layer and path, the offset of the last frame with the path.
    """
    last: dict[tuple[str, str], int] = {}
    leaves: set[str] = set()
    directories: set[str] = set()
    for received in verified_frames(manifest, published, directory, messages):
        placed = received.placed
        with received.data as data:
            for member in _checked(data, manifest, placed.frame):
                last[manifest.directory, member.path] = placed.offset
                (directories if member.is_directory else leaves).add(member.path)
                parent = member.path.rpartition("/")[0]
                while parent and parent not in directories:
                    directories.add(parent)
                    parent = parent.rpartition("/")[0]
            data.seek(0)
            with (directory / placed.frame.sha256).open("wb") as file:
                shutil.copyfileobj(data, file)
    check_apart(manifest, leaves, directories)
    return last


def _checked(data: IO[bytes], manifest: Manifest, frame: Frame) -> Iterator[Member]:
    siblings = {manifest.directory, *(link.directory for link in manifest.chain)}
    try:
        yield from entries(data, frame, siblings, manifest.platform.os)
    except IntegrityError as error:
        raise in_layer(error, manifest, frame.subject) from error


def _members(
    manifests: Sequence[Manifest],
    directory: Path,
    last: Mapping[tuple[str, str], int],
    task: Task,
) -> Iterator[Member]:
    own = {MARK: mark_text(Kind.LAYERS).encode()}
    for manifest in manifests:
        own[f".stackbuild/manifests/{manifest.directory}.json"] = manifest_to_json(manifest)
    yield from plain_members(own)
    for manifest in manifests:
        for member in layer_members(manifest, directory, last, task):
            yield member._replace(path=f"{manifest.directory}/{member.path}")


def layer_members(
    manifest: Manifest, directory: Path, last: Mapping[tuple[str, str], int], task: Task
) -> Iterator[Member]:
    """The entries of a layer, whose frames `keep_frames` wrote; each path once."""
    for placed in manifest.frames:
        with (directory / placed.frame.sha256).open("rb") as data:
            for member in _checked(data, manifest, placed.frame):
                if last[manifest.directory, member.path] == placed.offset:
                    yield member
        task.advance(placed.frame.content_size)


def member_header(member: Member) -> bytes:
    """The header blocks of a tar entry for `member`."""
    return header(
        f"{member.path}/" if member.is_directory else member.path,
        size=member.size,
        executable=bool(member.mode & 0o111),
        link=member.link,
    )


def plain_members(files: Mapping[str, bytes]) -> Iterator[Member]:
    """Entries for `files`, by path."""
    tar = b"".join(
        header(path, size=len(data)) + data + padding(len(data)) for path, data in files.items()
    )
    yield from TarReader(io.BytesIO(tar).read)


def _tar(members: Iterable[Member]) -> Iterator[bytes]:
    for member in members:
        yield member_header(member)
        yield from member.data()
        yield padding(member.size)
    yield END


def gzipped(members: Iterable[Member]) -> Iterator[bytes]:
    """A tar archive of `members`, as `gzip_stream` makes it."""
    return gzip_stream(_tar(members))


def gzip_stream(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`pieces` as one gzip member (RFC 1952) without name and time.

    Blocks are compressed by several threads and joined at byte boundaries, as pigz does. Their
    number does not change the bytes.
    """
    crc = size = 0
    before = b""
    yield b"\x1f\x8b\x08\0" + bytes(4) + b"\0\xff"  # no flags, time 0, system unknown
    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[bytes]] = deque()
        for block in _blocks(pieces):
            crc = zlib.crc32(block, crc)
            size += len(block)
            pending.append(pool.submit(_deflated, block, before))
            before = block[-_WINDOW:]
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    yield b"\x03\0" + struct.pack("<2I", crc, size & 0xFFFFFFFF)  # an empty last block


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        while len(buffer) >= _BLOCK:
            yield bytes(buffer[:_BLOCK])
            del buffer[:_BLOCK]
    yield bytes(buffer)


def _deflated(block: bytes, before: bytes) -> bytes:
    """`block` as deflate blocks that end at a byte boundary; `before` are the bytes before it."""
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=before)
    return compressor.compress(block) + compressor.flush(zlib.Z_SYNC_FLUSH)


def _write_gz(members: Iterable[Member], file: IO[bytes]) -> None:
    for data in gzipped(members):
        file.write(data)


def _write_zst(members: Iterable[Member], file: IO[bytes]) -> None:
    from stackbuild.zstd import CompressionParameter, ZstdCompressor

    compressor = ZstdCompressor(
        options={
            CompressionParameter.compression_level: _ZSTD_LEVEL,
            CompressionParameter.nb_workers: _ZSTD_THREADS,
            CompressionParameter.checksum_flag: 1,
        }
    )
    for data in _tar(members):
        file.write(compressor.compress(data))
    file.write(compressor.flush())


def _write_zip(members: Iterable[Member], file: IO[bytes]) -> None:
    import zipfile

    with zipfile.ZipFile(file, "w") as archive:
        for member in members:
            add_to_zip(archive, member)


_WRITERS: dict[PackedFormat, Callable[[Iterable[Member], IO[bytes]], None]] = {
    "tar.gz": _write_gz,
    "tar.zst": _write_zst,
    "zip": _write_zip,
}
