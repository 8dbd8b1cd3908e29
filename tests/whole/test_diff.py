"""What an upgrade changes, before it starts: `install --dry-run` and `diff`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from stackbuild.install.compare import compare, published_layer
from stackbuild.install.root import Root
from stackbuild.registry.find import Published, open_registry
from stackbuild.spec.model import LayerKind
from tests.support.http import serving
from tests.support.publish import Publisher
from tests.support.roots import fail, succeed
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.compose.manifest import Manifest


IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


@pytest.fixture
def small(tmp_path: Path) -> SmallStack:
    return SmallStack(tmp_path / "project", tmp_path / "cache")


@pytest.fixture
def two(made: Publisher) -> list[list[Manifest]]:
    """Two versions of a framework with an application, published after those of `made`."""
    versions = []
    runtime = made.entries["cpython-3.12"]
    assert runtime
    for lock, shipped in (
        ("1", {"numpy": "2.2.5", "old": "1", "same": "1", "down": "2"}),
        ("2", {"numpy": "2.2.6", "new": "3", "same": "1", "down": "1"}),
    ):
        base = made.stack("0")[0]
        frames = {"same": {"same": "s" * 3000}, "numpy": {"numpy": lock * 2000}}
        framework = made.publish(
            "framework", frames, below=[base], kind=LayerKind.FRAMEWORK, lock=lock, shipped=shipped
        )
        versions.append([base, framework, made.application("atls", [framework, base], lock)])
    return versions


TEXT = """\
framework 1 -> 2 on {platform}
  downgraded  down 2 -> 1
  added       new 3
  upgraded    numpy 2.2.5 -> 2.2.6
  removed     old 1
atls 1 -> 2 on {platform}
  the distributions are equal, other files differ
"""


def everything(directory: Path) -> list[tuple[str, int]]:
    return sorted(
        (str(path), path.lstat().st_mtime_ns) for path in (directory, *directory.rglob("*"))
    )


def test_a_dry_run_says_what_an_install_does(
    made: Publisher, two: list[list[Manifest]], root: Path, tmp_path: Path
) -> None:
    words = ("install", "atls", "--root", root, "--from")
    lines = succeed(*words, made.directory, "--dry-run").splitlines()
    assert lines[:3] == [
        f"cpython-3.12 1 added, with 1 distribution on {made.platform}",
        f"framework 2 added, with 4 distributions on {made.platform}",
        f"atls 2 added, with 1 distribution on {made.platform}",
    ]
    assert not root.exists()
    succeed("install", "atls@1", "--from", made.directory, "--root", root)
    before = everything(tmp_path)
    planned = json.loads(succeed(*words, made.directory, "--dry-run", "--json"))
    text = succeed(*words, made.directory, "--dry-run")
    assert everything(tmp_path) == before
    assert text.startswith(TEXT.format(platform=made.platform))
    assert planned["layers"][0]["before"]["digest"] == two[0][1].digest
    with serving(directory=made.directory) as server:
        assert json.loads(succeed(*words, server.url, "--dry-run", "--json")) == planned
        assert not [one for one in server.requests if one.path.endswith(".zst")]
        done = json.loads(succeed(*words, server.url, "--json"))
    assert done["fetched"]["frames"] == planned["fetched_frames"]
    assert done["fetched"]["bytes"] == planned["fetched_bytes"]
    placed = {one.frame.sha256: one.frame for manifest in two[1] for one in manifest.frames}
    for manifest in two[0]:
        for one in manifest.frames:
            placed.pop(one.frame.sha256, None)
    assert planned["disk_bytes"] == sum(frame.content_size for frame in placed.values())
    text = succeed(*words[:-1], "--dry-run")
    assert text == "no layer changes\nnothing to fetch\n"


def test_a_dry_run_refuses_what_an_install_refuses(made: Publisher, root: Path) -> None:
    root.mkdir()
    (root / "mine").write_text("mine")
    fail(8, "install", "atls", "--from", made.directory, "--root", root, "--dry-run")
    assert sorted(path.name for path in root.iterdir()) == ["mine"]


@pytest.mark.usefixtures("two")
def test_published_versions_roots_and_places(made: Publisher, root: Path, tmp_path: Path) -> None:
    text = succeed("diff", "atls@1", "atls@2", "--from", made.directory)
    assert text.startswith(TEXT.format(platform=made.platform))
    assert text.splitlines()[-1].startswith("2 frames to fetch (")
    # The place is that of the root; other layers of the root are left out.
    succeed("install", "atls@1", "--from", made.directory, "--root", root)
    runtime = made.stack("0")[0]
    made.publish("tool", {"tool": {"x": "1"}}, below=[runtime])
    succeed("install", "tool", "--from", made.directory, "--root", root)
    assert succeed("diff", root, "atls@2") == text
    # A whole root, and a place; generations.
    assert "framework" not in succeed("diff", root, root / "generations/2")
    assert succeed("diff", root / "generations/1", root).splitlines()[0] == (
        f"tool 1 added, with 1 distribution on {made.platform}"
    )
    back = succeed("diff", root, made.directory)
    assert back.splitlines()[:2] == [
        f"framework 1 -> 0 on {made.platform}",
        "  added       demo 1",
    ]
    # Two places.
    mirror = tmp_path / "mirror"
    shutil.copytree(made.directory, mirror)
    assert succeed("diff", mirror, made.directory) == "no layer changes\n"
    made.publish("more", {"more": {"x": "1"}}, below=[runtime], lock="3")
    lines = succeed("diff", mirror, made.directory).splitlines()
    assert lines[0] == f"more 3 added, with 1 distribution on {made.platform}"


def test_another_version_of_a_versioned_layer(made: Publisher, root: Path) -> None:
    runtime = made.stack()[0]
    for version in ("1", "2"):
        frames = {"tool": {"x": version}}
        below = [runtime]
        made.publish("tool", frames, below=below, directory=f"tool@{version}", lock=version)
    text = succeed("diff", "tool@1", "tool@2", "--from", made.directory)
    assert text.startswith(f"tool 1 -> 2 on {made.platform}\n")
    succeed("install", "tool@1", "--from", made.directory, "--root", root)
    assert succeed("install", "tool@2", "--root", root, "--dry-run") == text
    # Two versions are removed.
    place = Published(open_registry(str(made.directory)), made.platform)
    both = [published_layer(one, None) for one in place.find(["tool@1", "tool@2"])]
    assert len(compare(both, []).layers) == 2


def test_root_and_place_are_remembered(
    made: Publisher, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed("install", "atls", "--from", made.directory, "--root", root)
    made.stack("2")
    monkeypatch.chdir(root / "generations")
    assert "pgen 2 added" in succeed("install", "pgen", "--dry-run")
    succeed("install", "pgen")
    assert Root(root).installed_state().versions["pgen"] == "2"
    assert len(succeed("list").splitlines()) == 5
    succeed("uninstall", "pgen")
    succeed("verify", "--installed")
    succeed("repair")
    assert "GENERATION" in succeed("history")
    # Layers of two places.
    monkeypatch.chdir(tmp_path)
    other = Publisher(tmp_path / "other", made.cache)
    other.directory.mkdir()
    other.publish("tool", {"tool": {"x": "1"}})
    succeed("install", "tool", "--from", other.directory, "--root", root)
    text = fail(2, "install", "new", "--root", root)
    assert f"layers from {made.directory} and {other.directory}" in text
    assert "expected: --from PLACE" in text
    succeed("install", "tool", "--root", root)
    succeed("install", "atls@1", "--root", root)
    text = fail(2, "install", "atls", "--root", tmp_path / "new")
    assert "a root without layers" in text
    assert "no root was named" in fail(2, "uninstall", "atls")
    assert "no root was named" in fail(2, "list")


def test_what_cannot_be_compared(
    made: Publisher, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = fail(2, "diff", "atls", "pgen")
    assert "'atls' is not a root, a place or a directory of locks" in text
    assert "there is no layer 'x'" in fail(2, "diff", "x", "atls", "--from", made.directory)
    succeed("install", "atls", "--from", made.directory, "--root", root)
    text = fail(2, "diff", root, "atls", "--platform", "windows-x64")
    assert "atls is not published for windows-x64" in text


def test_locks(small: SmallStack, monkeypatch: pytest.MonkeyPatch) -> None:
    small.lock()
    monkeypatch.chdir(small.directory)
    for words in (("init", "-q"), ("add", "layers"), ("commit", "-qm", "locks")):
        subprocess.run(["git", *IDENTITY, *words], check=True)
    shutil.copytree("layers", "older")
    small.wheel("app", "tool", "2.1", {"tool.py": "new = 1\n"})
    small.lock()
    text = succeed("diff", "older", "layers")
    head, *rest = text.splitlines()
    digest = "[0-9a-f]{12}"
    assert re.fullmatch(rf"app 3 \({digest}\) -> 3 \({digest}\) on .*\blinux-x64\b.*", head)
    assert rest == ["  upgraded    tool 2.0 -> 2.1"]
    assert succeed("diff", "HEAD:layers", "layers") == text
    one = "app/pylock.linux-x64.toml"
    assert f"{head}\n" not in succeed("diff", f"older/{one}", f"layers/{one}")
    found = json.loads(succeed("diff", "older", "layers", "--platform", "linux-x64", "--json"))
    assert [(it["layer"], it["platform"]) for it in found["layers"]] == [("app", "linux-x64")]
    assert found["layers"][0]["distributions"] == [
        {"name": "tool", "before": "2.0", "after": "2.1"}
    ]
    assert succeed("diff", "layers", "layers") == "no layer changes\n"
    assert "git has no directory HEAD:none" in fail(2, "diff", "HEAD:none", "layers")
    small.publish()
    assert "locks can be compared only with locks" in fail(2, "diff", "layers", "exports")
