"""What wheels require (core metadata), without downloading them.

The metadata of a wheel is read from the wheelhouse, from the index (PEP 658),
or out of the wheel where the index has it. It is kept by the wheel's sha256.
"""

from __future__ import annotations

import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from stackbuild.errors import FetchError
from stackbuild.files import atomic_write
from stackbuild.lock.indexes import index_settings
from stackbuild.lock.targets import target_of
from stackbuild.lock.url_cache import Address, Addresses
from stackbuild.resolve.request import ResolveRequest
from stackbuild.resolve.uv import UnresolvableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.utils import NormalizedName
    from typing_extensions import Buffer

    from stackbuild.lock.model import LockedDistribution
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.resolve.uv import Uv
    from stackbuild.spec.model import Layer, Stack
    from stackbuild.workspace import Workspace

_REQUESTS = 8
"""At a time, for each layer; they wait for the index."""
_LONGEST = 16 << 20
_READ_AHEAD = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """The part of a distribution's metadata that other distributions depend on."""

    requires: tuple[str, ...]
    """Requirements (PEP 508)."""
    extras: tuple[str, ...]


class Metadata:
    """Reads and remembers the metadata of locked wheels. Safe in any thread."""

    def __init__(self, stack: Stack, workspace: Workspace, messages: Messages, uv: Uv) -> None:
        self._stack = stack
        self._uv = uv
        self._workspace = workspace
        self._messages = messages
        self._addresses = Addresses(workspace.addresses)

    def of(
        self, layer: Layer, platform: Platform, items: Sequence[LockedDistribution]
    ) -> dict[NormalizedName, Described]:
        """What is known of `items`, which `layer` installs on `platform`.

        Raises FetchError where no index has the wheel of one of them.
        """
        self._locate(layer, platform, [item for item in items if self._is_nowhere(item)])
        with ThreadPoolExecutor(_REQUESTS) as pool:
            found = pool.map(lambda item: self._described(layer, item), items)
            return {item.name: one for item, one in zip(items, found, strict=True)}

    def _is_nowhere(self, item: LockedDistribution) -> bool:
        return not (
            item.build
            or self._kept(item).is_file()
            or self._in_wheelhouse(item)
            or self._addresses.get(item.wheel.sha256)
        )

    def _locate(
        self, layer: Layer, platform: Platform, items: Sequence[LockedDistribution]
    ) -> None:
        """Remember where the indexes have the wheels of `items`, as far as they do."""
        if not items:
            return
        request = ResolveRequest(
            layer=layer.name,
            requirements=tuple(f"{item.name}=={item.version}" for item in items),
            target=target_of(layer, platform, self._stack.python_version(layer)),
            indexes=index_settings(self._stack, layer),
            no_deps=True,
            every_file=True,
        )
        sizes = {item.wheel.sha256: item.wheel.size for item in items}
        with suppress(UnresolvableError):
            for one in self._uv.ask(request).found:
                if one.sha256 in sizes:
                    address = Address(url=one.url, size=sizes[one.sha256])
                    self._addresses.remember(one.sha256, address)

    def _kept(self, item: LockedDistribution) -> Path:
        sha256 = item.wheel.sha256
        return self._workspace.metadata / sha256[:2] / f"{sha256}.metadata"

    def _in_wheelhouse(self, item: LockedDistribution) -> Path | None:
        path = self._workspace.wheelhouse / item.wheel.name
        return path if path.is_file() and path.stat().st_size == item.wheel.size else None

    def _described(self, layer: Layer, item: LockedDistribution) -> Described:
        if item.build is not None:
            return Described(requires=item.build.dependencies, extras=item.build.extras)
        kept = self._kept(item)
        try:
            content = kept.read_bytes()
        except FileNotFoundError:
            content = self._read(layer, item)
            atomic_write(kept, content)
        headers = BytesHeaderParser().parsebytes(content)
        return Described(
            requires=tuple(map(str, headers.get_all("Requires-Dist", []))),
            extras=tuple(map(str, headers.get_all("Provides-Extra", []))),
        )

    def _read(self, layer: Layer, item: LockedDistribution) -> bytes:
        if wheel := self._in_wheelhouse(item):
            return _inside(wheel, item)
        known = self._addresses.get(item.wheel.sha256)
        if known is None:
            raise FetchError(
                "no package index has the wheel that the lock names, to read its metadata",
                layer=layer.name,
                distribution=f"{item.name} {item.version}",
                file=item.wheel.name,
                expected=f"sha256 {item.wheel.sha256}",
                remedy=f"copy it to {self._workspace.wheelhouse}, or lock {layer.name} again with"
                f" `stackbuild lock --layer {layer.name} --upgrade`",
            )
        parts = urlsplit(known.url)
        if parts.scheme == "file":
            return _inside(Path(url2pathname(parts.path)), item)
        from stackbuild.transport.ranges import read_bytes

        url = index_settings(self._stack, layer).with_credentials(known.url)
        try:
            content = read_bytes(f"{url}.metadata", _LONGEST, messages=self._messages)
        except FetchError:
            content = b""
        if BytesHeaderParser().parsebytes(content).get("Version") == str(item.version):
            return content
        # The index does not serve it beside the wheel.
        return _inside(io.BufferedReader(_Remote(url, item.wheel.size), _READ_AHEAD), item)


def _inside(wheel: Path | io.BufferedReader, item: LockedDistribution) -> bytes:
    """METADATA of a wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.count("/") == 1 and name.endswith(".dist-info/METADATA"):
                    return archive.read(name)
    except (zipfile.BadZipFile, OSError) as error:
        found = str(error)
    else:
        found = "no METADATA"
    raise FetchError(
        "the metadata of a wheel cannot be read",
        distribution=f"{item.name} {item.version}",
        file=item.wheel.name,
        found=found,
    )


class _Remote(io.RawIOBase):
    """A file on a server, of which only those parts are fetched that are read."""

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
