"""`stackbuild publish` and `build` with a real interpreter, as a user runs them."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from stackbuild import strictjson
from stackbuild.compose.export_directory import ExportDirectory
from stackbuild.compose.serialize import canonical_json
from stackbuild.compose.venvstacks_metadata import module_hash, write_metadata
from stackbuild.lock.files import lock_path, read_lock
from stackbuild.messages import Silent
from stackbuild.platforms import Platform, host_platform
from stackbuild.spec.reader import load_stack
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


class Recorded(Silent):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.mark.parametrize("part", ["text", {}, {"layer_name": "../../../x"}, {"layer_name": ["a"]}])
def test_damaged_metadata_of_venvstacks(tmp_path: Path, part: object) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache", more_base="versioned = true")
    small.publish(("base", "app"))
    stack, exports = load_stack(small.spec), ExportDirectory(small.exports)
    (path,) = (small.exports / "linux-x64").glob("app-*.json")
    manifest = json.loads(path.read_bytes())
    manifest["provenance"]["layer"] = part
    path.write_bytes(canonical_json(manifest))
    before = sorted(small.exports.rglob("*"))
    messages = Recorded()
    write_metadata(exports, stack, [Platform.LINUX_X64], messages)
    unpublished = "the metadata for linux-x64 lacks cpython, which is not published: publish it"
    assert messages.warnings == [
        "the metadata for linux-x64 lacks app: publish it again",
        unpublished,
    ]
    metadata = small.exports / "linux-x64" / "__venvstacks__"
    base = metadata / "env_metadata" / "framework-base.json"
    added = {metadata, base.parent, base, metadata / "venvstacks.json"}
    assert set(small.exports.rglob("*")) - set(before) == added
    # The remedy of the warning works.
    small.publish_locked(("base", "app"))
    good = json.loads(base.read_bytes())
    bad: list[object] = [{"archive_build": one} for one in (True, strictjson.MAX_INTEGER)]
    for damaged in (*bad, [], {**good, "archive_build": 0}):
        base.write_text(json.dumps(damaged))
        messages = Recorded()
        write_metadata(exports, stack, [Platform.LINUX_X64], messages)
        assert messages.warnings == [unpublished]
        assert json.loads(base.read_bytes()) == good
    assert (good["archive_build"], good["lock_version"], good["install_target"]) == (1, 3, "base@3")
    other = replace(stack, layers={"app": stack.layers["app"]})
    messages = Recorded()
    write_metadata(exports, other, [Platform.LINUX_X64], messages)
    assert messages.warnings == [
        f"the metadata for linux-x64 lacks {name}, which is not in the stack: publish app again"
        for name in ("base", "cpython")
    ]


def test_the_metadata_of_an_application_that_was_not_published_again(tmp_path: Path) -> None:
    """Its lower layers are those that its manifest names, unless another application is newer."""
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    small.more_app = '[[applications]]\nname = "other"\nframeworks = ["base"]\nrequirements = []'
    small.publish(("base", "app"))
    (older,) = (small.exports / "linux-x64").glob("base-*.tar.zst")
    small.wheel("base", "lib", "2.0", {"lib/__init__.py": ""})

    def described() -> tuple[dict[str, str], list[str]]:
        messages = Recorded()
        exports, stack = ExportDirectory(small.exports), load_stack(small.spec)
        write_metadata(exports, stack, [Platform.LINUX_X64], messages)
        path = small.exports / "linux-x64" / "__venvstacks__" / "venvstacks.json"
        layers = json.loads(path.read_bytes())["layers"]
        found = {one["layer_name"]: one["archive_name"] for part in layers.values() for one in part}
        return found, [text for text in messages.warnings if "cpython" not in text]

    small.publish(("base",))
    found, warnings = described()
    assert set(found) == {"framework-base", "app-app"}
    assert found["framework-base"] == older.name
    assert warnings == [
        "the metadata for linux-x64 has an older base, which app needs: publish app again, after"
        " `stackbuild lock` if locks are stale"
    ]
    small.publish(("other",))
    found, warnings = described()
    assert set(found) == {"framework-base", "app-other"}
    assert found["framework-base"] != older.name
    assert warnings == [
        "the metadata for linux-x64 lacks app, which needs older layers below it: publish it again"
    ]
    # As both warnings say.
    small.publish(("app",))
    found, warnings = described()
    assert (set(found), warnings) == ({"framework-base", "app-app", "app-other"}, [])
    # Only the index of another directory names the version that it needs.
    small.wheel("base", "lib", "3.0", {"lib/__init__.py": ""})
    small.publish(("app", "other"))
    found, warnings = described()
    assert set(found) == {"app-app", "app-other"}
    assert warnings == [
        "the metadata for linux-x64 lacks base in the version that other needs: publish other"
    ]


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
