"""Wheels for pip: `stackbuild wheelhouse`, and layers with `packages`."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stackbuild.api import Project
from stackbuild.frames.model import FrameKind
from stackbuild.lock.current import Locks
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


def test_wheels_follow_the_locks(small: SmallStack, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    export(small, packages)
    small.wheel("app", "tool", "3.0", {"tool.py": ""})
    small.lock()
    assert export(small, packages) == [NAMES[0], "tool-3.0-py3-none-any.whl"]
    assert export(small, packages, "base") == NAMES[:1]
    assert (small.directory / "wheelhouse" / NAMES[1]).exists(), "only the links are removed"


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
