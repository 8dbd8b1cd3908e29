"""Archives: small ones in the `install_only` layout, and unpacking those of layers."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import TYPE_CHECKING

from packaging.version import Version

from stackbuild.runtimes.model import RuntimeArchive
from stackbuild.runtimes.tarball import decompressed as decompressed_archive
from tests.support.frames import sha256
from tests.support.zstd import compressed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Content = bytes | str | tarfile.TarInfo
"""Of a file, or the target of a symbolic link, or a member without data."""


def make_archive(
    path: Path, files: Mapping[str, Content], *, executable: Iterable[str] = (), top: str = "python"
) -> RuntimeArchive:
    """Write an archive to `path` (`.tar.gz` or `.tar.zst`) with `files` below `top`."""
    buffer = io.BytesIO()
    modes = set(executable)
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            member = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo()
            member.name = f"{top}/{name}" if top else name
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            data = content if isinstance(content, bytes) else b""
            member.size = len(data)
            member.mode = 0o775 if name in modes else 0o664
            member.uid, member.mtime = 1000, 1_700_000_000
            archive.addfile(member, io.BytesIO(data))
    data = buffer.getvalue()
    if path.name.endswith(".zst"):
        path.write_bytes(compressed(data[:2000]) + compressed(data[2000:]))
    else:
        path.write_bytes(gzip.compress(data))
    return archive_at(path)


def archive_at(path: Path) -> RuntimeArchive:
    """The archive at `path`, whatever it holds."""
    return RuntimeArchive(
        path=path,
        sha256=sha256(path),
        version=Version("3.12.10"),
        source="local",
        stands_in=True,
        origin=path.name,
    )


def unpack_layer(archive: Path, to: Path) -> None:
    """Unpack the archive of a layer with Python's `tarfile`."""
    with (
        decompressed_archive(archive) as data,
        tarfile.open(fileobj=data, mode="r|") as tar,
    ):
        # The filter `data`, the default from CPython 3.14 on, refuses the link to the
        # interpreter, which leaves the directory. CPython before 3.11.4 has no filters.
        tar.extraction_filter = getattr(tarfile, "tar_filter", None)
        tar.extractall(to)
