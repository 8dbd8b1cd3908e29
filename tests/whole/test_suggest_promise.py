"""After `suggest --apply` and `lock`, each application holds what it held before."""

from __future__ import annotations

import random
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.importers.runenv.convert import import_runenv
from stackbuild.messages import Silent
from stackbuild.planning.apply import apply
from stackbuild.planning.suggest import suggest
from stackbuild.resolve.lock_stack import lock_stack
from stackbuild.spec.model import LayerKind
from stackbuild.spec.reader import load_stack
from stackbuild.tomltext import section
from stackbuild.workspace import open_workspace
from tests.support.index import IndexServer
from tests.support.runenv import ALL, PrefixedIndex, wheel, write_json, write_variant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace

_NAMES = ("base==1.0", "base", "num", "frame", "ext[s]", "ext==1.0", "ext[j]", "tool", "job")
_MARKED = ("num==1.0; sys_platform != 'win32'", "base==1.0; sys_platform == 'linux'")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexServer]:
    directory = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        wheel(directory, "base", version, 20_000)
        wheel(directory, "num", version, 50_000, *ALL)
    wheel(directory, "frame", "1.0", 30_000, *ALL, requires=("num", "base"))
    wheel(directory, "sci", "1.0", 40_000, *ALL, requires=("num<2",))
    wheel(directory, "job", "1.0", 8_000)
    extras = ("base", "job; extra == 'j'", "sci; extra == 's'")
    wheel(directory, "ext", "1.0", 9_000, requires=extras)
    wheel(directory, "tool", "1.0", 9_000, requires=("ext[j]",))
    with IndexServer(directory) as server:
        yield server


class Applied:
    """A stack with one application for each variant: locked, then with frameworks."""

    def __init__(self, base: Path, index: IndexServer, variants: Mapping[str, Any]) -> None:
        if not (base / "older").exists():
            write_json(base / "older" / "shared-config.json", {})
        for name, packages in variants.items():
            write_variant(base / "older", f"-{name}", {"packages": packages})
        workspace = open_workspace(base / "stack", cache=base.parent / "cache")
        spec = import_runenv(base / "older", workspace.project, index=index.url).spec
        with spec.open("a") as file:
            # The older project has nothing of the kind.
            for name, packages in variants.items():
                table = f"[tool.stackbuild.layers.{name}.exclude]"
                file.write(section(table, packages.get("exclude", {})))
        stack = load_stack(spec)
        lock_stack(stack, workspace, Silent())
        self.before = _held(stack, workspace)
        self.suggestion = suggest(stack, workspace, Silent())
        self.applied = apply(stack, self.suggestion)
        self.stack = load_stack(spec)
        lock_stack(self.stack, workspace, Silent())
        self.after = _held(self.stack, workspace)
        again = suggest(self.stack, workspace, Silent())
        assert [row.now for row in again.table] == [row.layers for row in self.suggestion.table]
        assert not apply(self.stack, again)


def _held(stack: Stack, workspace: Workspace) -> dict[tuple[str, str], dict[str, str]]:
    """By application and platform: the version of each distribution of the chain."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for layer in stack.layers.values():
        for platform in ALL if layer.kind is LayerKind.APPLICATION else ():
            held = found.setdefault((layer.name, platform), {})
            for member in stack.chain(layer):
                lock = workspace.layers / member.name / f"pylock.{platform}.toml"
                for package in tomllib.loads(lock.read_text()).get("packages", []):
                    assert package["name"] not in held
                    held[package["name"]] = package["version"]
    return found


def entry(*dependencies: str, **left_out: str) -> dict[str, Any]:
    """The packages of a variant that leaves names out on one platform."""
    reasons = {name: {platform.replace("_", "-"): "why"} for name, platform in left_out.items()}
    return {"dependencies": [*dependencies], "exclude": reasons}


@pytest.mark.parametrize(
    "variants",
    [
        pytest.param(
            {
                "a": entry("frame==1.0", "num==2.0", base="linux_x64"),
                "b": entry("frame==1.0", "num==2.0", "base==1.0", base="linux_x64"),
            },
            id="a skip of all, named by one",
        ),
        pytest.param(
            {
                "a": entry("base==1.0", "frame==1.0", "num==2.0", base="linux_x64"),
                "b": entry("base==1.0", "job", "num==2.0", base="linux_x64"),
            },
            id="a skip that the application needs",
        ),
        pytest.param(
            {"a": entry("ext[s]==1.0", "job"), "b": entry("ext==1.0", "job")},
            id="extras of one",
        ),
        pytest.param(
            {"a": entry("num==1.0", "ext[s]"), "b": entry("ext[j]==1.0")},
            id="extras of each",
        ),
        pytest.param(
            dict.fromkeys("ab", entry("num", "num==1.0; sys_platform != 'win32'")),
            id="a pin for some platforms",
        ),
        pytest.param(
            {
                "a": {"dependencies": ["frame==1.0"], "noDeps": ["frame"]},
                "b": entry("frame==1.0"),
            },
            id="without dependencies in one",
        ),
    ],
)
def test_an_application_holds_what_it_held(
    tmp_path: Path, index: IndexServer, variants: dict[str, Any]
) -> None:
    found = Applied(tmp_path, index, variants)
    assert found.after == found.before


@pytest.mark.parametrize("seed", range(4))
def test_any_applications_hold_what_they_held(
    tmp_path: Path, index: IndexServer, seed: int
) -> None:
    source = random.Random(seed)

    def packages() -> dict[str, Any]:
        names = [*source.sample(_NAMES, 3), source.choice(_MARKED)]
        skips = {name: source.choice(ALL) for name in source.sample(["base", "num", "job"], 1)}
        return entry(*names, **skips)

    found = Applied(tmp_path, index, {name: packages() for name in "abc"})
    assert found.after == found.before


def test_what_ignores_requirements_is_shared_as_such(tmp_path: Path, index: IndexServer) -> None:
    bare = {"dependencies": ["frame==1.0"], "noDeps": ["frame"]}
    found = Applied(tmp_path, index, {"a": bare, "b": bare})
    assert found.after == found.before
    (framework,) = found.suggestion.frameworks
    assert framework.settings == {"no-deps": ["frame"]}
    assert all(list(held) == ["frame"] for held in framework.held.values())


def test_an_override_of_all_applications_holds_in_their_framework(
    tmp_path: Path, index: IndexServer
) -> None:
    # sci requires num<2.
    packages = {"dependencies": ["sci==1.0", "num==1.0"], "overrides": {"num": "2.0"}}
    found = Applied(tmp_path, index, {"a": packages, "b": {**packages, "noDeps": ["job"]}})
    assert found.after == found.before
    assert found.after["a", "linux-x64"] == {"num": "2.0", "sci": "1.0"}
    (framework,) = found.suggestion.frameworks
    assert framework.settings == {"overrides": {"num": "2.0"}}


def test_a_skip_that_a_framework_needs_is_written_for_it(
    tmp_path: Path, index: IndexServer
) -> None:
    packages = entry("frame==1.0", base="linux_x64")
    found = Applied(tmp_path, index, {"a": packages, "b": packages})
    assert found.after == found.before
    (framework,) = found.suggestion.frameworks
    assert framework.settings == {"exclude": {"base": {"linux-x64": "why"}}}


def test_extras_of_one_stay_with_it(tmp_path: Path, index: IndexServer) -> None:
    found = Applied(tmp_path, index, {"a": entry("ext[j]==1.0"), "b": entry("ext==1.0")})
    assert found.after == found.before
    (framework,) = found.suggestion.frameworks
    assert {name for held in framework.held.values() for name in held} == {"base", "ext"}
    assert found.after["a", "linux-x64"].keys() - found.after["b", "linux-x64"].keys() == {"job"}


def test_what_comes_from_an_additional_index_does_so_in_a_framework(
    tmp_path: Path, index: IndexServer
) -> None:
    """One `lock` after `apply` would fail if the framework did not name the index."""
    special = tmp_path / "special"
    special.mkdir()
    wheel(special, "torch", "2.7.0+cpu", 50_000)
    with PrefixedIndex(special, "/pytorch/whl/cpu") as torch:
        packages = {"dependencies": ["torch==2.7.0+cpu", "base==1.0"]}
        write_json(
            tmp_path / "x" / "older" / "shared-config.json",
            {"registries": {"additional": [torch.url]}},
        )
        found = Applied(tmp_path / "x", index, {"a": packages, "b": packages})
    assert found.after == found.before
    (framework,) = found.suggestion.frameworks
    assert framework.fields["package_indexes"] == {"torch": "pytorch-cpu"}
