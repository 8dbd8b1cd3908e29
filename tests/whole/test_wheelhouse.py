"""Wheels for pip: `stackbuild wheelhouse`, and layers with `packages`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stackbuild.api import ComposeError, IntegrityError, Project
from stackbuild.files import remove_tree, sha256_file, work_path
from stackbuild.frames.model import FrameKind
from stackbuild.lock.current import Locks
from stackbuild.mark import MARK
from stackbuild.platforms import Platform
from tests.support.archives import unpack_layer
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["lib-1.0-py3-none-any.whl", "tool-2.0-py3-none-any.whl"]


@pytest.fixture
def small(tmp_path: Path) -> SmallStack:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    small.lock()
    return small


def export(small: SmallStack, to: Path, layer: str = "app") -> list[str]:
    paths = Project.load(small.spec).export_wheels([layer], to, platform="linux-x64")
    assert [path for path in sorted(to.iterdir()) if path.suffix == ".whl"] == list(paths)
    return [path.name for path in paths]


def test_pip_installs_the_layers_distributions_from_it(small: SmallStack, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    assert export(small, packages) == NAMES
    (tmp_path / "requirements.txt").write_text("tool\nlib==1.0\n")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    command = [python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", packages]
    subprocess.run([*map(str, command), "-r", str(tmp_path / "requirements.txt")], check=True)
    subprocess.run([python, "-c", "import lib, tool"], check=True)


def test_wheels_are_hard_links_and_follow_the_locks(small: SmallStack, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    export(small, packages)
    wheelhouse = small.directory / "wheelhouse"
    assert all((packages / name).samefile(wheelhouse / name) for name in NAMES)
    small.wheel("app", "tool", "3.0", {"tool.py": ""})
    small.lock()
    assert export(small, packages) == [NAMES[0], "tool-3.0-py3-none-any.whl"]
    assert export(small, packages, "base") == NAMES[:1]
    assert (wheelhouse / NAMES[1]).exists(), "only the links are removed"


def test_a_changed_wheel_in_the_directory_is_replaced(small: SmallStack, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    export(small, packages)
    (packages / NAMES[1]).unlink()
    (packages / NAMES[1]).write_bytes(b"other")
    export(small, packages)
    assert (packages / NAMES[1]).samefile(small.directory / "wheelhouse" / NAMES[1])


def test_a_directory_with_other_files_is_refused(small: SmallStack, tmp_path: Path) -> None:
    (tmp_path / "mine.whl").write_bytes(b"")
    with pytest.raises(ComposeError) as caught:
        export(small, tmp_path)
    assert "is not a directory of exported wheels" in str(caught.value)
    assert "choose another directory: stackbuild wheelhouse LAYER DIR" in str(caught.value)
    assert (tmp_path / "mine.whl").exists()


def test_the_wheelhouse_itself_is_refused(small: SmallStack) -> None:
    wheelhouse = small.directory / "wheelhouse"
    remove_tree(wheelhouse)
    for directory in (wheelhouse, wheelhouse / "inner"):
        with pytest.raises(ComposeError) as caught:
            export(small, directory, "cpython")
        assert str(caught.value).splitlines() == [
            "wheels cannot be exported into the wheelhouse of the project",
            f"  file: {directory}",
            f"  expected: a directory outside {wheelhouse}",
            "  to fix: choose another directory: stackbuild wheelhouse LAYER DIR",
        ]
    assert not wheelhouse.exists()


@pytest.mark.skipif(os.name == "nt", reason="links and modes of POSIX")
def test_links_to_wheels_and_read_only_wheels(small: SmallStack, tmp_path: Path) -> None:
    for name in NAMES:
        wheel = small.directory / "wheelhouse" / name
        wheel.rename(small.directory / name)
        (small.directory / name).chmod(0o444)
        wheel.symlink_to(f"../{name}")
    packages = tmp_path / "some/where"
    export(small, packages)
    for name in NAMES:
        assert not (packages / name).is_symlink()
        assert (packages / name).samefile(small.directory / name)


def test_what_a_killed_run_left_is_removed(small: SmallStack, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    export(small, packages)
    left = work_path(packages / NAMES[0])
    left.write_bytes(b"half")
    export(small, packages)
    assert not left.exists()
    assert os.name == "nt" or {path.name for path in packages.iterdir()} == {MARK, *NAMES}


def test_a_damaged_wheel_is_not_exported(small: SmallStack, tmp_path: Path) -> None:
    wheel = small.directory / "wheelhouse" / NAMES[1]
    locked = sha256_file(wheel)
    data = bytearray(wheel.read_bytes())
    data[10] ^= 1
    wheel.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        export(small, tmp_path / "packages")
    assert str(caught.value).splitlines() == [
        "a wheel in the wheelhouse is damaged",
        f"  file: {wheel}",
        f"  expected: sha256 {locked}",
        f"  found: sha256 {sha256_file(wheel)}",
        "  to fix: remove it and run the command again: it is then fetched again",
    ]
    assert not (tmp_path / "packages" / NAMES[1]).exists()


PACKAGES = "[tool.stackbuild.layers.app]\npackages = true\n"


def test_a_layer_has_the_wheels_of_its_chain_as_files(small: SmallStack, tmp_path: Path) -> None:
    small.more = PACKAGES + "[tool.stackbuild.layers.base]\npackages = true\n"
    base, app = small.publish().layers
    unpack_layer(app.path, tmp_path / "app")
    names = [path.name for path in sorted((tmp_path / "app/packages").iterdir())]
    assert names == NAMES
    wheelhouse = small.directory / "wheelhouse"
    for name in names:
        assert (tmp_path / "app/packages" / name).read_bytes() == (wheelhouse / name).read_bytes()
    frames = {
        item.manifest.layer: {
            placed.frame.sha256
            for placed in item.manifest.frames
            if placed.frame.kind is FrameKind.WHEEL
        }
        for item in (base, app)
    }
    assert len(frames["base"]) == 1
    assert len(frames["app"]) == 2
    assert frames["base"] < frames["app"], "the frame of lib is the same in both"


def test_wheels_are_fetched_for_packages_if_their_frames_are_cached(small: SmallStack) -> None:
    small.publish()
    wheel = small.directory / "wheelhouse" / NAMES[0]
    data = bytearray(wheel.read_bytes())
    data[10] ^= 1
    wheel.write_bytes(data)
    small.more = PACKAGES
    small.spec.write_text(small.spec.read_text() + PACKAGES)
    (failure,) = small.publish_locked().failures
    assert failure.layer == "app"
    assert "a wheel in the wheelhouse is damaged" in str(failure.error)


def test_packages_make_a_new_version_of_a_versioned_layer(small: SmallStack) -> None:
    small.more_app = "versioned = true"
    small.lock()
    small.spec.write_text(small.spec.read_text() + PACKAGES)
    report = Project.load(small.spec).check_locks(["app"], ["linux-x64"])
    assert [stale.layer for stale in report.stale] == ["app"]
    small.more = PACKAGES
    before = own_of_app(small)
    small.wheel("base", "lib", "1.1", {"lib.py": ""})
    assert own_of_app(small) != before, "the wheels of lower layers count too"


def own_of_app(small: SmallStack) -> str | None:
    lock = Locks(small.lock(), small.workspace).get("app", Platform.LINUX_X64)
    assert lock
    return lock.own
