"""Pages of package indexes: what is read from them, and in which index a name is looked up."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from packaging.utils import canonicalize_name

from stackbuild import strictjson
from stackbuild.errors import FetchError, LockError
from stackbuild.lock.index_pages import IndexPages
from stackbuild.lock.indexes import IndexSettings
from stackbuild.spec.model import PackageIndex
from stackbuild.spec.uv_table import newest_upload
from stackbuild.transport.retries import NotFoundError, Patience, UnreachableError
from stackbuild.transport.simple_api import IndexFile, read_directory, read_page
from tests.support.http import CutAfter, Page, Redirect, Status, serving

if TYPE_CHECKING:
    from pathlib import Path

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "text/html"
SHA256 = "0f" * 32
QUICK = Patience(reach=10.0, silence=1.0, attempts=3, backoff=0.01)
WHEEL = "base-1.0-py3-none-any.whl"
BASE = canonicalize_name("base")


def _json(*files: dict[str, Any], version: str = "1.1") -> bytes:
    return json.dumps({"meta": {"api-version": version}, "name": "x", "files": files}).encode()


def _link(name: str = WHEEL, **more: Any) -> dict[str, Any]:
    return {"filename": name, "url": f"../../files/{name}", "hashes": {}, **more}


def _read(body: bytes, kind: str, **headers: str) -> tuple[IndexFile, ...]:
    with serving() as server:
        server.script("/simple/base/", Page(body, kind, headers))
        return tuple(
            replace(file, url=file.url.replace(server.url, ""))
            for file in read_page(f"{server.url}/simple/base/", patience=QUICK)
        )


def test_a_json_page() -> None:
    full: dict[str, Any] = {
        "hashes": {"sha256": SHA256.upper(), "md5": "1"},
        "size": 12,
        "requires-python": ">=3.9",
        "core-metadata": {"sha256": SHA256},
        "upload-time": "2025-01-02T03:04:05.678Z",
        "yanked": "broken",
    }
    files = _read(_json(_link(**full), _link("base-1.0.tar.gz"), _link("base-1.0.exe")), JSON)
    assert files == (
        IndexFile(
            name=WHEEL,
            url=f"/files/{WHEEL}",
            sha256=SHA256,
            size=12,
            requires_python=">=3.9",
            yanked=True,
            has_metadata=True,
            uploaded="2025-01-02T03:04:05.678Z",
        ),
        IndexFile(name="base-1.0.tar.gz", url="/files/base-1.0.tar.gz"),
    )


def test_an_html_page() -> None:
    page = f"""<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.4">
    <base href="/mirror/"></head><body><a href="../">up</a><a name="here">nothing</a>
    <a href="files/base-1.0%2Blocal-py3-none-any.whl#sha256={SHA256}"
       data-requires-python="&gt;=3.9" data-core-metadata="sha256={SHA256}">x</a><br>
    <a href="files/base-1.0.tar.gz" data-yanked data-dist-info-metadata="false">x</a>"""
    assert _read(page.encode(), HTML) == (
        IndexFile(
            name="base-1.0+local-py3-none-any.whl",
            url="/mirror/files/base-1.0%2Blocal-py3-none-any.whl",
            sha256=SHA256,
            requires_python=">=3.9",
            has_metadata=True,
        ),
        IndexFile(name="base-1.0.tar.gz", url="/mirror/files/base-1.0.tar.gz", yanked=True),
    )


def test_json_is_asked_for_and_a_packed_page_is_unpacked() -> None:
    with serving() as server:
        packed = gzip.compress(_json(*[_link()] * 500))
        server.script("/base/", Page(packed, JSON, {"Content-Encoding": "gzip"}))
        assert len(read_page(f"{server.url}/base/")) == 500
        headers = server.requests[0].headers
    assert headers["accept"].startswith(JSON)
    assert headers["accept-encoding"] == "gzip"


def test_addresses_are_relative_to_where_a_redirect_leads_and_have_no_credentials() -> None:
    with serving() as other, serving() as server:
        server.script("/simple/base/", Redirect(f"{other.url}/a/b/base/"))
        other.script("/a/b/base/", Page(_json(_link()), JSON))
        url = server.url.replace("://", "://user:secret@")
        (file,) = read_page(f"{url}/simple/base/")
        assert file.url == f"{other.url}/a/files/{WHEEL}"


BAD = {
    "no JSON": (b"{", JSON, "Expecting property name"),
    "another version": (_json(version="2.0"), JSON, "version '2.0' of the simple"),
    "no meta": (b'{"files": []}', JSON, "JSON without `meta`"),
    "no files": (b'{"meta": {"api-version": "1.0"}}', JSON, "JSON without `files`"),
    "no object": (_json(7), JSON, "files[0] is not an object"),  # type: ignore[arg-type]
    "no url": (_json(_link(url=None)), JSON, "files[0] without `filename`, `url` or `hashes`"),
    "a local file": (_json(_link(url="file:///etc/x")), JSON, "is a file on this machine"),
    "no address": (_json(_link(url="javascript:1")), JSON, f"{WHEEL} is at javascript:1"),
    "html version": (b'<meta name="pypi:repository-version" content="2">', HTML, "version '2'"),
    "another type": (b"x", "application/octet-stream", "application/octet-stream, neither JSON"),
    "a strange charset": (b"x", "text/html; charset=none-such", "unknown encoding"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_page_that_cannot_be_read(case: str) -> None:
    body, kind, found = BAD[case]
    with pytest.raises(FetchError, match="sends a page that cannot be read") as caught:
        _read(body, kind)
    assert found in dict(caught.value.details)["found"]


@pytest.mark.parametrize("packed", [False, True])
def test_a_page_is_bounded(monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setattr("stackbuild.transport.simple_api._LIMIT", 5_000_000)
    body = b" " * 5_000_001
    headers = {"Content-Encoding": "gzip"} if packed else {}
    with pytest.raises(FetchError, match="more than 5000000 bytes"):
        _read(gzip.compress(body) if packed else body, HTML, **headers)


def test_a_broken_transfer_is_tried_again_and_a_cut_page_is_not_taken() -> None:
    body = gzip.compress(_json(_link()))
    with serving({"/base/": b"<a href='x-1.0.zip'>"}) as server:
        half = Page(body[:-9], JSON, {"Content-Encoding": "gzip"})
        server.script("/base/", Status(503), CutAfter(5), half)
        patience = replace(QUICK, attempts=4)
        assert [file.name for file in read_page(f"{server.url}/base/", patience=patience)] == [
            "x-1.0.zip"
        ]
        assert server.count("/base/") == 4


def test_statuses() -> None:
    with serving() as server:
        with pytest.raises(NotFoundError):
            read_page(f"{server.url}/base/")
        server.script("/base/", Status(401))
        with pytest.raises(FetchError, match="the server refuses the request"):
            read_page(f"{server.url}/base/")


def _settings(*indexes: PackageIndex, **more: Any) -> IndexSettings:
    return IndexSettings(indexes=indexes, **({"sources": {}} | more))


def _index(url: str, name: str | None = None, **more: Any) -> PackageIndex:
    return PackageIndex(name=name, url=url, **more)


def _none() -> str | None:
    raise AssertionError("the spec has a default index")


def _names(pages: IndexPages, settings: IndexSettings, name: str = "base") -> list[str] | None:
    offers = pages.offers(canonicalize_name(name), settings)
    return None if offers is None else [offer.file.name for offer in offers]


def _simple(directory: Path, *names: str) -> str:
    """A simple index on disk that has files of `base`."""
    (directory / "base").mkdir(parents=True)
    links = "".join(f'<a href="{name}">{name}</a>' for name in names)
    (directory / "base/index.html").write_text(links)
    return directory.as_uri()


def test_a_page_is_asked_for_once_by_all_threads() -> None:
    with serving({"/simple/base/": b"<a href='base-1.0.zip'>"}) as server:
        pages = IndexPages(default=lambda: f"{server.url}/simple")
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: _names(pages, _settings()), range(20)))
        assert found == [["base-1.0.zip"]] * 20
        assert _names(pages, _settings(), "other") is None
        assert _names(pages, _settings(), "other") is None
        assert [request.path for request in server.requests] == ["/simple/base/", "/simple/other/"]


def test_the_first_index_that_has_a_name_counts_and_the_default_comes_last(tmp_path: Path) -> None:
    default = _index(_simple(tmp_path / "a", "base-1.0.zip"), default=True)
    other = _index(_simple(tmp_path / "b", "base-2.0.zip"))
    empty = _index(_simple(tmp_path / "c"))
    pages = IndexPages(default=_none)
    assert _names(pages, _settings(default, other)) == ["base-2.0.zip"]
    assert _names(pages, _settings(default, empty, other)) == []
    every = {"index-strategy": "unsafe-best-match"}
    assert _names(pages, _settings(default, other, uv_settings=every)) == [
        "base-2.0.zip",
        "base-1.0.zip",
    ]


def test_an_index_that_forbids_a_page_is_passed_over_where_another_has_it(tmp_path: Path) -> None:
    default = _index(_simple(tmp_path / "a", "base-1.0.zip"), default=True)
    with serving() as server:
        server.script("/base/", Status(403))
        server.script("/other/", Status(403))
        pages = IndexPages(default=_none)
        settings = _settings(_index(server.url), default)
        assert _names(pages, settings) == ["base-1.0.zip"]
        assert set(pages.refusals) == {"base"}
        with pytest.raises(FetchError, match="refuses the request"):
            _names(pages, settings, "other")


def test_an_unreachable_host_is_asked_once_and_each_page_is_named() -> None:
    with serving() as server:
        gone = server.url
    pages = IndexPages(default=_none)
    for index, name in (("cpu", "base"), ("cu128", "torch")):
        with pytest.raises(UnreachableError, match="cannot be reached") as caught:
            _names(pages, _settings(_index(f"{gone}/{index}", default=True)), name)
        assert dict(caught.value.details)["file"] == f"{gone}/{index}/{name}/"


def test_an_explicit_index_answers_for_what_is_bound_to_it(tmp_path: Path) -> None:
    default = _index(_simple(tmp_path / "a", "base-1.0.zip"), default=True)
    bound = _index(_simple(tmp_path / "b", "base-2.0.zip"), "own", explicit=True)
    pages = IndexPages(default=_none)
    assert _names(pages, _settings(bound, default)) == ["base-1.0.zip"]
    assert _names(pages, _settings(bound, default, sources={BASE: "own"})) == ["base-2.0.zip"]


def test_directories_and_flat_pages(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    for name in ("base-1.0-py3-none-any.whl", "Base-1.0.tar.gz", "other-1.0.zip", "bad-.whl", "x"):
        (tmp_path / "wheels" / name).touch()
    assert next(file.name for file in read_directory(tmp_path / "wheels")) == "Base-1.0.tar.gz"
    with serving({"/all": b"<a href=f/base-2.0.zip></a><a href=f/other-2.0.zip></a>"}) as server:
        here = _index("wheels", format="flat")
        there = _index(f"{server.url}/all", format="flat")
        pages = IndexPages(default=lambda: None)
        settings = _settings(here, there, directory=tmp_path)
        assert _names(pages, settings) == ["Base-1.0.tar.gz", "base-1.0-py3-none-any.whl"]
        assert _names(pages, _settings(there)) == ["base-2.0.zip"]
        assert _names(pages, _settings(there), "other") == ["other-2.0.zip"]
        assert _names(pages, _settings(there), "third") is None
        assert server.count() == 1


def test_what_is_newer_than_a_moment_does_not_count() -> None:
    files = [
        _link("base-1.0.zip", **{"upload-time": "2025-01-01T00:00:00Z"}),
        _link("base-2.0.zip", **{"upload-time": "2025-02-01T00:00:00.000001Z"}),
        _link("base-3.0.zip"),
    ]
    with serving() as server:
        server.script("/base/", Page(_json(*files), JSON))
        pages = IndexPages(default=lambda: server.url)
        newer = {"exclude-newer": "2025-02-01T00:00:00Z"}
        assert _names(pages, _settings(uv_settings=newer)) == ["base-1.0.zip"]
        newer |= {"exclude-newer-package": {"base": "2025-02-01T01:30:00+01:00"}}  # type: ignore[dict-item]
        assert _names(pages, _settings(uv_settings=newer)) == ["base-1.0.zip", "base-2.0.zip"]
        for text, expected in (
            ("2025-01-31", ["base-1.0.zip"]),
            ("2025-02-01", ["base-1.0.zip", "base-2.0.zip"]),
            ("1 week", ["base-1.0.zip", "base-2.0.zip"]),
            ("P1W", ["base-1.0.zip", "base-2.0.zip"]),
            ("200000 days", []),
        ):
            assert _names(pages, _settings(uv_settings={"exclude-newer": text})) == expected


@pytest.mark.parametrize(
    ("text", "before"),
    [
        *(("7 days", 7 * 86400), ("P1W", 7 * 86400), ("P2DT3H4M5S", 183845)),
        *(("1h, 30 minutes ago", 5400), ("2 weeks 1sec", 1209601), ("PT0S", 0)),
    ],
)
def test_durations_count_from_now(text: str, before: int) -> None:
    now = datetime(2025, 6, 1, tzinfo=UTC)
    assert newest_upload(text, now) == now - timedelta(seconds=before)


def test_credentials_are_sent_and_missing_ones_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({"/base/": b""}) as server:
        url = server.url.replace("://", "://me:${SECRET}@")
        pages = IndexPages(default=_none)
        settings = _settings(_index(url, default=True))
        monkeypatch.delenv("SECRET", raising=False)
        with pytest.raises(LockError, match="SECRET is not set"):
            pages.offers(BASE, settings)
        monkeypatch.setenv("SECRET", "word")
        assert pages.offers(BASE, settings) == ()
        assert server.requests[0].headers["authorization"] == "Basic bWU6d29yZA=="


def test_a_host_that_is_not_reached_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def read(url: str, **_: object) -> tuple[IndexFile, ...]:
        asked.append(url)
        return read_page(url, patience=QUICK)

    monkeypatch.setattr("stackbuild.transport.simple_api.read_page", read)
    pages = IndexPages(default=lambda: "http://127.0.0.1:9/simple")
    for name in ("base", "base", "other"):
        with pytest.raises(FetchError, match="cannot be reached"):
            _names(pages, _settings(), name)
    assert len(asked) == 1


def test_the_bounds_are_those_of_other_documents() -> None:
    with pytest.raises(FetchError, match="arrays and objects inside each other"):
        _read(b"[" * (strictjson.MAX_DEPTH + 1), JSON)
