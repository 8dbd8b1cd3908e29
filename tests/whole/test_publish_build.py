"""`stackbuild publish` and `build` with a real interpreter, as a user runs them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from packaging.version import Version

from stackbuild.platforms import host_platform
from stackbuild.workspace import CACHE_VARIABLE
from tests.support.handmade import execute
from tests.support.interpreters import packable
from tests.support.roots import stackbuild
from tests.support.smallstack import SmallStack

pytestmark = pytest.mark.skipif(os.name != "posix", reason="layers on Windows are issue 3's")


@pytest.fixture
def real(tmp_path: Path) -> SmallStack:
    """A stack on an interpreter of this machine; its bytecode is tested elsewhere."""
    python = Version(str(packable().version))
    cache = Path(os.environ[CACHE_VARIABLE])
    return SmallStack(tmp_path / "project", cache, python=python.base_version)


def test_a_stack_is_built_changed_and_built_again(real: SmallStack, tmp_path: Path) -> None:
    real.lock()
    words = ["build", "--spec", str(real.spec)]
    first = stackbuild(*words)
    assert first.returncode == 0, first.stderr
    root = real.directory / "build" / host_platform()
    assert execute(root / "app" / "bin" / "python", "-I", "-m", "app") == "app helps"
    # A script of `base`, started from `app`, runs with the interpreter of `app`.
    generation = (root / "app").resolve()
    tool = generation / "bin" / "lib-tool"
    assert execute(tool, PATH="/usr/bin:/bin") == f"lib {generation}"
    again = stackbuild(*words)
    assert "nothing to do" in again.stdout

    real.write("launch/app.py", "print('changed')\n")
    changed = stackbuild(*words, "--layer", "app", "--json")
    assert changed.returncode == 0, changed.stderr
    (report,) = json.loads(changed.stdout)
    assert report["added"] == ["app"]
    assert execute(root / "app" / "bin" / "python", "-m", "app") == "changed"
    kept = real.directory / "build" / ".published" / host_platform()
    assert len(list(kept.glob("app-*.json"))) == 1

    published = stackbuild("publish", "--spec", real.spec, "--platform", "host", "--json")
    assert published.returncode == 0, published.stderr
    layers = {item["layer"]: item for item in json.loads(published.stdout)["layers"]}
    assert list(layers) == ["cpython", "base", "app"]
    assert published.stderr.count("is used instead of") == 1
    manifest = json.loads(
        Path(layers["cpython"]["archive"]).with_suffix("").with_suffix(".json").read_bytes()
    )
    runtime = manifest["provenance"]["runtime"]
    assert runtime["stands_in"] is True
    assert runtime["source"] == "local"
    assert str(Path.home()) not in json.dumps(manifest)
