"""linux-aarch64, composed here and on Debian for arm64, and run there with QEMU."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from stackbuild.platforms import Platform, host_platform
from tests.support.arm64 import MINOR, Arm64, bring_arm64, pip
from tests.support.roots import stackbuild
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.index]

ARM = Platform.LINUX_AARCH64


@pytest.fixture(scope="module")
def arm64(tmp_path_factory: pytest.TempPathFactory) -> Arm64:
    if host_platform() == ARM:
        pytest.skip("this machine runs these layers")
    return bring_arm64(tmp_path_factory.mktemp("arm64"))


@pytest.fixture(scope="module")
def stack(arm64: Arm64) -> SmallStack:
    """A stack on Debian's CPython, packed there, with a native module of the package index."""
    program = f"/usr/bin/python{MINOR}"
    words = ("-m", "stackbuild", "runtime", "pack", program, "--to", arm64.shared / "mirror")
    packed = arm64.start(program, *words)
    (download,) = re.findall(r"^linux-aarch64 = (\{.*\})$", packed.stdout, re.MULTILINE)
    version = re.search(r"cpython-([\d.]+)", download)
    assert version is not None
    small = SmallStack(
        arm64.shared / "project",
        arm64.shared / "cache-here",
        python=version[1],
        more=f"downloads.{ARM} = {download}\n",
        platforms=(str(ARM),),
    )
    pip("download", "--no-deps", "--dest", small.directory / "wheelhouse", "markupsafe==3.0.3")
    (wheel,) = (small.directory / "wheelhouse").glob("markupsafe-*.whl")
    small.wheels["base"].append(wheel)
    small.publish(["cpython", "base", "app"], ARM)
    return small


def archives(directory: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in (directory / ARM).iterdir()
        if not path.name.endswith(".json")
    }


def test_archives_are_those_that_arm64_makes(arm64: Arm64, stack: SmallStack) -> None:
    there = arm64.shared / "exports-arm64"
    arm64.stackbuild("publish", "--spec", stack.spec, "--to", there)
    assert len(archives(there)) == 3
    assert archives(there) == archives(stack.exports)


def test_layers_composed_here_run_there(arm64: Arm64, stack: SmallStack) -> None:
    root = arm64.shared / "root"
    arm64.stackbuild("install", "app", "--from", stack.exports, "--root", root)
    # Without imports on this machine, with them there.
    words = ("--root", root, "--spec", stack.spec, "--json")
    done = stackbuild("verify", "--platform", ARM, *words)
    assert json.loads(done.stdout)["findings"] == []
    found = json.loads(arm64.stackbuild("verify", *words))
    assert (found["findings"], found["counts"]["modules"]) == ([], 1)
    moved = root.rename(arm64.shared / "déjà déplacé")
    code = "import markupsafe._speedups, platform, sys; print(platform.machine(), sys.prefix)"
    # proot starts programs by their paths without links.
    prefix = moved / "generations" / "1" / "app"
    assert arm64.run(moved / "app/bin/python", "-c", code) == f"aarch64 {prefix}\n"
    assert arm64.run(moved / "app/bin/lib-tool").startswith(f"lib {moved}/")
