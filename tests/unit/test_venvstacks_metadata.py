"""The metadata that venvstacks publishes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild import strictjson
from stackbuild.compose.export_directory import ExportDirectory
from stackbuild.compose.layer_inputs import LayerTarget, LowerLayer, Parts
from stackbuild.compose.serialize import canonical_json
from stackbuild.compose.venvstacks_metadata import (
    has_metadata,
    layer_metadata,
    module_hash,
    write_metadata,
)
from stackbuild.files import sha256_file
from stackbuild.frames.cache import FrameCache
from stackbuild.layout import layout_for
from stackbuild.lock.current import Locks
from stackbuild.messages import Silent
from stackbuild.platforms import Platform
from stackbuild.spec.reader import load_stack
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from pathlib import Path


def test_modules_are_hashed_as_venvstacks_does() -> None:
    """The hashes were made with venvstacks 0.8, of these files."""
    contents = {
        "mod.py": b"print(1)\n",
        "pkg/__init__.py": b"a = 1\n",
        "pkg/__main__.py": b"m\n",
        "pkg/another/z.txt": b"z",
        "pkg/sub/b.py": b"b = 2\n",
        "pkg/sub/deep/__init__.py": b"",
    }
    file = "sha256:451b75e1c120616aed2ed109ef081af2b9cede3f60c62a094180a1f6b4b94a8f"
    package = "sha256/015ad3fd579c0e4b7caaf4b91cbbaaf6d070bdebcb22ec852a9d72cba319e197"
    assert module_hash("mod.py", contents) == file
    assert module_hash("pkg", contents) == package
    assert module_hash("pk", contents) == ""


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


def test_an_older_layer_that_two_applications_need(tmp_path: Path) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    small.more_app = '[[applications]]\nname = "other"\nframeworks = ["base"]\nrequirements = []'
    small.publish(("base", "app", "other"))
    small.wheel("base", "lib", "2.0", {"lib/__init__.py": ""})
    small.publish(("base",))
    messages = Recorded()
    exports, stack = ExportDirectory(small.exports), load_stack(small.spec)
    write_metadata(exports, stack, [Platform.LINUX_X64], messages)
    assert messages.warnings[-1] == (
        "the metadata for linux-x64 has an older base, which app, other need: publish app, other"
        " again, after `stackbuild lock` if locks are stale"
    )


def parts(small: SmallStack, name: str, *lower: str) -> Parts:
    """The parts of a layer without files."""
    stack, locks = load_stack(small.spec), Locks(load_stack(small.spec), small.workspace)

    def target(name: str) -> LayerTarget:
        lock = locks.get(name, Platform.LINUX_X64)
        assert lock
        layout = layout_for(Platform.LINUX_X64, lock.python_version)
        return LayerTarget(stack.layers[name], Platform.LINUX_X64, layout, lock, f"{name}@dir")

    fields: dict[str, Any] = dict.fromkeys(Parts._fields)
    fields["target"] = target(name)
    fields["lower"] = tuple(LowerLayer(target(one), ()) for one in lower)
    return Parts(**fields)


def test_the_metadata_of_each_kind_of_layer(tmp_path: Path) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache", more_base="versioned = true")
    small.lock()
    cache = FrameCache(small.workspace.frames)
    for name, lower, kind in (
        ("cpython", [], {"layer_name": "cpython", "bound_to_implementation": True}),
        ("base", ["cpython"], {"layer_name": "framework-base", "required_layers": []}),
        ("app", ["base", "cpython"], {"layer_name": "app-app", "required_layers": ["base@dir"]}),
    ):
        made = parts(small, name, *lower)
        assert layer_metadata(made, cache) == {
            "install_target": f"{name}@dir",
            "requirements_hash": f"sha256:{made.target.lock.digest}",
            "lock_version": 3 if name == "base" else 1,
            "locked_at": made.target.lock.locked_at,
            "runtime_layer": "cpython@dir",
            "python_implementation": "cpython@3.12.10",
            "bound_to_implementation": False,
            **kind,
        }


def test_the_metadata_of_modules(tmp_path: Path) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    small.more_app = (
        '[[applications]]\nname = "plain"\nframeworks = ["base"]\nrequirements = []\n'
        'support_modules = ["launch/app.py"]\n'
    )
    small.publish(("base", "app", "plain"))
    write_metadata(
        ExportDirectory(small.exports), load_stack(small.spec), [Platform.LINUX_X64], Silent()
    )
    metadata = small.exports / "linux-x64/__venvstacks__"
    index = json.loads((metadata / "venvstacks.json").read_bytes())
    (base,) = index["layers"]["frameworks"]
    app, plain = index["layers"]["applications"]
    assert index["layers"]["runtimes"] == []
    assert json.loads((metadata / "env_metadata/app-app.json").read_bytes()) == app
    launch = module_hash("app.py", {"app.py": (small.directory / "launch/app.py").read_bytes()})
    helping = module_hash("helping", {"helping/__init__.py": b"word = 'helps'\n"})
    modules = ("app_launch_module", "app_launch_module_hash", "app_support_modules")
    assert [app[key] for key in modules] == ["app", launch, [{"name": "helping", "hash": helping}]]
    assert {key: plain[key] for key in modules if key in plain} == {
        "app_support_modules": [{"name": "app", "hash": launch}]
    }
    assert not any(key in base for key in modules)
    archive = small.exports / "linux-x64" / app["archive_name"]
    assert (app["archive_size"], app["archive_hashes"]) == (
        archive.stat().st_size,
        {"sha256": sha256_file(archive)},
    )
    assert (app["archive_build"], app["target_platform"]) == (1, "linux_x86_64")
    # Another archive counts.
    small.write("launch/app.py", "print('changed')\n")
    small.publish_locked(("base", "app", "plain"))
    exports, stack = ExportDirectory(small.exports), load_stack(small.spec)
    assert has_metadata(exports, Platform.LINUX_X64)
    assert not has_metadata(exports, Platform.WINDOWS_X64)
    for _ in range(2):
        write_metadata(exports, stack, [Platform.LINUX_X64], Silent())
        layers = json.loads((metadata / "venvstacks.json").read_bytes())["layers"]
        found = {
            one["layer_name"]: one["archive_build"] for part in layers.values() for one in part
        }
        assert found == {"framework-base": 1, "app-app": 2, "app-plain": 2}
