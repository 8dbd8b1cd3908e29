"""Upgrades that fetch only what changed inside of a distribution."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.compose.manifest import PatchFile
from stackbuild.compose.serialize import manifest_to_json
from stackbuild.frames.patches import make_patch
from stackbuild.install import patching
from stackbuild.install.store import Store
from stackbuild.messages import Silent
from tests.support.http import Hang, serving
from tests.support.publish import Publisher, head
from tests.support.roots import command, snapshot, stackbuild, succeed
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from collections.abc import Callable

    from stackbuild.compose.manifest import Manifest

DATA = {f"data{number}.bin": random.Random(number).randbytes(100_000) for number in (1, 2)}
"""They cannot be compressed, so that every byte of them counts."""
SITE = "lib/python3.12/site-packages"


class TestInstall:
    """A root whose layer `big` goes from version 1 to version 2."""

    @pytest.fixture
    def made(self, made: Publisher, root: Path) -> Publisher:
        made.patches = True
        self.publish(made, "1")
        succeed("install", "big", "--from", made.directory, "--root", root)
        return made

    @staticmethod
    def publish(made: Publisher, version: str) -> Manifest:
        """`big` in `version`: a distribution of 200 kB, of which little changes."""
        runtime = made.publish(
            "cpython-3.12", {"cpython 3.12.1": {"bin/python3.12": "#!/bin/sh\n"}}
        )
        files = {f"{SITE}/{name}": data + version.encode() for name, data in DATA.items()}
        return made.publish(
            "big",
            {f"data {version}": files, "big": head("cpython-3.12")},
            below=[runtime],
            lock=version,
        )

    @staticmethod
    def file(made: Publisher, manifest: Manifest) -> Path:
        assert manifest.patch_file
        return made.archive(manifest).with_name(manifest.patch_file.name)

    @staticmethod
    def upgraded(root: Path, place: Path | str) -> tuple[int, str]:
        """Install the current version; the bytes that the command reports, and its messages."""
        done = stackbuild("install", "big", "--from", place, "--root", root, "--json")
        assert done.returncode == 0, done.stderr
        for name, data in DATA.items():
            assert (root / "big" / SITE / name).read_bytes() == data + b"2"
        return json.loads(done.stdout)["fetched"]["bytes"], done.stderr

    def test_only_the_patch_is_fetched(self, made: Publisher, root: Path, tmp_path: Path) -> None:
        manifest = self.publish(made, "2")
        (patch,) = manifest.patches
        assert patch.size < 2000
        words = ("install", "big", "--from", made.directory, "--root", root)
        assert f"1 frames to fetch ({patch.size} B)" in succeed(*words, "--dry-run")
        with serving(directory=made.directory) as server:
            note = f"big is replaced with the layer from {server.url}\n"
            assert self.upgraded(root, server.url) == (patch.size, note)
            assert not server.count(f"/{made.platform}/{manifest.archive.name}")
            assert self.upgraded(root, server.url) == (0, "")
        fresh = tmp_path / "fresh"
        succeed("install", "big", "--from", made.directory, "--root", fresh)
        assert snapshot(root / "big") == snapshot(fresh / "big")

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (
                lambda data: data[:-1] + bytes([data[-1] ^ 1]),
                "the patch does not match its manifest",
            ),
            (lambda data: data[:-1], "the file of patches is shorter than its manifest says"),
            (None, "the file of patches that the index names is missing"),
        ],
    )
    def test_whole_frames_are_fetched_instead_of_a_damaged_patch(
        self, made: Publisher, root: Path, damage: Callable[[bytes], bytes] | None, reason: str
    ) -> None:
        manifest = self.publish(made, "2")
        file = self.file(made, manifest)
        if damage:
            file.write_bytes(damage(file.read_bytes()))
        else:
            file.unlink()
        fetched, messages = self.upgraded(root, made.directory)
        assert fetched > 200_000
        assert messages == (
            f"data 2: the patch is not used, and the whole frames are fetched: {reason}\n"
        )

    @pytest.mark.parametrize(
        ("result", "reason"),
        [
            (b"x", "the result of the patch does not match its manifest"),
            (b"x" * 9, "a patch has more than"),
            (b"", "a patch has other contents"),
        ],
    )
    def test_whole_frames_are_fetched_if_a_patch_gives_other_contents(
        self, made: Publisher, root: Path, result: bytes, reason: str
    ) -> None:
        """A publisher may name a patch that is intact, but not that of the frames."""
        manifest = self.publish(made, "2")
        contents = bytes(manifest.frames[0].frame.content_size - 1) + result
        self.forge(made, manifest, make_patch(b"", [contents], len(contents)))
        fetched, messages = self.upgraded(root, made.directory)
        assert fetched > 200_000
        assert reason in messages

    @staticmethod
    def forge(made: Publisher, manifest: Manifest, data: bytes) -> None:
        """Publish `data` as the only patch of `manifest`."""
        (patch,) = manifest.patches
        digest = hashlib.sha256(data).hexdigest()
        patch = replace(patch, size=len(data), sha256=digest)
        name = TestInstall.file(made, manifest).name
        file = PatchFile(name=name, size=len(data), sha256=digest, patches=(patch,))
        raw = manifest_to_json(replace(manifest, patch_file=file))
        entries = made.entries[manifest.layer][made.platform]
        entries[0] = replace(entries[0], sha256=hashlib.sha256(raw).hexdigest())
        (made.directory / entries[0].manifest).write_bytes(raw)
        TestInstall.file(made, manifest).write_bytes(data)
        made.write_index()

    def test_whole_frames_are_fetched_if_the_source_was_changed(
        self, made: Publisher, root: Path
    ) -> None:
        self.publish(made, "2")
        stored = next((root / ".stackbuild/store").glob("*/tree/*/*/*/data1.bin"))
        before = stored.stat()
        stored.chmod(0o644)
        stored.write_bytes(stored.read_bytes()[::-1])
        stored.chmod(0o444)
        os.utime(stored, ns=(before.st_atime_ns, before.st_mtime_ns))
        fetched, messages = self.upgraded(root, made.directory)
        assert fetched > 200_000
        assert "the patch is not used" in messages

    def test_whole_frames_are_fetched_if_a_patch_exceeds_the_limits(
        self, made: Publisher, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.publish(made, "2")
        monkeypatch.setattr(patching, "MAX_BYTES", 200_000)
        fetched, messages = self.upgraded(root, made.directory)
        assert fetched > 200_000
        assert messages.endswith("the result of a patch is too large\n")

    def test_a_root_without_the_older_version_fetches_whole_frames(
        self, made: Publisher, tmp_path: Path
    ) -> None:
        self.publish(made, "2")
        fetched, messages = self.upgraded(tmp_path / "fresh", made.directory)
        assert fetched > 200_000
        assert not messages

    def test_a_killed_upgrade_is_repeated_with_the_patch(self, made: Publisher, root: Path) -> None:
        manifest = self.publish(made, "2")
        path = f"/{made.platform}/{self.file(made, manifest).name}"
        with serving(directory=made.directory) as server:
            server.script(path, Hang())
            words = command("install", "big", "--from", server.url, "--root", root)
            with subprocess.Popen(words) as process:
                deadline = time.monotonic() + 30
                while not server.count(path) and time.monotonic() < deadline:
                    time.sleep(0.02)
                process.kill()
            assert (root / "big" / SITE / "data1.bin").read_bytes().endswith(b"1")
            assert self.upgraded(root, server.url)[0] == manifest.patches[0].size

    def test_a_patched_frame_counts_only_where_the_manifest_names_its_contents(
        self, made: Publisher, root: Path
    ) -> None:
        """A publisher could otherwise replace the contents of frames of other places."""
        frame = self.publish(made, "2").frames[0].frame
        self.upgraded(root, made.directory)
        store = Store(root / ".stackbuild/store")
        assert store.holds(frame)
        assert not store.holds(replace(frame, content_sha256="0" * 64))
        assert not store.holds(replace(frame, content_sha256=""))


class TestPublish:
    @pytest.fixture
    def small(self, tmp_path: Path) -> SmallStack:
        return SmallStack(tmp_path / "project", tmp_path / "cache")

    @staticmethod
    def publish(small: SmallStack, version: str, **options: Any) -> Manifest:
        """The framework with the distribution `lib` in `version`."""
        TestPublish.wheel(small, version)
        report = small.publish(["base"], **options)
        assert not report.failures
        return report.layers[0].manifest

    @staticmethod
    def wheel(small: SmallStack, version: str) -> None:
        files = {f"lib/{name}": data + version.encode() for name, data in DATA.items()}
        small.wheel("base", "lib", version, {"lib/__init__.py": f"V = {version!r}\n", **files})

    @staticmethod
    def file(small: SmallStack, manifest: Manifest) -> Path:
        assert manifest.patch_file
        return small.exports / "linux-x64" / manifest.patch_file.name

    def test_a_new_version_has_patches_from_the_one_before(self, small: SmallStack) -> None:
        first = self.publish(small, "1.0")
        assert first.patch_file is None
        assert not list(small.exports.glob("*/*.patches"))
        second = self.publish(small, "2.0")
        (patch,) = second.patches
        data = self.file(small, second).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (patch.size, patch.sha256)
        assert patch.size < 5000
        (source,) = [one.frame for one in first.frames if one.frame.sha256 in patch.sources]
        assert source.subject == "lib 1.0"
        third = self.publish(small, "3.0")
        assert third.patches[0].sources == second.patches[0].frames

    def test_how_many_versions_get_patches_is_a_setting(self, small: SmallStack) -> None:
        first, second = self.publish(small, "1.0"), self.publish(small, "2.0")
        small.patches = 2
        third = self.publish(small, "3.0")
        assert [patch.sources[0] for patch in third.patches] == [
            second.frames[0].frame.sha256,
            first.frames[0].frame.sha256,
        ]
        assert [patch.offset for patch in third.patches] == [0, third.patches[0].size]
        small.patches = 0
        assert self.publish(small, "4.0").patches == ()

    def test_the_report_counts_patches(self, small: SmallStack) -> None:
        first = self.publish(small, "1.0")
        self.wheel(small, "2.0")
        planned, done = small.publish(["base"], dry_run=True), small.publish(["base"])
        (patch,) = done.layers[0].manifest.patches
        changed = {one.frame.sha256: one.frame for one in done.layers[0].manifest.frames}
        for placed in first.frames:
            changed.pop(placed.frame.sha256, None)
        whole = sum(one.size for name, one in changed.items() if name not in patch.frames)
        assert done.layers[0].download == patch.size + whole
        assert planned.layers[0].download == done.layers[0].download

    @pytest.mark.parametrize(
        ("damage", "check"),
        [
            (Path.unlink, False),
            (lambda path: path.write_bytes(path.read_bytes()[:-1]), False),
            (lambda path: path.write_bytes(bytes(path.stat().st_size)), True),
        ],
    )
    def test_damaged_patches_are_written_again(
        self, small: SmallStack, damage: Callable[[Path], object], check: bool
    ) -> None:
        self.publish(small, "1.0")
        file = self.file(small, self.publish(small, "2.0"))
        before = file.read_bytes()
        damage(file)
        (layer,) = small.publish(["base"], check=check).layers
        assert layer.was_damaged
        assert file.read_bytes() == before
        assert not small.publish(["base"], check=True).layers[0].is_new

    def test_the_older_frames_come_from_the_archive_if_the_cache_lacks_them(
        self, small: SmallStack
    ) -> None:
        self.publish(small, "1.0")
        shutil.rmtree(small.cache)
        assert self.publish(small, "2.0").patches

    def test_without_the_older_frames_a_note_says_that_there_is_no_patch(
        self, small: SmallStack
    ) -> None:
        first = self.publish(small, "1.0")
        shutil.rmtree(small.cache)
        archive = small.exports / "linux-x64" / first.archive.name
        archive.unlink()
        said = Said()
        assert self.publish(small, "2.0", messages=said).patches == ()
        assert said.notes == [
            "base for linux-x64: no patches from lib 1.0, base: frames are neither in the cache nor"
            f" in {archive}"
        ]

    def test_a_damaged_patch_in_the_cache_is_made_again(self, small: SmallStack) -> None:
        self.publish(small, "1.0")
        second = self.publish(small, "2.0")
        for cached in (small.workspace.frames / "patches").iterdir():
            cached.write_bytes(cached.read_bytes()[:-1] + b"?")
        self.file(small, second).unlink()
        assert small.publish(["base"]).layers[0].manifest.patches == second.patches

    def test_two_machines_make_the_same_patches(self, tmp_path: Path) -> None:
        made = []
        for name in ("one", "two"):
            small = SmallStack(tmp_path / name / "project", tmp_path / name / "cache")
            self.publish(small, "1.0")
            manifest = self.publish(small, "2.0")
            made.append((manifest_to_json(manifest), self.file(small, manifest).read_bytes()))
        assert made[0] == made[1]

    def test_a_local_build_has_no_patches(self, small: SmallStack) -> None:
        to = small.workspace.build_exports
        self.publish(small, "1.0", to=to)
        assert self.publish(small, "2.0", to=to).patches == ()


class Said(Silent):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)
