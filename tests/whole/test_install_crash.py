"""An install that is killed, cut off or out of space leaves the former state in use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.http import Hang, serving
from tests.support.publish import publisher
from tests.support.roots import command, fail, generation, succeed, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILES = 1500


def _frames(version: str) -> dict[str, dict[str, str]]:
    parts = {
        f"part {part}": {
            f"p{part}/d{number % 40}/f{number}": f"{version} {number}" for number in range(FILES)
        }
        for part in range(3)
    }
    return {**parts, "version": {"version": version}}


def whole(root: Path, version: str) -> None:
    """The layer `many` is there in exactly this version."""
    assert (root / "many/version").read_text() == version
    files = [path for path in (root / "many").rglob("f*") if path.is_file()]
    assert len(files) == 3 * FILES
    assert {path.read_text().split()[0] for path in files} == {version}


def wait_until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_kill_while_frames_arrive(tmp_path: Path) -> None:
    made, root = publisher(tmp_path), tmp_path / "root"
    made.stack("1")
    succeed("install", "atls", "--from", made.directory, "--root", root)
    _, framework, atls, _ = made.stack("2")
    archive = f"/{made.platform}/{atls.archive.name}"
    with serving(directory=made.directory) as server:
        server.script(archive, Hang())
        running = subprocess.Popen(
            command("install", "atls", "--from", server.url, "--root", root),
            stderr=subprocess.DEVNULL,
        )
        # The framework's new frame has come, the application's never does.
        frame = framework.frames[0].frame.sha256
        wait_until((root / ".stackbuild/store" / frame).exists)
        wait_until(lambda: server.count(archive))
        running.send_signal(signal.SIGKILL)
        running.wait()
        assert tool(root, "atls") == "atls 1"
        assert generation(root) == "1"
        server.requests.clear()
        succeed("install", "atls", "--from", server.url, "--root", root)
        assert not server.count(f"/{made.platform}/{framework.archive.name}")
        assert server.count(archive) == 1
    assert tool(root, "atls") == "atls 2"
    assert not (root / ".stackbuild/staging").exists()
    assert not (root / ".stackbuild/store/staging").exists()
    succeed("verify", "--installed", "--root", root)


def test_a_kill_at_any_moment(tmp_path: Path) -> None:
    made, root = publisher(tmp_path), tmp_path / "root"
    made.publish("many", _frames("1"))
    succeed("install", "many", "--from", made.directory, "--root", root)
    made.publish("many", _frames("2"))
    begun = time.monotonic()
    reference = tmp_path / "reference"
    succeed("install", "many", "--from", made.directory, "--root", reference)
    duration = time.monotonic() - begun
    killed = 0
    for step in range(12):
        running = subprocess.Popen(
            command("install", "many", "--from", made.directory, "--root", root),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(duration * (0.2 + 0.06 * step))
        running.send_signal(signal.SIGKILL)
        killed += running.wait() == -signal.SIGKILL
        whole(root, "1" if generation(root) == "1" else "2")
    assert killed >= 3
    succeed("install", "many", "--from", made.directory, "--root", root)
    whole(root, "2")
    succeed("verify", "--installed", "--root", root)
    assert not (root / ".stackbuild/staging").exists()
    assert not (root / ".stackbuild/store/staging").exists()
    assert not list(root.glob(".*.partial"))


def test_offline(tmp_path: Path) -> None:
    made, root = publisher(tmp_path), tmp_path / "root"
    made.stack("1")
    with serving(directory=made.directory) as server:
        url = server.url
        succeed("install", "atls", "--from", url, "--root", root)
    # In a process of its own, which has no connection left over.
    message = fail(5, "install", "pgen", "--from", url, "--root", root, cwd=tmp_path)
    assert "127.0.0.1 cannot be reached" in message
    assert tool(root, "atls") == "atls 1"
    assert generation(root) == "1"


@pytest.mark.parametrize("damage", ["flipped bit", "cut off", "missing"])
def test_a_damaged_archive(tmp_path: Path, damage: str) -> None:
    made, root = publisher(tmp_path), tmp_path / "root"
    made.stack("1")
    succeed("install", "atls", "--from", made.directory, "--root", root)
    _, framework, *_ = made.stack("2")
    archive = made.archive(framework)
    good = archive.read_bytes()
    if damage == "missing":
        archive.unlink()
    elif damage == "cut off":
        archive.write_bytes(good[:20])
    else:
        archive.write_bytes(bytes([*good[:30], good[30] ^ 1, *good[31:]]))
    code, text = {
        "flipped bit": (6, "a frame of the archive does not match the manifest"),
        "cut off": (5, "the archive is shorter than its manifest says"),
        "missing": (5, "the archive that the index names is missing"),
    }[damage]
    message = fail(code, "install", "atls", "--from", made.directory, "--root", root)
    assert text in message
    assert archive.name in message
    if damage == "flipped bit":
        assert "distribution: numpy 2.2.6" in message
        assert "layer: framework" in message
    assert tool(root, "atls") == "atls 1"
    assert generation(root) == "1"
    archive.write_bytes(good)
    succeed("install", "atls", "--from", made.directory, "--root", root)
    assert tool(root, "atls") == "atls 2"


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 8 MB, where this machine lets us mount one."""
    with tempfile.TemporaryDirectory() as place:
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place]
        try:
            allowed = not subprocess.run(mount, check=False, capture_output=True).returncode
        except OSError:
            allowed = False
        if not allowed:
            pytest.skip("mounting a tmpfs is not allowed here")
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", place], check=True)


def test_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    made, root = publisher(tmp_path), small_disk / "root"
    made.stack("1")
    succeed("install", "atls", "--from", made.directory, "--root", root)
    made.publish("big", {"one": {"a": bytes(2 << 20)}, "two": {"b": bytes(12 << 20)}})
    message = fail(8, "install", "big", "--from", made.directory, "--root", root)
    assert message.startswith("error: the disk is full\n")
    assert "what was installed before is unchanged" in message
    assert tool(root, "atls") == "atls 1"
    assert generation(root) == "1"
    assert not (root / ".stackbuild/store/staging").exists()
    succeed("verify", "--installed", "--root", root)
    # What there is room for still goes in.
    succeed("install", "pgen", "--from", made.directory, "--root", root)
    assert tool(root, "pgen") == "pgen 1"


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
from stackbuild.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX limits")
def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    made, root = publisher(tmp_path), tmp_path / "root"
    made.stack("1")
    succeed("install", "atls", "--from", made.directory, "--root", root)
    made.publish("big", {"one": {"a": bytes(2 << 20)}})
    words = ["install", "big", "--from", str(made.directory), "--root", str(root)]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 8
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert tool(root, "atls") == "atls 1"
    report = json.loads(
        succeed("install", "big", "--from", made.directory, "--root", root, "--json")
    )
    assert report["added"] == ["big"]
