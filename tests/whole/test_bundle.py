"""A bundle on a machine with busybox, the C library, and nothing else."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from packaging.version import Version

from stackbuild.workspace import CACHE_VARIABLE
from tests.support.emptyroot import EmptyRoot
from tests.support.interpreters import packable
from tests.support.roots import succeed
from tests.support.smallstack import SmallStack


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the root directory is one of Linux")
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
