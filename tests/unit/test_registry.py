from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from stackbuild.compose.export_directory import ExportDirectory
from stackbuild.errors import ComposeError, FetchError, IntegrityError, UsageError
from stackbuild.messages import Silent
from stackbuild.registry.directory import DirectoryRegistry
from stackbuild.registry.find import Published, open_place, open_registry
from stackbuild.registry.http import HttpRegistry
from stackbuild.spec.model import Catalogue
from stackbuild.strictjson import MAX_SIZE
from tests.support.http import CutAfter, Status, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackbuild.registry.base import Registry
    from tests.support.publish import Publisher


@pytest.fixture(params=["directory", "http", "http without ranges", "s3"])
def registry(request: pytest.FixtureRequest, made: Publisher) -> Iterator[Registry]:
    if request.param == "directory":
        yield DirectoryRegistry(made.directory)
        return
    if request.param == "s3":
        place = open_place(f"s3://{request.getfixturevalue('bucket')}")
        for path in made.directory.rglob("*.*"):
            place.put_document(path.relative_to(made.directory).as_posix(), path.read_bytes())
        yield place
        return
    with serving(directory=made.directory, ranges=request.param == "http") as server:
        yield HttpRegistry(server.url)


def test_every_registry_gives_index_manifest_and_any_part(
    registry: Registry, made: Publisher
) -> None:
    exports = Published(registry, made.platform)
    manifest = exports.current("framework")
    assert manifest.digest == made.entries["framework"][made.platform][0].digest
    archive = made.archive(manifest).read_bytes()
    entry = exports.entry(manifest)
    for start, stop in [(0, len(archive)), (7, 100), (manifest.frames[1].offset, len(archive))]:
        assert b"".join(registry.read(entry, manifest, [(start, stop)])) == archive[start:stop]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("what", ["index", "manifest", "archive"])
def test_nobody_waits_for_a_named_pipe(made: Publisher, what: str) -> None:
    registry = DirectoryRegistry(made.directory)
    entry = registry.index().entries["framework"][made.platform][0]
    manifest = registry.manifest(entry)
    path = {
        "index": made.directory / "index.json",
        "manifest": made.directory / entry.manifest,
        "archive": made.archive(manifest),
    }[what]
    path.unlink()
    os.mkfifo(path)

    def read_all() -> None:
        registry.index()
        registry.manifest(entry)
        list(registry.read(entry, manifest, [(0, 1)]))

    with pytest.raises(FetchError, match=f"the {what} cannot be read") as caught:
        read_all()
    assert ("found", "it is a named pipe and not a regular file") in caught.value.details
    assert ("file", str(path)) in caught.value.details


def test_an_index_that_is_too_large_is_neither_written_nor_read(
    made: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = made.directory / "index.json"
    monkeypatch.setattr("stackbuild.compose.export_directory.MAX_SIZE", index.stat().st_size)
    before = index.read_bytes()
    exports = ExportDirectory(made.directory)
    manifest = exports.current(exports.index(), "framework", made.platform)
    assert manifest is not None
    with pytest.raises(ComposeError, match="the index would be too large"):
        exports.enter([(manifest, Catalogue(version="a" * 100), 1)], Silent())
    assert index.read_bytes() == before
    with index.open("ab") as file:
        file.truncate(MAX_SIZE + 2)
    with pytest.raises(IntegrityError, match=f"found: more than {MAX_SIZE} bytes"):
        DirectoryRegistry(made.directory).index()
    with (
        serving(directory=made.directory) as server,
        pytest.raises(FetchError, match="the file is too large"),
    ):
        HttpRegistry(server.url).index()


def test_an_older_manifest_is_found_by_its_lock(made: Publisher) -> None:
    old = Published(DirectoryRegistry(made.directory), made.platform).current("atls")
    made.stack("2")
    exports = Published(DirectoryRegistry(made.directory), made.platform)
    link = next(link for link in old.chain if link.layer == "framework")
    found = exports.fitting(link)
    assert found is not None
    assert found.lock == link.lock
    assert exports.current("framework").lock != link.lock


def test_a_broken_transfer_of_a_part_goes_on(made: Publisher) -> None:
    with serving(directory=made.directory) as server:
        registry = HttpRegistry(server.url)
        server.script("/index.json", Status(503, {"Retry-After": "0"}))
        exports = Published(registry, made.platform)
        manifest = exports.current("framework")
        path = f"/{made.platform}/{manifest.archive.name}"
        server.script(path, CutAfter(50))
        got = b"".join(registry.read(exports.entry(manifest), manifest, [(10, 200)]))
        assert got == made.archive(manifest).read_bytes()[10:200]
        asked = [request.headers["range"] for request in server.requests if request.path == path]
        assert asked == ["bytes=10-199", "bytes=60-199"]


def test_a_short_archive_is_told(made: Publisher) -> None:
    exports = Published(DirectoryRegistry(made.directory), made.platform)
    manifest = exports.current("framework")
    archive = made.archive(manifest)
    archive.write_bytes(archive.read_bytes()[:-5])
    with pytest.raises(FetchError, match="shorter than its manifest says"):
        list(exports.registry.read(exports.entry(manifest), manifest, [(0, manifest.archive.size)]))


def test_a_changed_manifest_is_refused(made: Publisher) -> None:
    exports = Published(DirectoryRegistry(made.directory), made.platform)
    file = made.directory / made.entries["atls"][made.platform][0].manifest
    file.write_bytes(file.read_bytes().replace(b"3.12.1", b"3.12.2"))
    with pytest.raises(IntegrityError, match="the manifest does not match the index"):
        exports.current("atls")


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("exports", DirectoryRegistry),
        ("/a b/ü", DirectoryRegistry),
        ("C:/exports", DirectoryRegistry),
        ("http://host/x", HttpRegistry),
        ("HTTPS://host/x", HttpRegistry),
    ],
)
def test_the_kind_of_place_is_told_from_its_name(place: str, kind: type) -> None:
    assert isinstance(open_registry(place), kind)


def test_layers_are_sent_to_places_only(tmp_path: Path) -> None:
    assert isinstance(open_place(str(tmp_path)), DirectoryRegistry)
    with pytest.raises(UsageError, match="cannot be sent to a web server"):
        open_place("https://host/x")


def test_a_password_is_not_shown_and_a_query_is_kept() -> None:
    registry = HttpRegistry("https://me:secret@host/stack/index.json?sig=token")
    assert "secret" not in registry.location
    assert "token" not in registry.location
    assert registry._url("a b/x.json") == "https://me:secret@host/stack/a%20b/x.json?sig=token"
