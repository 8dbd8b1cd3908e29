"""Layers are sent to a place without a moment at which its index names something incomplete."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import ComposeError, IntegrityError
from stackbuild.files import sha256_file
from stackbuild.messages import SILENT, Silent
from stackbuild.registry.directory import DirectoryRegistry
from stackbuild.registry.find import Published
from stackbuild.registry.places import FilePlace, IndexChangedError
from stackbuild.registry.push import Chosen, change_index, plan, push, upload_of
from tests.support.publish import PYTHON, Publisher, publisher

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.messages import Messages
    from stackbuild.registry.places import Place
    from stackbuild.registry.push import SentLayer
    from tests.support.s3 import MakePlace


class Heard(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def choose(made: Publisher, *layers: str) -> list[Chosen]:
    return [Chosen(layer, made.platform, made.entries[layer][made.platform][0]) for layer in layers]


def send(made: Publisher, place: Place, *layers: str) -> list[SentLayer]:
    return list(push(DirectoryRegistry(made.directory), choose(made, *layers), place, SILENT))


def planned(
    made: Publisher, place: Place, *layers: str, messages: Messages = SILENT
) -> list[SentLayer]:
    source = DirectoryRegistry(made.directory)
    uploads = [upload_of(source, one.entry) for one in choose(made, *layers)]
    return list(plan(uploads, place, messages))


def read_all(place: Place, made: Publisher, layer: str) -> None:
    """Read a layer as a consumer does, with the layers below it."""
    published = Published(place, made.platform)
    manifest = published.current(layer)
    chain = [published.fitting(link) for link in manifest.chain]
    for one in [manifest, *chain]:
        assert one is not None
        pieces = place.read(published.entry(one), one, [(0, one.archive.size)])
        assert b"".join(pieces) == made.archive(one).read_bytes()


def test_a_layer_is_sent_with_the_layers_below_it_and_once(
    made: Publisher, new_place: MakePlace
) -> None:
    place = new_place()
    expected = planned(made, place, "cpython-3.12", "framework", "atls")
    assert place.tagged_index()[1] is None
    sent = send(made, place, "atls")
    assert sent == expected
    assert [one.layer for one in sent] == ["cpython-3.12", "framework", "atls"]
    assert all(one.sent > one.entry.size for one in sent)
    read_all(new_place(), made, "atls")
    again = send(made, new_place(), "pgen", "atls")
    assert [(one.layer, one.sent > 0) for one in again] == [("pgen", True), ("atls", False)]
    read_all(new_place(), made, "pgen")


def test_lower_layers_that_are_there_keep_their_position(
    made: Publisher, new_place: MakePlace
) -> None:
    old = choose(made, "atls")
    made.stack("2")
    send(made, new_place(), "framework")
    push(DirectoryRegistry(made.directory), old, new_place(), SILENT)
    entries = new_place().tagged_index()[0].entries
    assert [one.version for one in entries["atls"][made.platform]] == ["1"]
    # The framework of the older application is behind the newer one.
    assert [one.version for one in entries["framework"][made.platform]] == ["2", "1"]
    send(made, new_place(), "atls")
    made.stack("3")
    send(made, new_place(), "pgen")
    entries = new_place().tagged_index()[0].entries
    assert [one.version for one in entries["atls"][made.platform]] == ["2", "1"]
    assert [one.version for one in entries["framework"][made.platform]] == ["3", "2", "1"]


def test_a_lower_layer_that_is_nowhere_is_named(made: Publisher, new_place: MakePlace) -> None:
    chosen = choose(made, "atls")
    del made.entries["framework"]
    made.write_index()
    heard = Heard()
    push(DirectoryRegistry(made.directory), chosen, new_place(), heard)
    assert len(heard.warnings) == 1
    assert "atls cannot be installed from" in heard.warnings[0]
    assert "until framework is published there" in heard.warnings[0]


def test_the_index_comes_last(
    made: Publisher, new_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = new_place()
    send(made, place, "framework")
    before = place.tagged_index()
    sends = iter([None, KeyboardInterrupt()])
    real = type(place).send

    def killed(*arguments: object, **options: object) -> None:
        if error := next(sends):
            raise error
        real(*arguments, **options)  # type: ignore[arg-type]  # passed through

    with monkeypatch.context() as patch:
        patch.setattr(type(place), "send", killed)
        with pytest.raises(KeyboardInterrupt):
            send(made, place, "atls", "pgen")
    assert new_place().tagged_index() == before
    rest = send(made, new_place(), "atls", "pgen")
    assert [(one.layer, one.sent > 0) for one in rest] == [("atls", False), ("pgen", True)]
    read_all(new_place(), made, "pgen")


def test_publishers_at_the_same_time_lose_nothing(
    made: Publisher, new_place: MakePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackbuild.registry.push._LONGEST_PAUSE", 0.01)
    others = [publisher(tmp_path / str(number)) for number in range(4)]
    for number, other in enumerate(others):
        other.application(f"app{number}", other.stack()[1::-1])
    send(made, new_place(), "atls")
    start = threading.Barrier(len(others))
    errors: list[BaseException] = []

    def publish(number: int) -> None:
        try:
            start.wait()
            send(others[number], new_place(), f"app{number}")
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(len(others))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert {"app0", "app1", "app2", "app3", "atls"} <= set(new_place().tagged_index()[0].entries)


def test_the_manifest_of_another_publisher_for_the_same_contents_is_kept(
    made: Publisher, new_place: MakePlace, tmp_path: Path
) -> None:
    """Otherwise the index would have the sha256 of another manifest for a moment, or for longer."""
    send(made, new_place(), "atls")
    before = new_place().tagged_index()[0].entries
    other = publisher(tmp_path / "other")
    other.stack()
    entry = other.entries["atls"][made.platform][0]
    path = other.directory / entry.manifest
    path.write_bytes(
        path.read_bytes().replace(b'"provenance": {}', b'"provenance": {"by": "other"}')
    )
    changed = replace(entry, sha256=sha256_file(path), title="New")
    assert changed.sha256 != entry.sha256
    other.entries["atls"][made.platform][0] = changed
    other.write_index()
    assert send(other, new_place(), "atls")[-1].sent == 0
    after = new_place().tagged_index()[0].entries
    assert after["atls"][made.platform] == (replace(before["atls"][made.platform][0], title="New"),)
    read_all(new_place(), made, "atls")


def test_an_index_that_others_changed_is_not_replaced(
    made: Publisher, new_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackbuild.registry.push._LONGEST_PAUSE", 0)
    monkeypatch.setattr("stackbuild.registry.push._ATTEMPTS", 3)
    place = new_place()
    data = (made.directory / "index.json").read_bytes()
    place.prepare(SILENT)
    _, none = place.tagged_index()
    place.replace_index(data, none)
    _, first = place.tagged_index()
    with pytest.raises(IndexChangedError):
        place.replace_index(data, none)
    place.replace_index(data.replace(b"atls", b"other"), first)
    with pytest.raises(IndexChangedError):
        place.replace_index(data, first)
    assert "other" in place.tagged_index()[0].entries

    def interfere(before: object) -> object:
        _, tag = new_place().tagged_index()
        new_place().replace_index(new_place().document("index.json") + b" ", tag)
        return type(before)(entries={})  # type: ignore[call-arg]  # an Index

    with pytest.raises(ComposeError, match="changed by others in each of 3 attempts"):
        change_index(place, interfere)  # type: ignore[arg-type]  # as above


def test_files_with_another_size_or_content_are_sent_again(
    made: Publisher, new_place: MakePlace
) -> None:
    place = new_place()
    send(made, place, "atls")
    entry = made.entries["framework"][made.platform][0]
    manifest = place.manifest(entry)
    name = f"{made.platform}/{manifest.archive.name}"
    if not isinstance(place, FilePlace):
        pytest.skip("a container registry checks blobs itself")
    for damaged in [b"x", b"x" * manifest.archive.size]:
        place.put(name, len(damaged), "0" * 64, iter([damaged]))
        sent = send(made, new_place(), "framework")
        assert [one.sent for one in sent] == [manifest.archive.size]
        read_all(new_place(), made, "framework")


def test_an_old_file_that_no_index_names_is_sent_again(made: Publisher, tmp_path: Path) -> None:
    """Because `prune` may be about to remove it."""
    place = DirectoryRegistry(tmp_path / "place")
    place.prepare(SILENT)
    send(made, place, "framework")
    (tmp_path / "place/index.json").write_bytes(b'{"format":3,"layers":{}}')
    assert not any(one.sent for one in planned(made, place, "framework"))
    before = time.time() - 25 * 3600
    for path in (tmp_path / "place").rglob("framework-*"):
        os.utime(path, (before, before))
    sent = {one.layer: one.sent for one in send(made, place, "framework")}
    assert sent["framework"] > 0
    assert sent["cpython-3.12"] == 0


def test_a_damaged_archive_is_not_sent(made: Publisher, new_place: MakePlace) -> None:
    manifest = DirectoryRegistry(made.directory).manifest(choose(made, "atls")[0].entry)
    archive = made.archive(manifest)
    archive.write_bytes(b"x" * archive.stat().st_size)
    place = new_place()
    with pytest.raises(IntegrityError, match="the archive does not match"):
        send(made, place, "atls")
    assert "atls" not in place.tagged_index()[0].entries
    assert not [name for name in place.unnamed(()) if "atls" in name]


def test_patches_are_sent_and_kept(made: Publisher, new_place: MakePlace) -> None:
    made.patches = True
    data = random.Random(1).randbytes(50_000)
    python = {"bin/python3.12": PYTHON}
    for version in (b"1", b"2"):
        made.publish("other", {"cpython 3.12.1": python | {"data": data + version}})
    send(made, new_place(), "other")
    published = Published(new_place(), made.platform)
    manifest = published.current("other")
    (patch,) = manifest.patches
    pieces = new_place().read_patches(published.entry(manifest), manifest, [(0, patch.size)])
    assert hashlib.sha256(b"".join(pieces)).hexdigest() == patch.sha256
    kept = [(published.entry(manifest), manifest)]
    assert not new_place().unnamed(kept)
    if isinstance(new_place(), FilePlace):
        assert any(name.endswith(".patches") for name in new_place().unnamed([]))
    assert [one.sent for one in send(made, new_place(), "other")] == [0]


def test_layers_of_a_lost_index_are_named(made: Publisher, tmp_path: Path) -> None:
    place = DirectoryRegistry(tmp_path / "place")
    send(made, place, "framework")
    (tmp_path / "place/index.json").unlink()
    messages = Heard()
    planned(made, place, "framework", "cpython-3.12", messages=messages)
    assert messages.warnings == []
    planned(made, place, "atls", "cpython-3.12", messages=messages)
    assert len(messages.warnings) == 1
    assert "has no index, and the new one does not list" in messages.warnings[0]
