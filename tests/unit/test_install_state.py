"""What a root remembers of its layers, written and read again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.errors import InstallError
from stackbuild.install.state import (
    STATE_FORMAT,
    State,
    clear_damaged,
    damaged,
    mark_damaged,
    read_state,
    write_state,
)
from stackbuild.mark import Kind, write_mark
from stackbuild.platforms import Platform
from tests.support.publish import publisher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
    }
    names = [path.name for path in (generation / ".stackbuild/manifests").iterdir()]
    assert sorted(names) == ["atls.json", "cpython-3.12.json", "framework.json", "pgen.json"]


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
        ("store", "relative", "is not an absolute path"),
        ("store", "/a\0b", "is not an absolute path"),
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
