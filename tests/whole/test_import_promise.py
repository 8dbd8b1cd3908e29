"""Each imported variant, locked, holds what it would hold by itself."""

from __future__ import annotations

import random
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.importers.convert import import_runenv
from stackbuild.messages import Silent
from stackbuild.resolve.lock_stack import lock_stack
from stackbuild.spec.model import LayerKind
from stackbuild.spec.reader import load_stack
from stackbuild.workspace import open_workspace
from tests.support.index import IndexServer
from tests.support.runenv import ALL, wheel, write_json, write_variant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

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


class Locked:
    """The variants as one stack, and each imported by itself."""

    def __init__(self, base: Path, index: IndexServer, variants: Mapping[str, Any]) -> None:
        self.cache = base.parent / "cache"
        self.index = index
        self.held = self._held(base / "all", variants)
        self.frameworks = self.report.frameworks
        self.alone: dict[tuple[str, str], dict[str, str]] = {}
        for name, packages in variants.items():
            self.alone |= self._held(base / name, {name: packages})

    def _held(
        self, base: Path, variants: Mapping[str, Any]
    ) -> dict[tuple[str, str], dict[str, str]]:
        write_json(base / "older" / "shared-config.json", {})
        for name, packages in variants.items():
            write_variant(base / "older", f"-{name}", {"packages": packages})
        workspace = open_workspace(base / "stack", cache=self.cache)
        self.report = import_runenv(base / "older", workspace, Silent(), index=self.index.url)
        stack = load_stack(workspace.project / "venvstacks.toml")
        lock_stack(stack, workspace, Silent())
        found: dict[tuple[str, str], dict[str, str]] = {}
        for name in variants:
            for platform in ALL:
                held = found.setdefault((name, platform), {})
                for layer in stack.chain(stack.layers[name]):
                    if layer.kind is LayerKind.RUNTIME:
                        continue
                    text = (workspace.layers / layer.name / f"pylock.{platform}.toml").read_text()
                    for package in tomllib.loads(text).get("packages", []):
                        assert package["name"] not in held
                        held[package["name"]] = package["version"]
        return found


def entry(*dependencies: str, **skip: str) -> dict[str, Any]:
    """The packages of a variant that leaves names out on one platform."""
    skips = {name: {platform.replace("_", "-"): "why"} for name, platform in skip.items()}
    return {"dependencies": [*dependencies], "skip": skips}


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
def test_a_variant_holds_what_it_holds_by_itself(
    tmp_path: Path, index: IndexServer, variants: dict[str, Any]
) -> None:
    found = Locked(tmp_path, index, variants)
    assert found.held == found.alone


@pytest.mark.parametrize("seed", range(3))
def test_any_variants_hold_what_they_hold_by_themselves(
    tmp_path: Path, index: IndexServer, seed: int
) -> None:
    source = random.Random(seed)

    def packages() -> dict[str, Any]:
        names = [*source.sample(_NAMES, 3), source.choice(_MARKED)]
        skips = {name: source.choice(ALL) for name in source.sample(["base", "num", "job"], 1)}
        return entry(*names, **skips)

    found = Locked(tmp_path, index, {name: packages() for name in "abc"})
    assert found.held == found.alone


def test_without_dependencies_is_the_same_file(tmp_path: Path, index: IndexServer) -> None:
    bare = {"dependencies": ["num==1.0"], "noDeps": ["num"]}
    found = Locked(tmp_path, index, {"a": bare, "b": entry("num==1.0")})
    assert found.held == found.alone
    (framework,) = found.frameworks
    assert framework.distributions == dict.fromkeys(ALL, ("num==1.0",))


def test_extras_of_one_stay_with_it(tmp_path: Path, index: IndexServer) -> None:
    found = Locked(tmp_path, index, {"a": entry("ext[j]==1.0"), "b": entry("ext==1.0")})
    (framework,) = found.frameworks
    assert framework.requirements == ("ext==1.0",)
    assert found.held["a", "linux-x64"].keys() - found.held["b", "linux-x64"].keys() == {"job"}
