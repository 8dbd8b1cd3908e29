"""Bundles and install.sh on a machine with busybox, the C library, and curl at most."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version
from tools.standin import PROJECT

from stackbuild.workspace import CACHE_VARIABLE
from tests.support.emptyroot import EmptyRoot
from tests.support.http import serving
from tests.support.interpreters import packable
from tests.support.roots import succeed
from tests.support.smallstack import SmallStack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the root directory is one of Linux"),
]


def test_with_busybox_only(tmp_path: Path) -> None:
    python = Version(str(packable().version))
    cache = Path(os.environ[CACHE_VARIABLE])
    stack = SmallStack(tmp_path / "project", cache, python=python.base_version)
    stack.lock()
    bundle = tmp_path / "app.run"
    succeed("bundle", "app", "-o", bundle, "--spec", stack.spec)
    empty = EmptyRoot(tmp_path / "empty")
    # The interpreter that was packed needs the C library of its host.
    empty.add_libraries(packable().executable)
    shutil.copy(bundle, empty.directory / "app.run")
    for _ in range(2):
        assert empty.run("/app.run").stdout == "app helps\n"
    assert [path.name for path in (empty.directory / "root/.cache").iterdir()] == [
        "stackbuild-bundles"
    ]
    assert empty.run("/app.run", "--verify").stdout.startswith("sha256 ")
    empty.run("/app.run", "--extract", "/plain")
    assert empty.run("/plain/app/bin/python", "-m", "app").stdout == "app helps\n"
    (empty.directory / "bin" / "sha256sum").unlink()
    done = empty.run("/app.run", "--verify", check=False)
    assert done.returncode == 125
    assert "this machine has no program for sha256" in done.stderr


@pytest.mark.index
def test_install_sh_with_busybox_and_curl(tmp_path: Path) -> None:
    """stackbuild itself is a layer, made of the sources that are committed."""
    curl = shutil.which("curl") or pytest.skip("this needs curl")
    project = tmp_path / "project"
    subprocess.run(["git", "clone", "--quiet", PROJECT, project], check=True)
    spec, exports = project / "bootstrap" / "venvstacks.toml", tmp_path / "exports"
    version = Version(str(packable("3.12").version)).base_version
    text = spec.read_text().replace("cpython@3.12.10", f"cpython@{version}")
    spec.write_text(f'{text}\n[tool.stackbuild.layers."cpython-3.12"]\nsources = ["local"]\n')
    words = ("--spec", spec, "--platform", "host")
    succeed("lock", *words)
    empty = EmptyRoot(tmp_path / "empty")
    empty.add_libraries(packable("3.12").executable)
    for module in packable("3.12").stdlib.glob("lib-dynload/*.so"):
        empty.add_libraries(module)
    empty.add(Path(curl))
    (empty.directory / "bin" / "wget").unlink()
    with serving(directory=exports) as server:
        succeed("publish", *words, "--to", exports, "--bootstrap", server.url)
        piped = f"curl -fsSL {server.url}/install.sh | sh -s -- cpython-3.12 --root /envs"
        done = empty.run("/bin/sh", "-c", piped)
        assert "generation 1" in done.stdout + done.stderr
    assert empty.run("/envs/cpython-3.12/bin/python3.12", "-c", "print(1)").stdout == "1\n"
