"""Facts about wheels without downloading them: core metadata, size and sha256.

Metadata is read from the wheelhouse, from the index (PEP 658), or from the wheel
on the index by range requests, and cached by the wheel's sha256.
"""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from stackbuild.errors import FetchError, IntegrityError
from stackbuild.files import atomic_write, sha256_file
from stackbuild.lock.index_pages import Address, Addresses
from stackbuild.lock.model import LockedFile
from stackbuild.lock.wheelhouse import is_in_wheelhouse
from stackbuild.names import is_distribution
from stackbuild.resolve.request import CoreMetadata
from stackbuild.transport.urls import path_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from email.message import Message

    from packaging.utils import NormalizedName
    from packaging.version import Version
    from typing_extensions import Buffer

    from stackbuild.lock.index_pages import IndexPages, Offer
    from stackbuild.lock.indexes import IndexSettings
    from stackbuild.lock.model import LockedDistribution
    from stackbuild.messages import Messages
    from stackbuild.resolve.request import Found
    from stackbuild.transport.simple_api import IndexFile
    from stackbuild.workspace import Workspace


_REQUESTS = 8
"""Concurrent downloads for each layer."""
_LONGEST = 16 << 20
_READ_AHEAD = 64 * 1024


class Metadata:
    """Reads and caches facts about the wheels of indexes. Thread-safe."""

    def __init__(self, workspace: Workspace, messages: Messages, pages: IndexPages) -> None:
        self._workspace = workspace
        self._messages = messages
        self._pages = pages
        self._addresses = Addresses(workspace.addresses)
        self._of_offers: dict[str, CoreMetadata] = {}

    def of(
        self, layer: str, items: Sequence[LockedDistribution], indexes: IndexSettings
    ) -> dict[NormalizedName, CoreMetadata]:
        """The metadata of `items`, which `layer` has from `indexes`.

        Raises FetchError if no index has the wheel of one of them, and IntegrityError for a wheel
        whose metadata has another name or version.
        """
        with ThreadPoolExecutor(_REQUESTS) as pool:
            found = pool.map(lambda item: self._of_locked(layer, item, indexes), items)
            return {item.name: one for item, one in zip(items, found, strict=True)}

    def of_offer(self, offer: Offer, indexes: IndexSettings) -> CoreMetadata:
        """The metadata of a wheel that one of `indexes` has. Raises FetchError."""
        file = offer.file
        if (known := self._of_offers.get(file.url)) is None:
            kept = self._kept(file.sha256) if file.sha256 else None
            if kept and kept.is_file():
                content = kept.read_bytes()
            else:
                content = self._received(file, offer.version, indexes)
                if kept:
                    atomic_write(kept, content)
            known = self._of_offers[file.url] = _parsed(content, offer.version)
        return known

    def files(self, found: Sequence[Found], indexes: IndexSettings) -> list[LockedFile]:
        """The file of each of `found`, in their order; remembers their addresses.

        Size and sha256 are those of the index, or of the file where the index omits them.
        Raises FetchError, and IntegrityError for a wheel of this machine whose metadata has
        another name or version.
        """
        if not found:
            return []
        with ThreadPoolExecutor(_REQUESTS) as pool:
            return list(pool.map(lambda item: self._locked(item, indexes), found))

    def given(self, found: Found, indexes: IndexSettings) -> LockedFile:
        """The file at the address of a requirement.

        A file whose size is unknown is downloaded, and compared with its sha256 if that is known.
        Raises FetchError and IntegrityError.
        """
        from stackbuild.transport.transfer import download

        if found.sha256 and found.size is None:
            path = self._workspace.wheelhouse / found.file
            if not path.is_file() or sha256_file(path) != found.sha256:
                path.parent.mkdir(parents=True, exist_ok=True)
                url = indexes.with_credentials(found.url)
                download(url, path, sha256=found.sha256, messages=self._messages)
            found = replace(found, size=path.stat().st_size)
        return self._locked(found, indexes)

    def _kept(self, sha256: str) -> Path:
        return self._workspace.metadata / sha256[:2] / f"{sha256}.metadata"

    def _of_locked(
        self, layer: str, item: LockedDistribution, indexes: IndexSettings
    ) -> CoreMetadata:
        if item.build is not None:
            return metadata_of(item)
        kept = self._kept(item.wheel.sha256)
        try:
            content = kept.read_bytes()
        except FileNotFoundError:
            path = self._workspace.wheelhouse / item.wheel.name
            if is_in_wheelhouse(self._workspace, item.wheel):
                content = _inside(path, path.name)
            else:
                file = self._file(layer, item, indexes)
                content = self._received(file, item.version, indexes)
            atomic_write(kept, content)
        _check_names(content, item.name, item.version, item.wheel.name)
        return _parsed(content, item.version)

    def _file(self, layer: str, item: LockedDistribution, indexes: IndexSettings) -> IndexFile:
        """Where the wheel of `item` is."""
        from stackbuild.transport.simple_api import IndexFile

        wheel = item.wheel
        given, known = indexes.files.get(wheel.name), self._addresses.get(wheel.sha256)
        offers = () if known or given else self._pages.offers(item.name, indexes) or ()
        urls = [offer.file.url for offer in offers if offer.file.sha256 == wheel.sha256]
        if given or known or urls:
            url = given or (known.url if known else urls[0])
            # Some indexes serve the metadata beside the wheel without announcing it.
            return IndexFile(name=wheel.name, url=url, size=wheel.size, has_metadata=True)
        raise FetchError(
            "no package index has the wheel that the lock names, to read its metadata",
            layer=layer,
            distribution=f"{item.name} {item.version}",
            file=wheel.name,
            expected=f"sha256 {wheel.sha256}",
            remedy=f"copy it to {self._workspace.wheelhouse}, or lock {layer} again with"
            f" `stackbuild lock --layer {layer} --upgrade`",
        )

    def _received(self, file: IndexFile, version: Version, indexes: IndexSettings) -> bytes:
        """METADATA of the wheel `file`, from the index (PEP 658) or from the wheel."""
        if path := path_of(urlsplit(file.url)):
            return _inside(path, file.name)
        from stackbuild.transport.ranges import content_length, read_bytes

        url = indexes.with_credentials(file.url)
        content = b""
        if file.has_metadata:
            with suppress(FetchError):
                content = read_bytes(f"{url}.metadata", _LONGEST, messages=self._messages)
        if _headers(content).get("Version") == str(version):
            return content
        size = file.size if file.size is not None else content_length(url, messages=self._messages)
        if size is None:
            return _inside(io.BytesIO(read_bytes(url, messages=self._messages)), file.name)
        return _inside(io.BufferedReader(_Remote(url, size), _READ_AHEAD), file.name)

    def _locked(self, item: Found, indexes: IndexSettings) -> LockedFile:
        sha256, size = item.sha256, item.size
        path = path_of(urlsplit(item.url))
        # uv does not compare the metadata of such a wheel with its file name.
        if path and item.file.endswith(".whl"):
            _check_names(_inside(path, item.file), item.name, item.version, path)
        if sha256 is not None and size is None and (known := self._addresses.get(sha256)):
            size = known.size
        if sha256 is not None and size is None:
            from stackbuild.transport.ranges import content_length

            size = content_length(indexes.with_credentials(item.url), messages=self._messages)
        if sha256 is None or size is None:
            sha256, size = self._measure(item, indexes)
        kept = self._workspace.wheelhouse / item.file
        if path and kept.is_file() and sha256_file(kept) != sha256:
            kept.unlink()  # The local file was replaced by one which may have the same size.
        self._addresses.remember(sha256, Address(url=item.url, size=size))
        return LockedFile(name=item.file, size=size, sha256=sha256)

    def _measure(self, item: Found, indexes: IndexSettings) -> tuple[str, int]:
        """Download and measure the file, for an index that gives neither size nor sha256."""
        from stackbuild.transport.transfer import download

        with TemporaryDirectory(prefix="stackbuild-") as name:
            path = Path(name) / item.file
            url = indexes.with_credentials(item.url)
            download(url, path, sha256=item.sha256, messages=self._messages)
            return sha256_file(path), path.stat().st_size


def metadata_of(item: LockedDistribution) -> CoreMetadata:
    """The metadata of a wheel that was built from source."""
    if item.build is None:
        return CoreMetadata(version=item.version)
    build = item.build
    return CoreMetadata(version=item.version, dependencies=build.dependencies, extras=build.extras)


def _headers(content: bytes) -> Message:
    from email.parser import BytesHeaderParser

    return BytesHeaderParser().parsebytes(content)


def _parsed(content: bytes, version: Version) -> CoreMetadata:
    headers = _headers(content)
    return CoreMetadata(
        version=version,
        dependencies=tuple(map(str, headers.get_all("Requires-Dist", []))),
        extras=tuple(map(str, headers.get_all("Provides-Extra", []))),
    )


def _check_names(content: bytes, name: NormalizedName, version: Version, file: str | Path) -> None:
    """Check the name and version in `content`, METADATA of the wheel `file`.

    Raises IntegrityError.
    """
    headers = _headers(content)
    said = str(headers.get("Name", "")), str(headers.get("Version", ""))
    if not is_distribution(*said, name, version):
        raise IntegrityError(
            "the metadata of a wheel has another name or version than its file name",
            distribution=f"{name} {version}",
            file=file,
            expected=f"{name} {version}",
            found=ascii(" ".join(said)),
            remedy="build the wheel again, or require another one",
        )


def _inside(wheel: Path | IO[bytes], name: str) -> bytes:
    """METADATA of the wheel with the file name `name`."""
    import zipfile

    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if member.count("/") == 1 and member.endswith(".dist-info/METADATA"):
                    return archive.read(member)
    except (zipfile.BadZipFile, OSError) as error:
        found = str(error)
    else:
        found = "no METADATA"
    raise FetchError("the metadata of a wheel cannot be read", file=name, found=found)


class _Remote(io.RawIOBase):
    """A file on a server, read by range requests."""

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Buffer, /) -> int:
        from stackbuild.transport.ranges import read_spans

        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self._size)
        if end <= self._at:
            return 0
        content = b"".join(read_spans(self._url, [(self._at, end)]))
        view[: len(content)] = content
        self._at += len(content)
        return len(content)
