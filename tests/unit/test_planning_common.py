"""What a framework takes over from the applications on it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.lock.model import LockedDistribution, LockedFile
from stackbuild.planning.common import common_fields, common_settings
from stackbuild.planning.held import Held
from stackbuild.platforms import Platform
from stackbuild.spec.reader import read_stack

if TYPE_CHECKING:
    from stackbuild.spec.model import Stack

LINUX = Platform.LINUX_X64

SPEC = """\
[[runtimes]]
name = "rt"
python_implementation = "cpython@3.12.10"
requirements = []

[[applications]]
name = "a"
runtime = "rt"
requirements = ["torch"]
{a}

[[applications]]
name = "b"
runtime = "rt"
requirements = ["torch"]
{b}

[[tool.uv.index]]
name = "first"
url = "https://first.example/simple"
{tool}
"""


def stack(*, a: str = "", b: str = "", tool: str = "") -> Stack:
    """Two applications on one runtime."""
    text = SPEC.format(a=a, b=b, tool=tool)
    return read_stack(tomllib.loads(text), Path("/nowhere/venvstacks.toml"))


def locked(name: str, *, index: str | None = None, source: bool = False) -> LockedDistribution:
    file = LockedFile(name=f"{name}-1-py3-none-any.whl", size=1, sha256="0" * 64)
    return LockedDistribution(
        name=canonicalize_name(name),
        version=Version("1"),
        wheel=file,
        source=file if source else None,
        index=index,
    )


def held(*items: LockedDistribution, **more: Any) -> Held:
    nothing = {item.name: frozenset[Any]() for item in items}
    values: dict[str, Any] = {"own": frozenset(nothing), "needs": nothing, "lacks": nothing}
    values |= {"left_out": {}, "bare": frozenset(), **more}
    return Held(distributions={item.name: item for item in items}, **values)


def taken_over(
    found: Stack, shared: LockedDistribution, **more: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields and settings of a framework that holds `shared`."""
    layers = [found.layers["a"], found.layers["b"]]
    contents = {LINUX: {shared.name: shared}}
    members = {layer.name: {LINUX: held(shared, **more)} for layer in layers}
    fields = common_fields(found, layers, contents)
    return fields, common_settings(layers, fields, contents, members)


BOUND = 'package_indexes = { torch = "first" }'
FIRST = 'priority_indexes = ["first"]'


@pytest.mark.parametrize(
    ("a", "b", "tool", "index", "fields"),
    [
        ("", "", "", "first", {}),
        (BOUND, BOUND, "explicit = true", "first", {"package_indexes": {"torch": "first"}}),
        # One of them may find it in the index without naming it.
        (BOUND, "", "", "first", {"package_indexes": {"torch": "first"}}),
        (FIRST, "", "", "first", {"package_indexes": {"torch": "first"}}),
        (FIRST, "", "", None, {}),
        (FIRST, FIRST, "", None, {"priority_indexes": ["first"]}),
        # What the file says of all layers holds for a framework as well.
        ("", "", '[tool.uv.sources]\ntorch = { index = "first" }', "first", {}),
    ],
)
def test_the_index_of_a_distribution_is_taken_over(
    a: str, b: str, tool: str, index: str | None, fields: dict[str, Any]
) -> None:
    assert taken_over(stack(a=a, b=b, tool=tool), locked("torch", index=index))[0] == fields


@pytest.mark.parametrize(
    ("a", "b", "fields"),
    [
        ('linux_target = "glibc@2.34"', 'linux_target = "glibc@2.31"', "glibc@2.31"),
        ('linux_target = "glibc@2.34"', "", None),
        ('linux_target = "glibc@2.17"', "", "glibc@2.17"),
    ],
)
def test_the_lowest_target_is_taken_over(a: str, b: str, fields: str | None) -> None:
    found = taken_over(stack(a=a, b=b), locked("torch"))[0]
    assert found == ({"linux_target": fields} if fields else {})


TABLE = '[tool.stackbuild.{place}]\nno-deps = ["torch"]\noverrides = {{torch = "1"}}\n'


def test_settings_of_both_are_taken_over_and_shared_ones_are_not_repeated() -> None:
    torch = locked("torch")
    bare = frozenset({torch.name})
    own = TABLE.format(place="layers.a") + TABLE.format(place="layers.b")
    _, settings = taken_over(stack(tool=own), torch, bare=bare)
    assert settings == {"no-deps": ["torch"], "overrides": {"torch": "1"}}
    _, settings = taken_over(stack(tool=TABLE.format(place="shared")), torch, bare=bare)
    assert settings == {}
    _, settings = taken_over(stack(tool=TABLE.format(place="layers.a")), torch)
    assert settings == {}


def test_a_registry_is_taken_over_for_what_comes_from_it() -> None:
    table = '\n[tool.stackbuild.layers.{}.registries]\nadditional = ["first"]\n'
    tool = table.format("a") + table.format("b")
    found = stack(a=BOUND, b=BOUND, tool=tool)
    assert taken_over(found, locked("torch"))[1] == {"registries": {"additional": ["first"]}}
    assert taken_over(found, locked("numpy"))[1] == {}


def test_what_is_left_out_on_purpose_stays_out() -> None:
    torch, triton = locked("torch"), canonicalize_name("triton")
    lacks = {torch.name: frozenset({triton})}
    more = {"lacks": lacks, "left_out": {triton: "too large"}}
    _, settings = taken_over(stack(), torch, **more)
    assert settings == {"exclude": {"triton": {"linux-x64": "too large"}}}
    skip = '[tool.stackbuild.shared.exclude]\ntriton = {linux-x64 = "too large"}\n'
    assert taken_over(stack(tool=skip), torch, **more)[1] == {}


def test_only_the_same_file_is_shared() -> None:
    plain, built = locked("torch"), locked("torch", source=True)
    name = plain.name
    assert held(plain).key(name, "a") == held(plain).key(name, "b")
    # How a wheel is built depends on the settings of its layer.
    assert held(built).key(name, "a") != held(built).key(name, "b")
    assert held(plain).key(name, "a") != held(plain, bare=frozenset({name})).key(name, "a")


def test_what_only_one_application_can_have() -> None:
    """A source build depends on its layer, and an address stands in its requirements."""
    item, built = locked("ours"), locked("ours", source=True)
    assert held(item).key(item.name, "a") == held(item).key(item.name, "b")
    for one in (held(item, given=frozenset([item.name])), held(built)):
        assert one.key(item.name, "a") != one.key(item.name, "b")
