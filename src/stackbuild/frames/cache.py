"""The frame cache: frames by the sha256 of their bytes, frame sets by their key.

    frames/<2 digits>/<sha256>.zst    one zstd frame
    patches/<key>                     a patch after its sha256 (32 bytes)
    sets/<key>.json                   a FrameSet, written when all its frames are there
    work/                             files being written

Files are renamed into place, so several processes may make the same frame at the same time. The
last one wins; the contents are equal, because the names depend on the contents.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild import strictjson
from stackbuild.errors import IntegrityError
from stackbuild.frames import tarformat
from stackbuild.frames.model import FRAME, Binary, EntryPoint, Frame, FrameSet
from stackbuild.reading import Item, ReadError, records

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from stackbuild.frames.model import FrameKind
    from stackbuild.reading import Readers


class LostFrameError(IntegrityError):
    """A frame of the cache is damaged or missing and must be made again."""


_CHUNK = 1024 * 1024
_GRACE = 600.0
_DIGEST = hashlib.sha256().digest_size


class FrameCache:
    """A directory of frames. All methods are safe in several threads and processes."""

    def __init__(
        self, directory: Path, *, read_only: bool = False, lower: FrameCache | None = None
    ) -> None:
        """With `read_only` no method may write. `lower` has frames that need not be made again."""
        self._frames = directory / "frames"
        self._patches = directory / "patches"
        self._sets = directory / "sets"
        self._work = directory / "work"
        self._read_only = read_only
        self._lower = lower
        self._damaged: set[str] = set()
        """sha256 of the damaged frames that may not be removed."""

    def frame_path(self, sha256: str) -> Path:
        """The path of the frame with this sha256, which may be missing."""
        return self._frames / sha256[:2] / f"{sha256}.zst"

    def get(self, key: str) -> FrameSet | None:
        """The frame set of `key` if it and all its frames are present in full size.

        Marks it as just used, so that `prune` keeps it for a while.
        """
        found = self._own(key)
        return self._lower.get(key) if found is None and self._lower else found

    def _own(self, key: str) -> FrameSet | None:
        path = self._set_path(key)
        try:
            frame_set = read_frame_set(path)
            if frame_set.key != key or not all(
                self.frame_path(frame.sha256).stat().st_size == frame.size
                and frame.sha256 not in self._damaged
                for frame in frame_set.frames
            ):
                return None
            if not self._read_only:
                os.utime(path)
        except (OSError, ValueError):
            return None
        return frame_set

    def put(self, frame_set: FrameSet) -> FrameSet:
        """Store `frame_set`, whose frames were made by `new_frame`; returns it."""
        with self.work_file() as path:
            path.write_bytes(dump_frame_set(frame_set))
            self._move(path, self._set_path(frame_set.key))
        return frame_set

    @contextmanager
    def new_frame(
        self, kind: FrameKind, subject: str, level: int, *, expected: int
    ) -> Iterator[FrameWriter]:
        """A writer for one frame; the frame is kept if the `with` block succeeds.

        `level` is the zstd level. `expected` is the approximate size of the files in bytes; it may
        depend only on the input. Afterwards the writer's `frame` is set.

        Example::

            with cache.new_frame(FrameKind.OVERLAY, "app", 9, expected=5) as writer:
                writer.add("share/note.txt", [b"hello"], size=5)
            frame = writer.frame
        """
        with self.work_file() as path:
            with path.open("wb") as file:
                writer = FrameWriter(file.write, kind, subject, level, expected)
                yield writer
                writer.close()
            self._move(path, self.frame_path(writer.frame.sha256))

    def read(self, frame: Frame) -> Iterator[bytes]:
        """The bytes of `frame`, in pieces, with its size and sha256 checked at the end.

        A damaged frame is removed, so that the next command makes it again, and IntegrityError is
        raised.
        """
        path = self.frame_path(frame.sha256)
        if self._lower and not path.exists():
            yield from self._lower.read(frame)
            return
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    yield chunk
        except FileNotFoundError:
            raise _lost(frame, "is missing from the cache", path) from None
        if digest.hexdigest() != frame.sha256:
            if self._read_only:
                self._damaged.add(frame.sha256)
            else:
                path.unlink(missing_ok=True)
            raise _lost(frame, "was damaged in the cache", path)

    def has(self, frame: Frame) -> bool:
        """Whether a file of the size of `frame` is present; `read` checks its sha256."""
        try:
            return self.frame_path(frame.sha256).stat().st_size == frame.size
        except OSError:
            return self._lower is not None and self._lower.has(frame)

    def put_frame(self, frame: Frame, pieces: Iterable[bytes]) -> bool:
        """Store `frame`, whose bytes are `pieces`; False if they have another sha256."""
        digest = hashlib.sha256()
        with self.work_file() as path:
            with path.open("wb") as file:
                for piece in pieces:
                    digest.update(piece)
                    file.write(piece)
            if digest.hexdigest() == frame.sha256:
                self._move(path, self.frame_path(frame.sha256))
                return True
        return False

    def patch(self, key: str) -> bytes | None:
        """The patch that was stored under `key`, or None if it is missing or damaged."""
        try:
            data = (self._patches / key).read_bytes()
        except OSError:
            data = b""
        digest, patch = data[:_DIGEST], data[_DIGEST:]
        if hashlib.sha256(patch).digest() == digest:
            return patch
        return self._lower.patch(key) if self._lower else None

    def put_patch(self, key: str, patch: bytes) -> bytes:
        """Store `patch` under `key`, the sha256 (hex) of all that decides its bytes; returns it."""
        with self.work_file() as path:
            path.write_bytes(hashlib.sha256(patch).digest() + patch)
            self._move(path, self._patches / key)
        return patch

    def sets(self) -> Iterator[FrameSet]:
        """Every frame set that is complete, sorted by key."""
        for path in sorted(self._sets.glob("*.json")):
            try:
                yield read_frame_set(path)
            except (OSError, ValueError):
                continue

    def prune(self, keep_keys: Collection[str], *, grace: float = _GRACE) -> int:
        """Remove frame sets other than `keep_keys`, frames in no set, patches, and leftovers.

        Files made or used within the last `grace` seconds are kept, because another process may
        need them. Returns the number of freed bytes.
        """
        before = time.time() - grace
        freed = 0
        for path in self._sets.glob("*.json"):
            if path.stem not in keep_keys:
                freed += _remove_if_older(path, before)
        named = {frame.sha256 for frame_set in self.sets() for frame in frame_set.frames}
        leftovers = [path for path in self._frames.glob("*/*.zst") if path.stem not in named]
        for path in (*leftovers, *self._patches.glob("*"), *self._work.glob("*")):
            freed += _remove_if_older(path, before)
        return freed

    @contextmanager
    def work_file(self) -> Iterator[Path]:
        """An empty file beside the frames, removed afterwards if it still exists."""
        self._work.mkdir(parents=True, exist_ok=True)
        import tempfile

        handle, name = tempfile.mkstemp(dir=self._work)
        os.close(handle)
        path = Path(name)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _set_path(self, key: str) -> Path:
        return self._sets / f"{key}.json"

    def _move(self, path: Path, to: Path) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        path.chmod(0o644)
        try:
            path.replace(to)
        except PermissionError:
            # Windows: another process reads the existing file, which is equal.
            if not to.exists():
                raise


class FrameWriter:
    """Writes tar entries into one zstd frame. Not thread-safe."""

    frame: Frame
    """Set by `close`."""

    def __init__(
        self,
        write: Callable[[bytes], object],
        kind: FrameKind,
        subject: str,
        level: int,
        expected: int,
    ) -> None:
        self._write = write
        self._kind = kind
        self._subject = subject
        from stackbuild.zstd import compressor

        self._zstd = compressor(level, expected)
        self._sha256, self._content_sha256 = hashlib.sha256(), hashlib.sha256()
        self._size = self._content_size = self._files = 0

    def add(
        self,
        path: str,
        chunks: Iterable[bytes] = (),
        *,
        size: int = 0,
        executable: bool = False,
        link: str | None = None,
    ) -> None:
        """Add a file of `size` bytes, a symbolic link, or (`path/`) an empty directory.

        Raises IntegrityError if `chunks` do not have `size` bytes in total.
        """
        self._compress(tarformat.header(path, size=size, executable=executable, link=link))
        written = 0
        for chunk in chunks:
            written += len(chunk)
            self._compress(chunk)
        if written != size:
            raise IntegrityError(
                "a file changed while it was read",
                file=path,
                expected=f"{size} bytes",
                found=f"{written} bytes",
            )
        self._compress(tarformat.padding(size))
        self._files += 1

    def end(self) -> None:
        """Add the end-of-archive blocks, for the last frame of an archive."""
        self._compress(tarformat.END)

    def close(self) -> None:
        """Finish the frame."""
        self._put(self._zstd.flush())
        self.frame = Frame(
            kind=self._kind,
            subject=self._subject,
            sha256=self._sha256.hexdigest(),
            size=self._size,
            content_size=self._content_size,
            files=self._files,
            content_sha256=self._content_sha256.hexdigest(),
        )

    def _compress(self, data: bytes) -> None:
        self._content_size += len(data)
        self._content_sha256.update(data)
        self._put(self._zstd.compress(data))

    def _put(self, data: bytes) -> None:
        if data:
            self._sha256.update(data)
            self._size += len(data)
            self._write(data)


def _lost(frame: Frame, what: str, path: Path) -> LostFrameError:
    return LostFrameError(
        f"a frame of {frame.subject} {what}", file=path, remedy="run the command again"
    )


def _remove_if_older(path: Path, before: float) -> int:
    try:
        status = path.stat()
        if status.st_mtime > before:
            return 0
        path.unlink()
    except OSError:
        return 0
    return status.st_size


def dump_frame_set(frame_set: FrameSet) -> bytes:
    """`frame_set` as JSON."""
    return json.dumps(asdict(frame_set), separators=(",", ":")).encode()


def read_frame_set(path: Path) -> FrameSet:
    """Read the frame set in a file that `dump` wrote. Raises OSError and ValueError."""
    try:
        return Item("", strictjson.read(path)).record(
            FrameSet, _FRAME_SET, {"excluded": Item.strings}
        )
    except (strictjson.JsonError, ReadError) as error:
        raise ValueError(str(error)) from error


_ENTRY_POINT: Readers = {
    "name": Item.string,
    "module": Item.string,
    "attribute": Item.string,
    "gui": Item.flag,
}
_BINARY: Readers = {
    "machines": Item.strings,
    "needed": Item.strings,
    "search": Item.strings,
    "program": Item.flag,
    "path": Item.string,
    "link": Item.flag,
}
_FRAME_SET: Readers = {
    "key": Item.string,
    "frames": records(Frame, FRAME),
    "paths": Item.strings,
    "entry_points": records(EntryPoint, _ENTRY_POINT),
    "pth": Item.strings,
    "licence": lambda item: item.optional(Item.string),
    "binaries": records(Binary, _BINARY),
}
