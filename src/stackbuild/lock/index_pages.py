"""The files of a distribution in the package indexes of a layer.

Each page is requested at most once in a run. Priority, `explicit` and the
settings `index-strategy` and `exclude-newer` are applied as in uv.
"""

from __future__ import annotations

import json
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, urlsplit

from stackbuild import strictjson
from stackbuild.files import atomic_write
from stackbuild.messages import SILENT
from stackbuild.reading import Item, ReadError
from stackbuild.spec.uv_table import newest_upload
from stackbuild.transport.retries import ForbiddenError, NotFoundError, UnreachableError
from stackbuild.transport.urls import host_of, path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from packaging.tags import Tag
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.errors import FetchError
    from stackbuild.lock.indexes import IndexSettings
    from stackbuild.messages import Messages
    from stackbuild.transport.simple_api import IndexFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A wheel or a source distribution in an index."""

    name: NormalizedName
    version: Version
    tags: frozenset[Tag] | None
    """None for a source distribution."""
    file: IndexFile


class IndexPages:
    """The pages of package indexes. Thread-safe."""

    def __init__(self, *, default: Callable[[], str | None], messages: Messages = SILENT) -> None:
        """`default` returns the address of the default index, if the spec has none."""
        self._default = default
        self._messages = messages
        self._lock = Lock()
        self._pages: dict[tuple[str, NormalizedName | None], Future[Sequence[Offer] | None]] = {}
        self._unreachable: dict[str, UnreachableError] = {}
        self.refusals: dict[NormalizedName, ForbiddenError] = {}
        """By name: the error of an index that forbids its page, though a later index has one."""

    def offers(self, name: NormalizedName, settings: IndexSettings) -> tuple[Offer, ...] | None:
        """The files of `name` in the indexes of `settings`; None if none of them has it.

        Raises FetchError if an index cannot be reached, or refuses the request,
        and LockError for credentials that are not set.
        """
        every = settings.uv_settings.get("index-strategy", "first-index") != "first-index"
        found: list[Offer] | None = None
        for path in settings.local_directories:
            local = self._page(path.as_uri(), name, flat=True) if path.is_dir() else None
            found = [*(found or ()), *local] if local else found
        refusal = None
        for table in self._tables(name, settings):
            try:
                offers = self._page(str(table["url"]), name, flat=table.get("format") == "flat")
            except ForbiddenError as error:
                # Whether uv goes on to the next index depends on the index.
                refusal = error
                continue
            if offers is not None:
                found = [*(found or ()), *offers]
                if not every:
                    break
        if refusal and found is None:
            raise refusal
        if refusal:
            self.refusals[name] = refusal
        if found is None:
            return None
        moment = _newest(name, settings.uv_settings)
        return tuple(one for one in found if moment is None or _is_before(one.file, moment))

    def _tables(self, name: NormalizedName, settings: IndexSettings) -> list[Mapping[str, object]]:
        """The indexes in which `name` is looked up, in order."""
        if name in settings.sources:
            tables = settings.tables()
            return [table for table in tables if table.get("name") == settings.sources[name]]
        default = None if settings.has_default else self._default()
        tables = [table for table in settings.tables(default=default) if "explicit" not in table]
        # The default index comes last, regardless of its position (as in uv).
        return sorted(tables, key=lambda table: "default" in table)

    def _page(self, url: str, name: NormalizedName, *, flat: bool) -> Sequence[Offer] | None:
        key = (url, None if flat else name)
        with self._lock:
            future = self._pages.get(key)
            mine = future is None
            if future is None:
                future = self._pages[key] = Future()
        if mine:
            try:
                future.set_result(self._read(url, None if flat else name))
            except BaseException as error:  # noqa: BLE001 - raised again below
                future.set_exception(error)
        offers = future.result()
        if not flat or offers is None:
            return offers
        return [offer for offer in offers if offer.name == name] or None

    def _read(self, url: str, name: NormalizedName | None) -> Sequence[Offer] | None:
        """Read the page of `name`, or the only page of a flat index."""
        from stackbuild.transport.simple_api import read_directory, read_page

        parts = urlsplit(url)
        host = host_of(parts.netloc)
        local = path_of(parts)
        page = url if name is None else f"{url.rstrip('/')}/{quote(name)}/"
        page += "index.html" if local and name else ""
        if known := self._unreachable.get(host):
            raise UnreachableError(known.host, page, known.reason)
        try:
            if name is None and local and local.is_dir():
                files = read_directory(local)
            else:
                files = read_page(page, messages=self._messages)
        except NotFoundError:
            return None
        except UnreachableError as error:
            self._unreachable[host] = error
            raise
        offers = [offer for file in files if (offer := _offer(file))]
        return [offer for offer in offers if name in (None, offer.name)]


def _offer(file: IndexFile) -> Offer | None:
    """The `Offer` for `file`; None if its name is not valid."""
    from packaging.utils import (
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    try:
        if file.name.endswith(".whl"):
            name, version, _, tags = parse_wheel_filename(file.name)
            return Offer(name=name, version=version, tags=tags, file=file)
        name, version = parse_sdist_filename(file.name)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
    return Offer(name=name, version=version, tags=None, file=file)


def _newest(name: NormalizedName, settings: Mapping[str, object]) -> datetime | None:
    """The upload time from which on files of `name` are ignored."""
    by_name = cast("Mapping[str, str]", settings.get("exclude-newer-package", {}))
    text = by_name.get(name) or settings.get("exclude-newer")
    return newest_upload(str(text), datetime.now(UTC)) if text else None


def _is_before(file: IndexFile, moment: datetime) -> bool:
    """Whether `file` was uploaded before `moment`; False if the time is unknown (as in uv)."""
    try:
        uploaded = datetime.fromisoformat(file.uploaded or "")
    except ValueError:
        return False
    return (uploaded if uploaded.tzinfo else uploaded.replace(tzinfo=UTC)) < moment


INDEX_FAILURE = "the package index cannot be read"


def index_failure(error: FetchError) -> tuple[str, str]:
    """`found` and `remedy` of an error with the message `INDEX_FAILURE`, `error` its cause."""
    details = dict(error.details)
    place = f" ({details['file']})" if "file" in details else ""
    reason = f": {details['found']}" if "found" in details else ""
    remedy = "check the address and the credentials of the index, and the network"
    return f"{error.message}{place}{reason}", details.get("to fix", remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The address of a file, without credentials, and its size in bytes."""

    url: str
    size: int


class Addresses:
    """The entries in a directory, one file for each sha256 (hex)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, sha256: str) -> Address | None:
        """The entry of a file, or None; a damaged entry is ignored."""
        try:
            entry = Item("", strictjson.read(self._path(sha256)))
            return entry.record(Address, {"url": Item.string, "size": Item.count})
        except (OSError, strictjson.JsonError, ReadError):
            return None

    def remember(self, sha256: str, address: Address) -> None:
        """Save an entry."""
        if self.get(sha256) != address:
            entry = {"url": address.url, "size": address.size}
            atomic_write(self._path(sha256), json.dumps(entry), durable=False)

    def _path(self, sha256: str) -> Path:
        return self._directory / sha256[:2] / f"{sha256}.json"
