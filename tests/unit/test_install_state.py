"""What a root remembers of its layers, written and read again."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.compose.serialize import manifest_to_json
from stackbuild.errors import InstallError
from stackbuild.files import read_regular
from stackbuild.install.state import (
    STATE_FORMAT,
    State,
    clear_damaged,
    damaged,
    layers_in,
    mark_damaged,
    read_state,
    recovered_state,
    write_state,
)
from stackbuild.mark import MARK, Kind, write_mark
from stackbuild.platforms import Platform
from stackbuild.reading import NewerFormatError
from tests.support.publish import publisher

if TYPE_CHECKING:
    from collections.abc import Callable

FRAMES = ["a" * 64, "b" * 64]


@pytest.fixture
def state(tmp_path: Path) -> State:
    made = publisher(tmp_path / "published")
    runtime, framework, atls, pgen = made.stack("1")
    layers = {item.directory: item for item in (runtime, framework, atls, pgen)}
    return State(
        platform=made.platform,
        asked=("atls", "pgen"),
        layers=layers,
        store=tmp_path / "störe",
        origins=dict.fromkeys(layers, "https://registry.example/"),
        versions=dict.fromkeys(layers, "7"),
        created="2026-01-31T08:00:00Z",
    )


@pytest.fixture
def generation(tmp_path: Path, state: State) -> Path:
    generation = tmp_path / "root" / "generations" / "3"
    write_mark(tmp_path / "root", Kind.ROOT)
    generation.mkdir(parents=True)
    write_state(state, generation)
    return generation


def text_of(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_bytes())
    assert isinstance(value, dict)
    return value


def told(generation: Path, read: Callable[[Path], object]) -> dict[str, str]:
    with pytest.raises(InstallError) as caught:
        read(generation)
    assert caught.value.message == "the state of a generation cannot be read"
    details = dict(caught.value.details)
    assert details["to fix"] == f"stackbuild repair {generation.parent.parent}"
    return details


def test_what_is_written_is_read(state: State, generation: Path) -> None:
    assert read_state(generation) == state
    assert text_of(generation / ".stackbuild/state.json") == {
        "format": STATE_FORMAT,
        "platform": str(state.platform),
        "asked": ["atls", "pgen"],
        "layers": ["cpython-3.12", "framework", "atls", "pgen"],
        "store": str(state.store),
        "origins": dict(state.origins),
        "versions": dict(state.versions),
        "created": state.created,
    }
    names = [path.name for path in (generation / ".stackbuild/manifests").iterdir()]
    assert sorted(names) == ["atls.json", "cpython-3.12.json", "framework.json", "pgen.json"]


def test_a_state_of_the_older_format_is_read(state: State, generation: Path) -> None:
    path = generation / ".stackbuild/state.json"
    value = text_of(path)
    del value["versions"], value["created"]
    path.write_text(json.dumps({**value, "format": 2}))
    assert read_state(generation) == replace(state, versions={}, created=None)


def test_a_state_takes_the_place_of_a_link(state: State, generation: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    files = [generation / ".stackbuild" / name for name in ("state.json", "manifests/atls.json")]
    for file in files:
        file.unlink()
        file.symlink_to(mine)
    write_state(state, generation)
    assert mine.read_text() == "mine"
    assert not any(file.is_symlink() for file in files)
    assert read_state(generation) == state


def test_a_state_that_cannot_be_written_leaves_nothing(
    state: State, generation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = generation / ".stackbuild"
    (directory / "state.json").unlink()
    (directory / "state.json").mkdir()
    with pytest.raises(IsADirectoryError):
        write_state(state, generation)
    assert sorted(path.name for path in directory.iterdir()) == ["manifests", "state.json"]

    def fail(_path: Path, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk is full"):
        write_state(state, generation)


def test_without_a_store_of_its_own_and_without_layers(tmp_path: Path) -> None:
    empty = State(platform=Platform.WINDOWS_X64, asked=())
    write_state(empty, tmp_path)
    assert read_state(tmp_path) == empty
    assert text_of(tmp_path / ".stackbuild/state.json")["store"] is None


def test_who_needs_a_layer(state: State) -> None:
    assert state.needed_by("cpython-3.12") == ["framework", "atls", "pgen"]
    assert state.needed_by("framework") == ["atls", "pgen"]
    assert state.needed_by("atls") == []


def test_what_makes_another_tree(state: State) -> None:
    layers = dict(state.layers)
    assert state.same_tree(replace(state, origins={}))
    changed = layers | {"atls": replace(layers["atls"], digest="0" * 64)}
    platform = next(item for item in Platform if item is not state.platform)
    for other in (
        replace(state, asked=("atls",)),
        replace(state, store=None),
        replace(state, platform=platform),
        replace(state, layers={name: layers[name] for name in list(layers)[:-1]}),
        replace(state, layers=changed),
    ):
        assert not state.same_tree(other)
        assert not other.same_tree(state)


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("format", 99, "99"),
        ("platform", "amiga", "amiga"),
        ("asked", ["other"], "asked: 'other', which is not in layers"),
        ("asked", "atls", "asked"),
        ("layers", ["atls"], "layers: without 'framework', which atls needs"),
        ("layers", ["../atls"], "layers: '../atls' is absolute, or has an empty, '.' or '..' part"),
        ("layers", ["gone"], "gone.json"),
        ("store", "relative", "store is not an absolute path\n  expected: the path of a directory"),
        ("store", "/a\0b", "store is not an absolute path"),
        ("store", 3, "store"),
        ("origins", ["x"], "origins"),
        ("further", 1, "further"),
    ],
)
def test_a_state_that_cannot_be(generation: Path, key: str, value: object, found: str) -> None:
    path = generation / ".stackbuild/state.json"
    path.write_text(json.dumps(text_of(path) | {key: value}))
    details = told(generation, read_state)
    assert details["file"] == str(path)
    assert found in details["found"]


@pytest.mark.parametrize("key", ["format", "platform", "asked", "layers", "store", "origins"])
def test_a_state_that_lacks_something(generation: Path, key: str) -> None:
    path = generation / ".stackbuild/state.json"
    path.write_text(json.dumps({k: v for k, v in text_of(path).items() if k != key}))
    assert key in told(generation, read_state)["found"]


def test_a_manifest_of_another_layer(generation: Path) -> None:
    manifests = generation / ".stackbuild/manifests"
    (manifests / "pgen.json").write_bytes((manifests / "atls.json").read_bytes())
    details = told(generation, read_state)
    assert details["file"] == str(manifests / "pgen.json")
    assert details["found"] == "the manifest of atls"


def test_the_reason_is_what_went_wrong_without_a_remedy_of_its_own(generation: Path) -> None:
    path = generation / ".stackbuild/state.json"
    path.write_text(json.dumps(text_of(path) | {"format": 99}))
    error = NewerFormatError("format", 99, str(STATE_FORMAT)).damage("state.json")
    assert "to fix" in str(error)
    assert told(generation, read_state)["found"] == error.without_remedy()
    path.unlink()
    assert told(generation, read_state)["found"] == (
        f"[Errno {errno.ENOENT}] {os.strerror(errno.ENOENT)}: {str(path)!r}"
    )


def test_a_state_that_is_no_object(generation: Path) -> None:
    (generation / ".stackbuild/state.json").write_text("[]")
    found = told(generation, read_state)["found"]
    assert found.startswith("state.json is damaged: it is not an object\n")


def test_a_manifest_that_is_damaged(generation: Path) -> None:
    path = generation / ".stackbuild/manifests/pgen.json"
    path.write_text("{")
    assert told(generation, read_state)["found"].startswith(f"{path} is damaged")


def test_manifests_are_read_up_to_the_limit(
    generation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = max(path.stat().st_size for path in (generation / ".stackbuild").rglob("*.json"))
    monkeypatch.setattr("stackbuild.strictjson.MAX_SIZE", largest)
    assert len(read_state(generation).layers) == 4
    monkeypatch.setattr("stackbuild.strictjson.MAX_SIZE", largest - 1)
    assert f"more than {largest - 1} bytes" in told(generation, read_state)["found"]


@pytest.mark.parametrize("name", ["state.json", "manifests/pgen.json"])
def test_of_a_file_that_is_too_large_no_more_is_read_than_shows_it(
    generation: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = generation / ".stackbuild" / name
    limit = max(path.stat().st_size for path in (generation / ".stackbuild").rglob("*.json"))
    monkeypatch.setattr("stackbuild.strictjson.MAX_SIZE", limit)
    path.write_bytes(path.read_bytes() + bytes(2 * limit))
    lengths: list[int] = []

    def observe(path: Path, limit: int = -1) -> bytes:
        data = read_regular(path, limit)
        lengths.append(len(data))
        return data

    monkeypatch.setattr("stackbuild.install.state.read_regular", observe)
    assert f"more than {limit} bytes" in told(generation, read_state)["found"]
    assert lengths[-1] == limit + 1


def test_what_was_found_damaged_is_remembered_until_it_is_cleared(generation: Path) -> None:
    assert damaged(generation) == ([], [])
    clear_damaged(generation)
    mark_damaged(generation, ["atls"], FRAMES)
    assert damaged(generation) == (["atls"], FRAMES)
    mark_damaged(generation, [], [])
    assert damaged(generation) == ([], [])
    clear_damaged(generation)
    assert not (generation / ".stackbuild/damaged.json").exists()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"layers": []}', '{"layers": [1], "frames": []}', '{"frames": []}']
)
def test_a_list_of_damages_that_cannot_be_read(generation: Path, text: str) -> None:
    path = generation / ".stackbuild/damaged.json"
    path.write_text(text)
    details = told(generation, damaged)
    assert details["file"] == str(path)
    assert details["found"]
    path.write_text('{"layers": [], "frames": ["../x"]}')
    assert "frames" in told(generation, damaged)["found"]


def test_a_root_of_an_earlier_version_is_to_be_made_anew(generation: Path) -> None:
    root = generation.parent.parent
    (root / MARK).unlink()
    (generation / ".stackbuild/state.json").unlink()
    with pytest.raises(InstallError) as caught:
        read_state(generation)
    assert dict(caught.value.details)["to fix"] == (
        "if an earlier stackbuild made this root, remove it and install its layers again: "
        f"stackbuild install LAYER --from PLACE --root {root}"
    )


@pytest.mark.parametrize("length", [500, 501, 9999])
def test_a_long_reason_is_cut(generation: Path, length: int) -> None:
    path = generation / ".stackbuild/state.json"
    reason = "asked: '{}', which is not in layers"
    name = "x" * (length - len(reason.format("")))
    path.write_text(json.dumps(text_of(path) | {"asked": [name]}))
    reason = reason.format(name)
    assert len(reason) == length
    found = told(generation, read_state)["found"]
    assert found == (reason if length == 500 else reason[:499] + "…")


def test_a_state_that_can_be_read_is_not_made_anew(state: State, generation: Path) -> None:
    assert recovered_state(generation) == state
    asked = replace(state, asked=("framework",))
    write_state(asked, generation)
    assert recovered_state(generation) == asked


def test_a_lost_state_comes_from_the_manifests(state: State, generation: Path) -> None:
    (generation / ".stackbuild/state.json").unlink()
    found = recovered_state(generation)
    assert found == replace(state, store=None, origins={}, versions={}, created=None)
    assert list(found.layers)[:2] == ["cpython-3.12", "framework"]


def test_a_lost_state_takes_store_and_origins_of_the_newest_others(
    state: State, generation: Path, tmp_path: Path
) -> None:
    others = {
        "9": replace(state, store=tmp_path / "9", origins={"pgen": "b9", "atls": "a9"}),
        "10": replace(state, store=tmp_path / "10", origins={"pgen": "b10", "atls": "a10"}),
        "20": replace(state, store=tmp_path / "20", origins={"atls": "a20", "gone": "x"}),
        "21": replace(state, store=tmp_path / "21", origins={"atls": "a21"}),
        ".22": replace(state, store=tmp_path / "22", origins={"framework": "f22"}),
    }
    for name, other in others.items():
        write_state(other, generation.with_name(name))
    for name in ("3", "21"):
        (generation.with_name(name) / ".stackbuild/state.json").write_text("{")
    assert recovered_state(generation) == replace(
        state,
        store=tmp_path / "20",
        origins={"atls": "a20", "pgen": "b10"},
        versions={},
        created=None,
    )


@pytest.mark.parametrize("lost", ["atls", "framework"])
def test_a_lost_state_needs_every_manifest(generation: Path, lost: str) -> None:
    (generation / ".stackbuild/state.json").unlink()
    manifest = generation / f".stackbuild/manifests/{lost}.json"
    (generation / lost).mkdir()
    made = manifest.read_bytes()
    for text in (b"", made.replace(b'"directory":', b'"directories":')):
        manifest.write_bytes(text)
        assert recovered_state(generation) is None
    manifest.unlink()
    assert recovered_state(generation) is None
    (generation / lost).rmdir()
    # A layer that no other depends on is gone without a trace.
    found = recovered_state(generation)
    assert (found is None) == (lost == "framework")


def test_a_lost_state_needs_one_platform(state: State, generation: Path, tmp_path: Path) -> None:
    (generation / ".stackbuild/state.json").unlink()
    platform = next(item for item in Platform if item is not state.platform)
    made = publisher(tmp_path / "elsewhere")
    other = made.publish("other", {"other": {"x": "1"}}, platform=platform)
    path = generation / ".stackbuild/manifests/other.json"
    path.write_bytes(manifest_to_json(other))
    assert recovered_state(generation) is None


def test_a_lost_state_needs_layers(tmp_path: Path) -> None:
    generation = tmp_path / "generations" / "1"
    assert layers_in(generation) == []
    generation.mkdir(parents=True)
    assert layers_in(generation) == []
    assert recovered_state(generation) is None


def test_layers_are_found_by_tree_or_manifest(generation: Path) -> None:
    (generation / "tree").mkdir()
    (generation / "atls").mkdir()
    (generation / "file").touch()
    (generation / os.fsdecode(b"\xff")).mkdir()
    manifests = generation / ".stackbuild/manifests"
    (manifests / "a.json.json").touch()
    (manifests / "other.txt").touch()
    assert layers_in(generation) == [
        "a.json",
        "atls",
        "cpython-3.12",
        "framework",
        "pgen",
        "tree",
    ]
