"""The index as the catalogue of what is published."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.compose.serialize import index_from_json
from tests.support.http import serving
from tests.support.publish import dateless, publisher
from tests.support.roots import succeed
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def small(tmp_path: Path) -> SmallStack:
    return SmallStack(tmp_path / "project", tmp_path / "cache")


def listed(place: Path | str, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(succeed("list", "--from", place, "--json", *words))
    return found


def test_one_file_tells_which_environments_there_are(small: SmallStack) -> None:
    small.publish(platform="linux-x64")
    small.publish(platform="windows-x64")
    found = listed(small.exports)
    assert [(item["layer"], item["platform"], item["kind"], item["version"]) for item in found] == [
        ("app", "linux-x64", "application", "3"),
        ("app", "windows-x64", "application", "3"),
        ("base", "linux-x64", "framework", "3"),
        ("base", "windows-x64", "framework", "3"),
    ]
    first = found[0]
    manifest = json.loads((small.exports / first["manifest"]).read_bytes())
    assert first["chain"] == ["base", "cpython"]
    assert first["python_version"] == manifest["python_version"] == "3.12.10"
    assert first["size"] == manifest["archive"]["size"]
    assert first["content_size"] == sum(frame["content_size"] for frame in manifest["frames"])
    assert first["files"] == sum(frame["files"] for frame in manifest["frames"])
    assert (first["current"], first["deprecated"], first["superseded_by"]) == (True, None, None)
    assert first["lock_version"] == 3
    age = datetime.now(UTC) - datetime.fromisoformat(first["published"])
    assert timedelta(0) <= age < timedelta(minutes=10)
    assert [item["layer"] for item in listed(small.exports, "--platform", "windows-x64")] == [
        "app",
        "base",
    ]


def test_what_the_spec_says_of_a_layer_is_told_also_when_nothing_else_changes(
    small: SmallStack,
) -> None:
    small.publish()
    small.more = (
        '[tool.stackbuild.layers.app.catalogue]\nversion = "2024.2"\ntitle = "Programs"\n'
        'description = "All of them"\ndeprecated = "wrong results"\n'
        '[tool.stackbuild.layers.base.catalogue]\nsuperseded-by = "app"\n'
    )
    report = small.publish()
    assert [layer.is_new for layer in report.layers] == [False, False]
    app, base = listed(small.exports)
    assert (app["version"], app["deprecated"]) == ("2024.2", "wrong results")
    assert (app["title"], app["description"]) == ("Programs", "All of them")
    assert (base["version"], base["superseded_by"]) == ("3", "app")
    text = succeed("list", "--from", small.exports)
    assert text.splitlines()[0].split() == [
        *("LAYER", "KIND", "VERSION", "PLATFORM", "PYTHON", "DIGEST", "FILES", "SIZE", "ARCHIVE")
    ]
    assert text.splitlines()[1].endswith("  Programs; deprecated: wrong results")
    assert text.splitlines()[2].endswith("superseded by app")
    # Said no more, it is told no more.
    small.more = ""
    small.publish()
    assert listed(small.exports)[0]["deprecated"] is None


def test_older_versions_are_there_and_superseded(small: SmallStack) -> None:
    small.publish()
    small.wheel("app", "tool", "2.1", {"tool.py": "new = 1\n"})
    small.publish()
    found = [item for item in listed(small.exports) if item["layer"] == "app"]
    assert [item["current"] for item in found] == [True, False]
    assert len({item["digest"] for item in found}) == 2
    line = next(x for x in succeed("list", "--from", small.exports).splitlines() if "app " in x)
    assert line.endswith("1 older")


def test_all_versions_are_listed_with_dates(tmp_path: Path) -> None:
    made = publisher(tmp_path)
    made.stack("1")
    made.stack("2")
    entries = made.entries["atls"][made.platform]
    entries[1] = replace(entries[1], published=None, lock_version=None, deprecated="wrong")
    made.write_index()
    lines = succeed("list", "--from", made.directory, "--all").splitlines()
    assert lines[0].split()[5:8] == ["LOCK", "PUBLISHED", "DIGEST"]
    new, old = (line.split() for line in lines if line.startswith("atls "))
    assert new[2:8] == ["2", made.platform, "3.12.1", "2", "2026-01-31", entries[0].digest[:12]]
    assert old[2:7] == ["1", made.platform, "3.12.1", "unknown", entries[1].digest[:12]]
    assert (new[-1], old[-2:]) == ("current", ["deprecated:", "wrong"])


def test_listing_reads_nothing_but_the_index(tmp_path: Path) -> None:
    made = publisher(tmp_path)
    made.stack()
    with serving(directory=made.directory) as server:
        assert len(listed(server.url)) == 4
        assert [request.path for request in server.requests] == ["/index.json"]


def test_the_index_is_the_same_however_it_came_about(small: SmallStack, tmp_path: Path) -> None:
    small.publish()
    other = tmp_path / "other"
    small.publish(("app",), to=other)
    small.publish(("base",), to=other)
    data = (other / "index.json").read_bytes()
    assert dateless(data) == dateless((small.exports / "index.json").read_bytes())
    assert set(index_from_json(data).entries) == {"app", "base"}
