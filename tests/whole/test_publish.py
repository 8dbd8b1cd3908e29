"""Publishing small layers: what is written, what stays, what a kill leaves."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.utils import canonicalize_name

from stackbuild.api import Project
from stackbuild.cli.publish import report_text
from stackbuild.compose.export_directory import ExportDirectory
from stackbuild.compose.layer_metadata import POSTINSTALL
from stackbuild.compose.serialize import index_from_json, manifest_from_json
from stackbuild.lock.model import LeftOut
from stackbuild.platforms import Platform
from stackbuild.record import record_hash
from stackbuild.runtimes.model import Interpreter
from tests.support import images
from tests.support.archives import make_archive
from tests.support.publish import dateless
from tests.support.roots import fail, snapshot, stackbuild, succeed
from tests.support.smallstack import SmallStack
from tests.support.stack import APPLICATION, RealStack
from tests.support.writeorder import WriteOrder
from tests.support.zstd import decompressed

if TYPE_CHECKING:
    from stackbuild.compose.manifest import ArchiveFormat, Manifest
    from stackbuild.compose.report import PublishedLayer
    from tests.support.archives import Content

SITE = "lib/python3.12/site-packages"
OWN_SITE = "lib/python{}.{}/site-packages".format(*sys.version_info)
OWN_TAG = str(sys.implementation.cache_tag)
"""Of the interpreter that runs the tests."""


@pytest.fixture
def small(tmp_path: Path) -> SmallStack:
    return SmallStack(tmp_path / "project", tmp_path / "cache")


def archive(stack: SmallStack, layer: str = "app", platform: str = "linux-x64") -> Path:
    """The current archive of a layer, by the index."""
    index = index_from_json((stack.exports / "index.json").read_bytes())
    entry = index.entries[layer][Platform(platform)][0]
    manifest = manifest_from_json((stack.exports / entry.manifest).read_bytes())
    return stack.exports / platform / manifest.archive.name


def contents(path: Path) -> dict[str, bytes | str]:
    """What `tar -x` makes of an archive: data, or a link's target, by path."""
    data = path.read_bytes()
    if path.name.endswith(".zst"):
        # Each frame is decompressed on its own by readers that know no better.
        data = decompressed(data)
    found: dict[str, bytes | str] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            found[member.name] = file.read() if file else member.linkname
    return found


def published(stack: SmallStack) -> dict[str, bytes]:
    """The published files, without the dates in the index."""
    return {
        str(path.relative_to(stack.exports)): dateless(path.read_bytes())
        for path in sorted(stack.exports.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def by_layer(stack: SmallStack, **options: Any) -> dict[str, PublishedLayer]:
    report = stack.publish(**options)
    assert not report.failures, [str(failure.error) for failure in report.failures]
    return {item.manifest.layer: item for item in report.layers}


def test_the_archive_holds_the_layer_and_its_chain_scripts(small: SmallStack) -> None:
    small.publish()
    found = contents(archive(small))
    assert found[f"{SITE}/app.py"] == b"import helping\nprint('app', helping.word)\n"
    assert found[f"{SITE}/helping/__init__.py"] == b"word = 'helps'\n"
    assert not [path for path in found if "__pycache__" in path or path.startswith(f"{SITE}/lib")]
    assert found["bin/python"] == "../../cpython/bin/python3.12"
    lib_tool, shared = found["bin/lib-tool"], found["bin/shared"]
    assert isinstance(lib_tool, bytes)
    assert isinstance(shared, bytes)
    assert b"from lib import main" in lib_tool
    assert b"from tool import main" in shared  # the layer's own, not base's of that name
    layer = json.loads(found["share/venv/metadata/venvstacks_layer.json"])
    assert layer == {
        "python": "bin/python",
        "py_version": "3.12.10",
        "base_python": "../cpython/bin/python",
        "site_dir": SITE,
        "pylib_dirs": [f"../base/{SITE}", f"../cpython/{SITE}"],
        "dynlib_dirs": [],
        "launch_module": "app",
    }


def test_variables_of_the_chain_are_in_the_manifest_and_the_layer(small: SmallStack) -> None:
    small.more = """
[tool.stackbuild.layers.base]
environment = { MODE = "base", PATH = { prepend = ["{runtime}/lib"] } }
[tool.stackbuild.layers.app]
environment = { PATH = { prepend = ["{layer}/x"] } }
[tool.stackbuild.layers.app.platform-specific.linux-x64]
environment = { MODE = "app" }
"""
    small.publish()
    (name,) = (small.exports / "linux-x64").glob("app-*.json")
    value = json.loads(name.read_bytes())
    expected = {
        "MODE": {"value": "app", "prepend": [], "append": []},
        "PATH": {"value": None, "prepend": ["{root}/app/x", "{root}/cpython/lib"], "append": []},
    }
    assert (value["format"], value["environment"]) == (4, expected)
    found = contents(archive(small))
    assert json.loads(found["share/venv/metadata/environment.json"]) == expected
    assert b"export MODE='app'" in bytes(found["share/venv/metadata/environment.sh"])  # type: ignore[arg-type]
    assert b"'{root}/app/x'" in bytes(found[f"{SITE}/sitecustomize.py"])  # type: ignore[arg-type]
    small.publish(["app"], "windows-x64")
    (name,) = (small.exports / "windows-x64").glob("app-*.json")
    windows = json.loads(name.read_bytes())["environment"]
    assert windows["MODE"]["value"] == "base"
    assert windows["PATH"]["prepend"] == ["{root}\\app/x", "{root}\\cpython/lib"]


def test_venvstacks_reads_the_description_of_a_layer(small: SmallStack, tmp_path: Path) -> None:
    # Not to be skipped where a newer venvstacks has it elsewhere: its format may be another too.
    postinstall = importlib.import_module("venvstacks._injected.postinstall")
    small.publish()
    for layer in ("base", "app"):
        (tmp_path / "envs" / layer).mkdir(parents=True)
        subprocess.run(
            ["tar", "-xf", archive(small, layer), "-C", tmp_path / "envs" / layer], check=True
        )
    config = postinstall.load_layer_config(tmp_path / "envs" / "app")
    assert config["site_path"] == tmp_path / "envs" / "app" / SITE
    assert config["pylib_paths"][0] == tmp_path / "envs" / "base" / SITE
    assert config["base_python_path"] == tmp_path / "envs" / "cpython" / "bin" / "python"


def test_licences_are_listed_with_their_files(small: SmallStack) -> None:
    small.publish()
    listed = json.loads(contents(archive(small, "base"))["share/licenses/distributions.json"])
    assert listed == [
        {
            "name": "lib",
            "version": "1.0",
            "licence": "MIT",
            "files": [f"{SITE}/lib-1.0.dist-info/licenses/LICENSE"],
        }
    ]


def test_two_places_users_and_times_give_the_same_bytes(tmp_path: Path) -> None:
    stacks = [
        SmallStack(tmp_path / "one", tmp_path / "cache one"),
        SmallStack(tmp_path / "an other" / "place é", tmp_path / "cache two"),
    ]
    before = os.umask(0o077)
    try:
        stacks[0].publish(platform="windows-x64")
        stacks[0].publish()
        os.umask(0o002)
        time.sleep(1.1)  # another second on the clock
        stacks[1].publish(platform="windows-x64")
        stacks[1].publish()
    finally:
        os.umask(before)
    first, second = map(published, stacks)
    assert first == second
    assert len(first) == 10
    everything = b"".join(first.values())
    assert str(tmp_path).encode() not in everything


def test_what_layers_do_without_is_listed_last(small: SmallStack) -> None:
    gone = LeftOut(name=canonicalize_name("gone"), reason="no package index has gone")
    small.omitted = {"base": (gone,)}
    small.lock()
    words = ["publish", "--layer", "app", "--layer", "base", "--only", "--platform", "linux-x64"]
    environment = {"STACKBUILD_CACHE_DIR": str(small.cache)}
    done = stackbuild(*words, "--spec", str(small.spec), env=environment)
    text = "omitted gone in base on linux-x64: no package index has gone"
    assert done.stdout.splitlines()[-1] == text


def test_publishing_again_changes_nothing(small: SmallStack) -> None:
    assert {layer: item.is_new for layer, item in by_layer(small).items()} == {
        "base": True,
        "app": True,
    }
    before = {path: path.stat().st_mtime_ns for path in small.exports.rglob("[!.]*.*")}
    again = by_layer(small)
    assert not any(item.is_new or item.download for item in again.values())
    assert {path: path.stat().st_mtime_ns for path in small.exports.rglob("[!.]*.*")} == before


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("launch/app.py", "print('changed')\n"),
        ("launch/helping/__init__.py", "word = 'changed'\n"),
        ("overlays/app/data.txt", "changed\n"),
    ],
)
def test_an_edited_module_or_overlay_gives_a_new_archive(
    small: SmallStack, path: str, text: str
) -> None:
    small.write("overlays/app/data.txt", "first\n")
    small.more = '[tool.stackbuild.layers.app]\ncopy-files = [{from = "data.txt", to = "share/"}]\n'
    small.publish()
    first = archive(small)
    small.write(path, text)
    layers = by_layer(small)
    assert layers["app"].is_new
    assert not layers["base"].is_new
    assert archive(small) != first
    assert text.encode() in contents(archive(small)).values()
    assert 0 < layers["app"].download < layers["app"].manifest.archive.size
    index = index_from_json((small.exports / "index.json").read_bytes())
    assert len(index.entries["app"][Platform.LINUX_X64]) == 2
    assert first.exists()


def test_what_was_published_before_is_current_again(small: SmallStack) -> None:
    small.publish()
    first = archive(small)
    small.write("launch/app.py", "print('changed')\n")
    small.publish()
    small.write("launch/app.py", "import helping\nprint('app', helping.word)\n")
    layers = by_layer(small)
    assert not layers["app"].is_new
    assert archive(small) == first
    index = index_from_json((small.exports / "index.json").read_bytes())
    assert len(index.entries["app"][Platform.LINUX_X64]) == 2


def test_a_lost_index_is_told(small: SmallStack) -> None:
    small.publish()
    (older,) = (small.exports / "linux-x64").glob("app-*.json")
    (base,) = (small.exports / "linux-x64").glob("base-*.json")
    small.write("launch/app.py", "print('changed')\n")
    small.lock()
    (small.exports / "index.json").unlink()
    words = ("publish", "--layer", "app", "--only", "--platform", "linux-x64", "--spec", small.spec)
    done = stackbuild(*words, env={"STACKBUILD_CACHE_DIR": str(small.cache)})
    assert done.returncode == 0, done.stderr
    lost = f"linux-x64/{older.name}, linux-x64/{base.name}"
    assert done.stderr == (
        f"warning: {small.exports}/index.json was missing, and no longer lists {lost}; versions"
        " count from 1 again. To keep both, restore the file and publish again\n"
    )
    done = stackbuild(*words, env={"STACKBUILD_CACHE_DIR": str(small.cache)})
    assert "was missing" not in done.stderr


@pytest.mark.parametrize("form", ["tar.zst", "tar.gz", "zip"])
def test_a_dry_run_reports_what_would_be_published(
    small: SmallStack, tmp_path: Path, form: str
) -> None:
    small.lock()
    to = tmp_path / "to"
    words = ["publish", "--layer", "app", "--layer", "base", "--only", "--platform", "linux-x64"]
    words += ["--spec", str(small.spec), "--to", str(to), "--format", form, "--json"]
    environment = {"STACKBUILD_CACHE_DIR": str(small.cache)}
    options = ("--dry-run", "--venvstacks-metadata")
    planned = stackbuild(*words, *options, env=environment)
    assert planned.returncode == 0, planned.stderr
    assert "nothing is written" in planned.stderr
    assert not to.exists()
    done = stackbuild(*words, env=environment)
    assert json.loads(planned.stdout) == json.loads(done.stdout)
    before = snapshot(to)
    small.write("launch/app.py", "print('changed')\n")
    small.lock()
    seals = snapshot(small.cache / "published")
    again = stackbuild("-q", *words, *options, env=environment)
    assert again.returncode == 0
    assert again.stderr == ""
    layers = json.loads(again.stdout)["layers"]
    assert [(item["layer"], item["new"]) for item in layers] == [("base", False), ("app", True)]
    assert snapshot(to) == before
    assert snapshot(small.cache / "published") == seals
    assert not (to / "linux-x64" / "__venvstacks__").exists()


def states(*directories: Path) -> dict[Path, tuple[int, bytes]]:
    """When each file was changed, and its bytes."""
    files = (path for one in directories for path in one.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_dry_run_writes_nothing(
    small: SmallStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("STACKBUILD_CACHE_DIR", str(tmp_path / "none"))
    (tmp_path / "temporary").mkdir()
    index = shutil.copytree(small.directory / "wheelhouse", tmp_path / "index")
    small.more = f'[[tool.uv.index]]\nname = "ours"\nurl = "{index}"\nformat = "flat"\n'
    small.lock()
    shutil.rmtree(small.directory / "wheelhouse")
    command = ("publish", "--layer", "base", "--layer", "app", "--only", "--spec", small.spec)
    dry_run = (*command, "--platform", "linux-x64", "--dry-run", "--json")

    # Neither wheels nor frames are there.
    before = states(small.directory, small.cache)
    planned = succeed(*dry_run)
    assert [item["new"] for item in json.loads(planned)["layers"]] == [True, True]
    assert states(small.directory, small.cache) == before
    assert not (small.directory / "wheelhouse").exists()
    assert not (tmp_path / "none").exists()

    # All is there, but a frame is damaged.
    monkeypatch.setenv("STACKBUILD_CACHE_DIR", str(small.cache))
    assert succeed("-q", *command, "--platform", "linux-x64") == ""
    assert "linux-x64  new" in succeed("-q", *dry_run[:-1], "--format", "zip")
    shutil.rmtree(small.exports)
    frame = max((small.cache / "frames/frames").rglob("*.zst"), key=lambda one: one.stat().st_size)
    frame.write_bytes(bytes(frame.stat().st_size))
    before = states(small.directory, small.cache)
    assert json.loads(succeed(*dry_run, "--format", "tar.gz"))["failures"] == []
    assert succeed(*dry_run) == planned
    assert states(small.directory, small.cache) == before

    # A damaged wheel is named by its lasting place.
    wheel = small.directory / "wheelhouse/tool-2.0-py3-none-any.whl"
    wheel.write_bytes(bytes(wheel.stat().st_size))
    monkeypatch.setenv("STACKBUILD_CACHE_DIR", str(tmp_path / "none"))
    assert f"file: {wheel}\n" in fail(6, *dry_run)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_dry_run_builds_nothing(small: SmallStack) -> None:
    small.built = frozenset({"lib"})
    small.lock()
    (wheel,) = small.wheels["base"]
    wheel.unlink()
    (failure, _) = small.publish_locked(["base", "app"], dry_run=True).failures
    details = dict(failure.error.details)
    assert details["found"] == "a dry run builds nothing"
    assert details["to fix"] == "build it: stackbuild fetch --layer base --platform linux-x64"


def test_a_dry_run_does_not_mark_a_directory(small: SmallStack) -> None:
    small.publish()
    (small.exports / ".stackbuild.tag").unlink()
    words = ("publish", "--layer", "base", "--only", "--platform", "linux-x64", "--spec")
    environment = {"STACKBUILD_CACHE_DIR": str(small.cache)}
    done = stackbuild(*words, str(small.spec), "--dry-run", env=environment)
    assert done.returncode == 0, done.stderr
    assert not (small.exports / ".stackbuild.tag").exists()


def test_publishing_a_part_keeps_the_rest_of_the_index(small: SmallStack) -> None:
    small.publish()
    small.publish(["base"], platform="macosx-aarch64")
    index = index_from_json((small.exports / "index.json").read_bytes())
    assert set(index.entries) == {"app", "base"}
    assert set(index.entries["base"]) == {Platform.LINUX_X64, Platform.MACOSX_AARCH64}


def current(stack: SmallStack) -> dict[str, str]:
    """The digests of the current layers for linux-x64, by the index."""
    index = index_from_json((stack.exports / "index.json").read_bytes())
    return {name: on[Platform.LINUX_X64][0].digest for name, on in index.entries.items()}


CLASH = '[tool.stackbuild.layers.base]\ncopy-files = [{from = "file", to = "pyvenv.cfg"}]\n'


def test_layers_above_a_failed_one_are_held_back(small: SmallStack) -> None:
    small.write("overlays/base/file", "x")
    by_layer(small)
    before = current(small)

    # The new lock of base, which app is composed for, is not published.
    small.wheel("base", "lib", "2.0", {"lib/__init__.py": "def main():\n    pass\n"})
    small.more = CLASH
    small.write("launch/app.py", "print('new')\n")
    for dry_run in (True, False):
        report = small.publish(dry_run=dry_run)
        failed, held = report.failures
        assert not report.layers
        assert (failed.layer, held.layer) == ("base", "app")
        assert "which stackbuild generates" in failed.error.message
        assert str(held.error) == (
            "base failed, and the layers above are not published without it\n"
            "  platform: linux-x64\n"
            "  to fix: correct the error of base, and run the command again"
        )
    assert current(small) == before

    # Elsewhere base may be published with that lock.
    report = small.publish(["app"])
    assert [item.manifest.layer for item in report.layers] == ["app"]
    small.more = ""
    assert set(by_layer(small)) == {"base", "app"}


def test_a_layer_above_a_failed_one_whose_lock_is_published(small: SmallStack) -> None:
    small.write("overlays/base/file", "x")
    before = {name: item.manifest for name, item in by_layer(small).items()}
    small.more = CLASH  # no part of the lock
    small.write("launch/app.py", "print('new')\n")
    report = small.publish()
    assert [failure.layer for failure in report.failures] == ["base"]
    assert [item.manifest.layer for item in report.layers] == ["app"]
    after = current(small)
    assert after["base"] == before["base"].digest
    assert after["app"] != before["app"].digest


def test_a_first_publish_with_a_failed_layer(small: SmallStack) -> None:
    small.write("overlays/base/file", "x")
    small.more = CLASH
    small.more_app = """
[[applications]]
name = "other"
runtime = "cpython"
requirements = []
"""
    small.lock()
    words = ["--spec", str(small.spec), "--platform", "linux-x64", "--only"]
    words.append("--venvstacks-metadata")
    layers = [word for name in ("base", "app", "other") for word in ("--layer", name)]
    done = stackbuild("publish", *words, *layers, env={"STACKBUILD_CACHE_DIR": str(small.cache)})
    assert done.returncode == 7
    assert done.stdout.split()[:2] == ["other", "linux-x64"]
    assert "  not published: base on linux-x64\n" in done.stderr
    assert "error: base failed, and the layers above are not published without it" in done.stderr
    assert "  not published: app on linux-x64\n" in done.stderr
    # The archive of app, which is not in the index, is not taken for a lost one.
    assert "was missing" not in done.stderr
    assert set(current(small)) == {"other"}
    metadata = small.exports / "linux-x64" / "__venvstacks__"
    assert [path.stem for path in (metadata / "env_metadata").iterdir()] == ["app-other"]


def test_archives_of_a_first_publish_without_a_result(small: SmallStack) -> None:
    """They are in no index, and the next publish does not take them for those of a lost one."""
    small.write("overlays/base/file", "x")
    small.more = CLASH
    small.lock()
    words = ["publish", "--spec", str(small.spec), "--platform", "linux-x64", "--only"]
    words += ["--layer", "base", "--layer", "app"]
    environment = {"STACKBUILD_CACHE_DIR": str(small.cache)}
    assert stackbuild(*words, env=environment).returncode == 7
    (held,) = (small.exports / "linux-x64").glob("app-*.tar.zst")
    small.more = ""
    small.write("launch/app.py", "print('new')\n")
    small.lock()
    done = stackbuild(*words, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(current(small)) == {"base", "app"}
    assert held.exists()


def test_host_libraries_of_an_explicit_archive(small: SmallStack, tmp_path: Path) -> None:
    program = images.elf(needed=["libodd.so.3", "libc.so.6"])
    files: dict[str, Content] = {"bin/python3.12": program, "lib/python3.12/os.py": b""}
    interpreter = make_archive(tmp_path / "python.tar.gz", files)
    download = f'url = "{interpreter.path.as_uri()}", sha256 = "{interpreter.sha256}"'
    small.more = f"downloads.linux-x64 = {{ {download} }}"
    (failure,) = small.publish(["cpython"]).failures
    assert "  expected: libodd.so.3\n" in str(failure.error)
    small.publish(["cpython"], allow_unresolved=True)
    # The manifest of the same contents gets the list later, too.
    small.more = f'downloads.linux-x64 = {{ {download}, host-libraries = ["libodd.so.3"] }}'
    report = small.publish(["cpython"])
    assert report.failures == ()
    assert [item.manifest.host_libraries for item in report.layers] == [("libodd.so.3",)]
    assert current(small)["cpython"] == report.layers[0].manifest.digest


def test_a_new_version_shares_the_frames_of_what_did_not_change(small: SmallStack) -> None:
    small.wheel("base", "big", "1.0", {"big.py": "x = 1\n" * 1000, "big.bin": os.urandom(50_000)})
    first = by_layer(small)["base"]
    small.wheel("base", "lib", "1.1", {"lib/__init__.py": "def main(): pass\n"})
    second = by_layer(small)["base"]
    assert second.download < second.manifest.archive.size / 2
    shared = {item.frame.sha256 for item in first.manifest.frames}
    assert sum(item.frame.sha256 in shared for item in second.manifest.frames) >= 1


def test_an_archive_cut_off_or_touched_is_written_again(small: SmallStack) -> None:
    small.publish()
    path = archive(small)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert by_layer(small)["app"].is_new
    assert path.read_bytes() == whole
    os.truncate(path, len(whole) - 100)
    path.write_bytes(bytes(len(whole)))
    assert by_layer(small)["app"].is_new
    assert path.read_bytes() == whole
    path.unlink()
    assert by_layer(small)["app"].is_new
    assert path.read_bytes() == whole


def test_files_of_another_command_are_not_called_repaired(
    small: SmallStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another command publishes the same layer at the same time."""
    first = by_layer(small)["app"]
    manifest = first.path.with_name(first.path.name.replace(".tar.zst", ".json"))
    kept = {path: path.read_bytes() for path in (manifest, first.path)}
    # It has written the archive, and not yet the manifest.
    manifest.unlink()
    second = by_layer(small)["app"]
    assert (second.is_new, second.was_damaged) == (True, False)
    assert manifest.read_bytes() == kept[manifest]
    # It writes both after they were found missing.
    for path in kept:
        path.unlink()
    complete = ExportDirectory.complete

    def late(exports: ExportDirectory, wanted: Manifest, *others: Any) -> Any:
        found = complete(exports, wanted, *others)
        if wanted.layer == "app":
            for path, data in kept.items():
                path.write_bytes(data)
        return found

    monkeypatch.setattr(ExportDirectory, "complete", late)
    third = by_layer(small)["app"]
    assert (third.is_new, third.was_damaged) == (True, False)


@pytest.mark.parametrize("told", ["by its status", "by nothing"])
def test_a_flipped_byte_is_repaired_by_the_command_that_install_advises(
    real_stack: RealStack, tmp_path: Path, told: str
) -> None:
    place, root = tmp_path / "a place", tmp_path / "root"
    publish = ("publish", "--layer", APPLICATION, "--platform", "host", "--to", place)
    real_stack.run(*publish)
    (path,) = place.glob(f"*/{APPLICATION}-*.tar.zst")
    good, status = path.read_bytes(), path.stat()
    with path.open("r+b") as file:
        file.seek(40)
        file.write(bytes([good[40] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    if told == "by nothing":
        # What a failing disk does: the seal is that of the damaged file.
        for seals in (real_stack.cache / "published").iterdir():
            entries = json.loads(seals.read_bytes())
            if str(path) in entries:
                entries[str(path)][4] = path.stat().st_ctime_ns
                seals.write_text(json.dumps(entries))
        assert "repaired" not in real_stack.run(*publish).stdout
    install = ("install", APPLICATION, "--from", place, "--root", root, "--no-sync")
    failed = real_stack.run(*install, check=False)
    assert failed.returncode == 6
    command = failed.stderr.rpartition("to fix: in the project of the stack: ")[2]
    words = shlex.split(command)
    assert words[0] == "stackbuild"
    done = real_stack.run(*words[1:])
    assert re.search(rf"^{APPLICATION} .* repaired ", done.stdout, re.MULTILINE)
    assert path.read_bytes() == good
    real_stack.run(*install)
    assert "repaired" not in real_stack.run(*publish).stdout


def test_a_manifest_with_other_bytes_is_written_again(small: SmallStack) -> None:
    small.publish()
    path = archive(small)
    manifest = path.with_name(path.name.removesuffix(".tar.zst") + ".json")
    good = manifest.read_bytes()
    manifest.write_bytes(good + b" ")
    assert by_layer(small)["app"].is_new
    assert manifest.read_bytes() == good


def test_a_damaged_frame_in_the_cache_is_made_again(small: SmallStack, tmp_path: Path) -> None:
    small.publish()
    good = archive(small).read_bytes()
    for frame in (tmp_path / "cache" / "frames" / "frames").rglob("*.zst"):
        data = bytearray(frame.read_bytes())
        data[len(data) // 2] ^= 0xFF
        frame.write_bytes(data)
    for path in (small.exports / "linux-x64").iterdir():
        path.unlink()
    assert by_layer(small)["app"].is_new
    assert archive(small).read_bytes() == good


def test_two_at_once_both_get_into_the_index(small: SmallStack) -> None:
    small.lock()
    environment = {**os.environ, "STACKBUILD_CACHE_DIR": str(small.cache)}
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "stackbuild", "publish", "--spec", small.spec, "--only"),
                *("--layer", layer, "--platform", platform),
            ],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        for layer in ("base", "app")
        for platform in ("linux-x64", "windows-x64", "macosx-x64")
    ]
    assert [process.wait() for process in processes] == [0] * 6
    index = index_from_json((small.exports / "index.json").read_bytes())
    assert {layer: len(platforms) for layer, platforms in index.entries.items()} == {
        "app": 3,
        "base": 3,
    }


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_publish_that_is_killed_leaves_nothing_that_counts(small: SmallStack) -> None:
    # Large enough to be caught in the middle.
    small.wheel("app", "big", "1.0", {f"big{n}.bin": os.urandom(4_000_000) for n in range(6)})
    small.lock()
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "stackbuild",
        "publish",
        "--spec",
        small.spec,
    ]
    command += ["--layer", "app", "--only", "--platform", "linux-x64"]
    environment = {**os.environ, "STACKBUILD_CACHE_DIR": str(small.cache)}
    caught = False
    for _ in range(30):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and not caught:
            caught = bool(list((small.exports / "linux-x64").glob(".*.partial")))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if caught:
            break
        for path in (small.exports / "linux-x64").iterdir():
            path.unlink()
    assert caught, "the publish was never seen at work"
    assert not list((small.exports / "linux-x64").glob("*.json"))
    layer = by_layer(small, layers=["app"])["app"]
    assert layer.is_new
    assert layer.path.stat().st_size == layer.manifest.archive.size
    leftovers = list((small.exports / "linux-x64").glob(".*.partial"))
    assert leftovers, "the kill left no unfinished file"
    for path in leftovers:
        os.utime(path, (1, 1))
    small.publish()
    assert not list((small.exports / "linux-x64").glob(".*.partial"))


@pytest.mark.parametrize("format_", ["tar.xz", "tar.gz", "zip"])
def test_the_other_formats_hold_the_same_and_are_repeatable(
    small: SmallStack, tmp_path: Path, format_: str
) -> None:
    small.write("overlays/app/lib.py", "replaced = True\n")
    small.more = (
        "[tool.stackbuild.layers.app]\ncopy-files = "
        '[{from = "lib.py", to = "{site-packages}/tool.py", overwrite = true}]\n'
    )
    small.publish()
    expected = contents(archive(small))
    layer = by_layer(small, archive_format=format_)["app"]
    assert layer.manifest.archive.format == format_
    assert layer.path.name.endswith(format_)
    told = "\n".join(report_text([replace(layer, download=1)]))
    assert "upgrade" not in told, "nothing is installed from this format"
    assert (layer.path.with_name(f"{layer.path.name}.json")).exists()
    assert archive(small).name.endswith(".tar.zst")  # what can be installed stays current
    if format_ == "zip":
        with zipfile.ZipFile(layer.path) as packed:
            assert len(packed.namelist()) == len(set(packed.namelist()))
            found = {info.filename: packed.read(info) for info in packed.infolist()}
            link = packed.getinfo("bin/python")
            assert stat.S_ISLNK(link.external_attr >> 16)
            assert packed.getinfo("bin/shared").external_attr >> 16 == 0o100755
        text = {
            path: data if isinstance(data, bytes) else data.encode()
            for path, data in expected.items()
        }
        assert found == text
    else:
        assert contents(layer.path) == expected
    again = by_layer(small, archive_format=format_, to=tmp_path / "again")["app"]
    assert again.path.read_bytes() == layer.path.read_bytes()


def check_records(tree: Path) -> dict[str, str]:
    """Check each RECORD in the site-packages of `tree`; the hash of every path it names."""
    hashes = {}
    for path in (tree / SITE).glob("*.dist-info/RECORD"):
        for name, digest, size in csv.reader(io.StringIO(path.read_text())):
            if not name.endswith("/RECORD"):
                data = (tree / SITE / name).read_bytes()
                assert (digest, size) == (record_hash(data), str(len(data))), name
                hashes[name] = digest
    return hashes


def unpacked(small: SmallStack, directory: Path) -> Path:
    directory.mkdir()
    for path, data in contents(archive(small)).items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(data) if isinstance(data, bytes) else target.symlink_to(data)
    return directory


def test_a_replaced_file_wins_and_its_record_is_true(small: SmallStack, tmp_path: Path) -> None:
    small.write("overlays/app/lib.py", "replaced = True\n")
    small.more = (
        "[tool.stackbuild.layers.app]\ncopy-files = "
        '[{from = "lib.py", to = "{site-packages}/tool.py", overwrite = true}]\n'
    )
    small.publish()
    tree = unpacked(small, tmp_path / "tree")
    assert (tree / SITE / "tool.py").read_text() == "replaced = True\n"
    assert check_records(tree)["tool.py"] == record_hash(b"replaced = True\n")


def test_the_record_of_a_file_that_a_link_replaces_is_true(
    small: SmallStack, tmp_path: Path
) -> None:
    files = {"tool.py": "a = 1\n", "more.py": "b = 1\n", "gone.py": "c = 1\n"}
    small.wheel("app", "tool", "2.0", files)
    small.write("overlays/app/site/real/new.py", "replaced = True\n")
    overlay = small.directory / "overlays/app/site"
    (overlay / "way").symlink_to("real")
    (overlay / "tool.py").symlink_to("way/new.py")
    (overlay / "more.py").symlink_to("tool.py")
    (overlay / "gone.py").symlink_to("real")
    small.more = (
        "[tool.stackbuild.layers.app]\ncopy-files = "
        '[{from = "site/", to = "{site-packages}/", overwrite = true}]\n'
    )
    small.publish()
    tree = unpacked(small, tmp_path / "tree")
    hashes = check_records(tree)
    assert hashes["tool.py"] == hashes["more.py"] == record_hash(b"replaced = True\n")
    assert "gone.py" not in hashes, "a directory has no row"


def test_an_overlay_may_replace_what_the_layer_makes(small: SmallStack) -> None:
    small.write("overlays/app/mine", "prompt = mine\n")
    small.more = (
        "[tool.stackbuild.layers.app]\ncopy-files = ["
        '{from = "mine", to = "pyvenv.cfg", overwrite = true},'
        '{from = "mine", to = "bin/lib-tool"}]\n'
    )
    small.publish()
    found = contents(archive(small))
    assert found["pyvenv.cfg"] == b"prompt = mine\n"
    assert found["bin/lib-tool"] == b"prompt = mine\n"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_what_git_ignores_is_not_published(small: SmallStack) -> None:
    small.write(".gitignore", "*.log\nsecret.txt\n/exports/\n/wheelhouse/\n/layers/\n*.toml\n")
    small.write("overlays/app/share/note.txt", "note")
    small.write("overlays/app/built/lib.log", "built")
    small.more = """\
[tool.stackbuild.layers.app]
copy-files = [
    { from = "share/", to = "share/" },
    { from = "**/lib.*", to = "lib/", include-ignored = true },
]
"""
    for command in ("init -q", "add ."):
        subprocess.run(["git", *command.split()], cwd=small.directory, check=True)
    for directory in ("launch/helping", "overlays/app/share"):
        for name in ("secret.txt", "out.log", "new.py", "new.py~", ".git/config"):
            small.write(f"{directory}/{name}", "x = 1\n")
    small.lock()
    words = ("publish", "--layer", "app", "--only", "--platform", "linux-x64", "--spec")
    done = stackbuild(*words, small.spec, env={"STACKBUILD_CACHE_DIR": str(small.cache)})
    assert done.returncode == 0, done.stderr
    places = (f"{SITE}/helping/", "share/n", "share/s", "share/o", "share/.", "lib/built/")
    assert {path for path in contents(archive(small)) if path.startswith(places)} == {
        *(f"{SITE}/helping/__init__.py", f"{SITE}/helping/new.py"),
        *("share/note.txt", "share/new.py", "lib/built/lib.log"),
    }
    assert (
        "not in git yet, but published: launch/helping/new.py,"
        " overlays/app/share/new.py\n"
        "ignored by git and not published: launch/helping/out.log, launch/helping/secret.txt,"
        " overlays/app/share/out.log, overlays/app/share/secret.txt\n"
    ) in done.stderr


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize(
    ("ignored", "message"),
    [
        ("/launch/app.py", "a module of the layer is ignored by git, so it is not published"),
        ("/launch/helping/", "a module of the layer is a directory without published files"),
        ("/overlays/", "git ignores all files of an overlay, so none of them is published"),
        ("note.txt", "git ignores the source of an overlay, so it is not published"),
    ],
)
def test_an_entry_that_git_ignores_altogether(
    small: SmallStack, ignored: str, message: str
) -> None:
    small.write("overlays/app/share/note.txt", "note")
    copy = f'{{from = "share/{ignored if ignored == "note.txt" else ""}", to = "x/"'
    small.more = f"[tool.stackbuild.layers.app]\ncopy-files = [{copy}}}]\n"
    small.write(".gitignore", f"{ignored}\n")
    subprocess.run(["git", "init", "-q"], cwd=small.directory, check=True)
    (failed,) = small.publish(["app"]).failures
    assert failed.error.message.startswith(message)
    assert failed.error.exit_code == 7
    if "overlay" in message:
        assert "include-ignored = true" in str(failed.error)
        small.more = small.more.replace('"x/"', '"x/", include-ignored = true')
    else:
        subprocess.run(["git", "add", "--force", "launch"], cwd=small.directory, check=True)
    assert not small.publish(["app"]).failures


def test_a_versioned_layer_has_a_directory_of_its_own(small: SmallStack) -> None:
    small.more_app = "versioned = true"
    layers = by_layer(small)
    assert layers["app"].manifest.directory == "app@3"
    assert layers["base"].manifest.directory == "base"


def test_a_level_given_for_once_changes_the_frames(small: SmallStack) -> None:
    first = by_layer(small)["app"].manifest
    second = by_layer(small, level=19)["app"].manifest
    assert first.digest != second.digest
    assert second.provenance["level"] == 19


def test_the_windows_layer_has_launchers_and_no_links(small: SmallStack) -> None:
    small.publish(platform="windows-x64")
    found = contents(archive(small, platform="windows-x64"))
    assert not [path for path, data in found.items() if isinstance(data, str)]
    tool = found["Scripts/lib-tool.exe"]
    assert isinstance(tool, bytes)
    assert tool.startswith(b"MZ")
    assert found["pyvenv.cfg"] == (
        b"include-system-site-packages = false\nversion = 3.12.10\nprompt = app\n"
    )
    assert "Lib/site-packages/app.py" in found


@pytest.fixture
def compiling(small: SmallStack, monkeypatch: pytest.MonkeyPatch) -> SmallStack:
    """A stack with bytecode, made by an interpreter of this machine as it is.

    Packing one first, as the command does, takes longer than all these tests.
    """
    small.python = "{}.{}.{}".format(*sys.version_info)
    interpreter = Interpreter(executable=Path(sys.executable), version=small.python)
    monkeypatch.setattr("stackbuild.compose.gather.bytecode_interpreter", lambda *_: interpreter)
    small.bytecode = True
    return small


def test_bytecode_of_everything_carries_the_tag_of_the_runtime(compiling: SmallStack) -> None:
    compiling.write("overlays/app/extra.py", "extra = 1\n")
    compiling.wheel("app", "tool", "2.0", {"tool.py": "", "tool_cuda.py": ""})
    compiling.more = (
        '[tool.stackbuild.layers.app]\nexclude-files = ["*_cuda*"]\n'
        'copy-files = [{from = "extra.py", to = "{site-packages}/"}]\n'
    )
    layer = by_layer(compiling)["app"]
    found = contents(layer.path)
    modules = {path for path in found if path.endswith(".py")} - {POSTINSTALL}
    compiled = {path for path in found if path.endswith(".pyc")}
    assert {f"{OWN_SITE}/{name}.py" for name in ("app", "tool", "extra", "sitecustomize")} < modules
    assert f"{OWN_SITE}/tool_cuda.py" not in modules
    assert len(modules) == len(compiled)
    assert all(path.endswith(f".{OWN_TAG}.pyc") for path in compiled)
    data = found[f"{OWN_SITE}/__pycache__/app.{OWN_TAG}.pyc"]
    assert isinstance(data, bytes)
    assert data[4:8] == b"\x01\0\0\0"  # an unchecked hash (PEP 552)
    assert str(layer.manifest.provenance["bytecode"]).startswith(compiling.python)
    kinds = [placed.frame.kind.value for placed in layer.manifest.frames]
    order = ["distribution", "bytecode", "overlay", "head", "bytecode", "bytecode", "head"]
    assert kinds == order
    sizes = Project.load(compiling.spec).sizes("app")
    assert sizes.archive == layer.path.name
    parts = {one.name: one.files for one in sizes.parts}
    assert [*parts] == ["distribution", "bytecode", "overlay", "head"]
    assert (parts["bytecode"], parts["overlay"]) == (len(compiled), 1)
    assert sum(one.compressed for one in sizes.parts) == layer.path.stat().st_size


def test_bytecode_is_the_same_again_in_another_cache(compiling: SmallStack, tmp_path: Path) -> None:
    first = by_layer(compiling)["app"].manifest
    compiling.cache = tmp_path / "another cache"
    assert by_layer(compiling)["app"].manifest == first


def test_bytecode_of_a_replaced_module_is_that_of_the_overlay(compiling: SmallStack) -> None:
    without = by_layer(compiling)["app"]
    pyc = f"{OWN_SITE}/__pycache__/tool.{OWN_TAG}.pyc"
    compiling.write("overlays/app/tool.py", "replaced = True\n")
    compiling.more = (
        "[tool.stackbuild.layers.app]\n"
        'copy-files = [{from = "tool.py", to = "{site-packages}/tool.py", overwrite = true}]\n'
    )
    replaced = by_layer(compiling)["app"]
    assert contents(replaced.path)[pyc] != contents(without.path)[pyc]
    compiling.write("overlays/app/tool.py", "not python at all\n")
    (failure,) = compiling.publish(["app"]).failures
    assert str(failure.error).startswith(
        f"the overlay's {OWN_SITE}/tool.py does not compile, but the module that it replaces does\n"
    )


@pytest.mark.parametrize("form", ["tar.zst", "tar.gz", "zip"])
def test_what_is_published_is_on_the_disk_before_it_is_named(
    small: SmallStack, monkeypatch: pytest.MonkeyPatch, form: ArchiveFormat
) -> None:
    small.lock()
    order = WriteOrder(monkeypatch)
    by_layer(small, archive_format=form)
    named = [
        path.relative_to(small.exports) for path in order.named if small.exports in path.parents
    ]
    assert {path.name.partition("-")[0] for path in named} >= {"app", "base", "index.json"}
    assert set(published(small)) <= {str(path) for path in named}
    assert str(named[-1]) == "index.json"
    assert [fault for fault in order.faults() if str(small.exports) in fault] == []
