"""Compare the C library and the other host libraries that layers need with those of a base."""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from stackbuild.errors import ComposeError, IntegrityError
from stackbuild.images.blobs import GZIP_TYPE, LAYER_TYPE
from stackbuild.runtimes.elf import C_LIBRARY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stackbuild.compose.manifest import Manifest
    from stackbuild.images.base import Base
    from stackbuild.images.blobs import Blob, BlobCache
    from stackbuild.images.layers import MadeLayer
    from stackbuild.messages import Messages
    from stackbuild.reading import Readers

_LIBRARY = re.compile(r".+\.so(?:\.[0-9.]+)?")
_GLIBC = re.compile(r"libc(?:\.so\.6|-2\.[0-9]+\.so)")
"""Before version 2.34, libc.so.6 was a link to a file such as libc-2.31.so."""
_RELEASE = re.compile(rb"GNU C Library [^\n]{1,100} version (2\.[0-9]{1,3})")
_LARGEST_GLIBC = 16 << 20
_MANYLINUX = re.compile(r"manylinux_2_([0-9]+)_")
_OLDER = {"manylinux1": 5, "manylinux2010": 12, "manylinux2014": 17}
"""Minor versions of glibc (PEP 600, legacy tags)."""
_REMEDY = "use a base with glibc, such as --base debian:12-slim"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What a layer of a base has."""

    libraries: tuple[str, ...]
    """File names of shared libraries."""
    glibc: str
    """Its version; empty if the layer has none, or if it cannot be told."""


_READERS: Readers = {
    "libraries": lambda item: item.strings(),
    "glibc": lambda item: item.string(),
}


def check_libraries(
    base: Base,
    manifests: Sequence[Manifest],
    made: Sequence[MadeLayer],
    cache: BlobCache,
    messages: Messages,
) -> None:
    """Check that `base` has the C library that the layers need; warn about other libraries.

    `made` are the image layers of `manifests`. Files that a layer of the base deletes again count
    as present. Raises ComposeError, and IntegrityError for a damaged base.
    """
    included = {name for layer in made for name in layer.included}
    needed = {name for layer in made for name in layer.needed} - included
    needed |= {name for manifest in manifests for name in manifest.host_libraries}
    found = [_found(blob, base, cache) for blob in base.layers]
    missing = sorted(needed - {name for layer in found for name in layer.libraries})
    top = manifests[-1]
    if C_LIBRARY & set(missing):
        raise ComposeError(
            f"the base {base.name} lacks shared libraries that the layers need",
            layer=top.layer,
            platform=top.platform,
            expected=", ".join(missing),
            remedy=_REMEDY,
        )
    if missing:
        messages.warn(
            f"the base {base.name} lacks {', '.join(missing)}: modules that need "
            f"{'it' if len(missing) == 1 else 'one of them'} cannot be imported"
        )
    version = next((layer.glibc for layer in reversed(found) if layer.glibc), None)
    if version is not None:
        _check_glibc(int(version.partition(".")[2]), base, manifests)


def _check_glibc(minor: int, base: Base, manifests: Iterable[Manifest]) -> None:
    for manifest in manifests:
        for shipped in manifest.distributions:
            if (least := _least(shipped.wheel)) > minor:
                raise ComposeError(
                    f"the glibc of the base {base.name} is too old for a wheel",
                    layer=manifest.layer,
                    platform=manifest.platform,
                    distribution=f"{shipped.name} {shipped.version}",
                    file=shipped.wheel,
                    expected=f"glibc 2.{least} or newer",
                    found=f"glibc 2.{minor}",
                    remedy="use a newer base",
                )


def _least(wheel: str) -> int:
    """The minor version of glibc 2 that a wheel needs; 0 for others than manylinux (PEP 600)."""
    tags = wheel.removesuffix(".whl").rpartition("-")[2].split(".")
    versions = [int(match[1]) for tag in tags if (match := _MANYLINUX.match(tag))]
    versions += [_OLDER[name] for tag in tags if (name := tag.partition("_")[0]) in _OLDER]
    return min(versions, default=0)


def _found(blob: Blob, base: Base, cache: BlobCache) -> _Found:
    name = f"bases/{blob.sha256}"
    known = cache.record(name, lambda item: item.record(_Found, _READERS))
    if known is not None:
        return known
    try:
        with blob.open() as file, _archive(blob, file) as archive:
            found = _scan(archive)
    except (tarfile.TarError, EOFError) as error:
        raise IntegrityError(
            f"a layer of the base {base.name} is not a tar archive",
            file=blob.digest,
            found=str(error),
        ) from error
    cache.note(name, found)
    return found


def _archive(blob: Blob, file: IO[bytes]) -> tarfile.TarFile:
    if blob.media_type in {LAYER_TYPE, GZIP_TYPE}:
        return tarfile.open(fileobj=file, mode="r|" if blob.media_type == LAYER_TYPE else "r|gz")
    from stackbuild.zstd import ZstdReader

    # tarfile only calls read() of a stream.
    reader = cast("IO[bytes]", ZstdReader(file, all_frames=True))
    return tarfile.open(fileobj=reader, mode="r|")


def _scan(archive: tarfile.TarFile) -> _Found:
    libraries: set[str] = set()
    glibc = ""
    for entry in archive:
        name = entry.name.rpartition("/")[2]
        if not _LIBRARY.fullmatch(name) or entry.isdir():
            continue
        libraries.add(name)
        if _GLIBC.fullmatch(name) and entry.isreg() and entry.size <= _LARGEST_GLIBC:
            content = archive.extractfile(entry)
            match = _RELEASE.search(content.read()) if content else None
            glibc = match[1].decode() if match else glibc
    return _Found(libraries=tuple(sorted(libraries)), glibc=glibc)
