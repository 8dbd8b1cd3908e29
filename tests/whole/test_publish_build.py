"""`stackbuild publish` and `build` with a real interpreter, as a user runs them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from packaging.version import Version

from stackbuild.compose.serialize import canonical_json
from stackbuild.compose.venvstacks_metadata import module_hash
from stackbuild.lock.files import lock_path, read_lock
from stackbuild.platforms import host_platform
from stackbuild.workspace import CACHE_VARIABLE
from tests.support.handmade import execute
from tests.support.interpreters import packable
from tests.support.roots import stackbuild
from tests.support.smallstack import SmallStack

APP = b"import helping\nprint('app', helping.word)\n"
HELPING = b"word = 'helps'\n"

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
    # `run` uses that root in the project, and the directory itself where it is a root.
    assert stackbuild("run", "app", cwd=real.directory).stdout == "app helps\n"
    assert stackbuild("run", "app", cwd=root).stdout == "app helps\n"
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


def test_the_metadata_of_venvstacks(real: SmallStack, tmp_path: Path) -> None:
    # The interpreter of this machine stands in for another patch version.
    real.python = f"{real.python.rpartition('.')[0]}.99"
    real.lock()
    exports = tmp_path / "exports"
    words = ["publish", "--spec", str(real.spec), "--platform", "host", "--to", str(exports)]
    assert stackbuild(*words).returncode == 0
    directory = exports / host_platform()
    assert not (directory / "__venvstacks__").exists()
    # A manifest of an earlier version has no such part, and is written again.
    (path,) = directory.glob("app-*.json")
    manifest = json.loads(path.read_bytes())
    described = manifest["provenance"].pop("layer")
    path.write_bytes(canonical_json(manifest))
    assert stackbuild(*words, "--venvstacks-metadata").returncode == 0
    assert json.loads(path.read_bytes())["provenance"]["layer"] == described

    metadata = directory / "__venvstacks__"
    layers = json.loads((metadata / "venvstacks.json").read_bytes())["layers"]
    assert {kind: [one["layer_name"] for one in found] for kind, found in layers.items()} == {
        "runtimes": ["cpython"],
        "frameworks": ["framework-base"],
        "applications": ["app-app"],
    }
    (app,) = layers["applications"]
    archive = directory / app["archive_name"]
    lock = read_lock(lock_path(real.workspace, "app", host_platform()))
    assert app == {
        "layer_name": "app-app",
        "install_target": "app",
        "required_layers": ["base"],
        "runtime_layer": "cpython",
        "python_implementation": f"cpython@{real.python}",
        "bound_to_implementation": False,
        "requirements_hash": f"sha256:{lock.digest}",
        "lock_version": 1,
        "locked_at": lock.locked_at,
        "app_launch_module": "app",
        "app_launch_module_hash": module_hash("app.py", {"app.py": APP}),
        "app_support_modules": [
            {"name": "helping", "hash": module_hash("helping", {"helping/__init__.py": HELPING})}
        ],
        "target_platform": host_platform().venvstacks_name,
        "archive_name": archive.name,
        "archive_size": archive.stat().st_size,
        "archive_hashes": {"sha256": hashlib.sha256(archive.read_bytes()).hexdigest()},
        "archive_build": 1,
    }
    assert json.loads((metadata / "env_metadata" / "app-app.json").read_bytes()) == app
    (runtime,), (base,) = layers["runtimes"], layers["frameworks"]
    versions = {one["python_implementation"] for one in (runtime, base, app)}
    assert versions == {f"cpython@{real.python}"}
    assert (runtime["bound_to_implementation"], base["bound_to_implementation"]) == (True, False)
    assert runtime["runtime_layer"] == base["runtime_layer"] == "cpython"

    # Another archive counts; those that are not published now are still described.
    real.write("launch/app.py", "print('changed')\n")
    again = stackbuild(*words, "--layer", "app", "--only")
    assert again.returncode == 0, again.stderr
    layers = json.loads((metadata / "venvstacks.json").read_bytes())["layers"]
    assert [one["archive_build"] for one in layers["applications"]] == [2]
    assert [one["archive_build"] for one in layers["frameworks"]] == [1]
