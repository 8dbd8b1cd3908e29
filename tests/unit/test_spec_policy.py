"""Merging shared settings into a layer's, and the policy that comes out."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name
from packaging.version import Version
from tools import policy_reference

from stackbuild.lock.inputs import inputs_of
from stackbuild.lock.model import VcsSource
from stackbuild.lock.targets import target_of
from stackbuild.platforms import Platform
from stackbuild.resolve.build_orders import recipe
from stackbuild.spec.model import BuildSettings, BuildWheel, Policy, Setting, SourcePolicy
from stackbuild.spec.policy import SPECIFIC, merge
from stackbuild.spec.policy_fields import BY_KEY, POLICY_FIELDS
from stackbuild.spec.settings import Either, Field, Kind, Leaf, Named
from stackbuild.variables import Variable, applied
from tests.support.specs import ALL, read_spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackbuild.spec.model import Settings

TORCH, NUMPY = canonicalize_name("torch"), canonicalize_name("numpy")

VALUES = st.builds(Setting, st.integers(0, 3) | st.text("ab", max_size=2), st.sampled_from("xyz"))
LISTS = st.lists(VALUES, max_size=3, unique_by=lambda item: repr(item.value)).map(tuple)
SETTINGS: st.SearchStrategy[Any] = st.recursive(
    st.dictionaries(st.sampled_from(["value", "other"]), VALUES, max_size=2),
    lambda inner: st.fixed_dictionaries(
        {}, optional={"value": VALUES, "list": LISTS, "table": inner, "more": inner}
    ),
    max_leaves=6,
)


@given(SETTINGS)
def test_merging_with_nothing_or_itself_changes_nothing(settings: Settings) -> None:
    assert merge(settings, {}) == settings
    assert merge({}, settings) == settings
    assert merge(settings, settings) == settings


@given(SETTINGS, SETTINGS, SETTINGS)
def test_merging_is_associative(one: Settings, two: Settings, three: Settings) -> None:
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@given(SETTINGS, SETTINGS)
def test_the_layer_wins_and_lists_are_joined(shared: Settings, own: Settings) -> None:
    merged = merge(shared, own)
    assert set(merged) == {*shared, *own}
    if "value" in own:
        assert merged["value"] == own["value"]
    joined: Any = merged.get("list", ())
    values = [item.value for item in joined]
    given_values = [item.value for part in (shared, own) for item in _list(part)]
    assert all(values.count(value) == 1 for value in values)
    assert [*dict.fromkeys(map(repr, given_values))] == [repr(value) for value in values]


def _list(settings: Settings) -> Any:
    return settings.get("list", ())


LINUX = Platform.LINUX_X64

EXAMPLES = {
    "skip": "skip.a.linux-x64 = 'reason'",
    "exclude": "exclude.a.linux-x64 = 'reason'",
    "force-source": "force-source.a.linux-x64 = 'reason'",
    "build-wheel": "build-wheel.a.linux-x64.reason = 'reason'",
    "no-deps": "no-deps = ['a']",
    "overrides": "overrides.a = '1'",
    "dependencies": "platform-specific.linux-x64.dependencies = ['a']",
    "resolution": "resolution.strict-missing = false",
    "registries": "registries.additional = ['ours']",
    "build": "build.timeout = 1",
    "allow-import-errors": "allow-import-errors.a.b = 'text'",
    "environment": "environment.A = 'b'",
    "packages": "packages = true",
    "exclude-files": "exclude-files = ['*.a']",
    "copy-files": "copy-files = [{ from = 'file', to = '.' }]",
}
"""Something for each field."""

POLICY = """
[tool.stackbuild.shared]
skip.Torch = { linux-x64 = "shared", macosx_arm64 = "mac" }
force-source.numpy.linux-x64 = "f"
no-deps = ["a"]
overrides = { torch = "2.7.0", numpy = ">=2,<3" }
resolution = { strict-missing = false, allow-source-list = ["a"], only-binary-list = ["b"] }
build.timeout = 60
environment = { MODE = "shared", PATH.prepend = ["a"], OFF = "" }
allow-import-errors."x-*"."x.y" = "driver"
[tool.stackbuild.layers.app]
skip.torch.linux-x64 = "own"
no-deps = ["B", "A"]
overrides.torch = "2.8"
resolution = { strict-missing = true, allow-source-list = ["c", "a"] }
build = { logging = true, parallel-downloads = false }
environment = { MODE = "{layer}/{{x}}", PATH = { prepend = ["b"], append = ["c"] } }
[tool.stackbuild.layers.app.build-wheel.numpy.linux-x64]
reason = "none"
build-requires = ["setuptools>=40", "wheel"]
config-settings = { one = "{packageRoot}/x", many = ["a", "b"] }
[tool.stackbuild.layers.app.platform-specific.linux-x64]
dependencies = ["torch==1"]
resolution = { allow-source-all = true, force-no-binary-list = ["d"] }
allow-import-errors."x-*"."x.z" = "other"
environment.MODE = { append = ["d"] }
"""


def test_every_field_arrives_in_the_policy(tmp_path: Path) -> None:
    stack = read_spec(tmp_path, ALL, POLICY)
    build = BuildWheel(
        reason="none",
        build_requires=("setuptools>=40", "wheel"),
        config_settings={"one": "{packageRoot}/x", "many": ("a", "b")},
    )
    a, b, c, d = map(canonicalize_name, "abcd")
    app = stack.layers["app"]
    policy = app.policy(Platform.LINUX_X64)
    assert policy == Policy(
        skip={TORCH: "own"},
        force_source={NUMPY: "f"},
        build_wheel={NUMPY: build},
        no_deps=(a, b),
        overrides={TORCH: "==2.8", NUMPY: policy.overrides[NUMPY]},
        resolution=SourcePolicy(
            allow_source_all=True,
            allow_source_list=(a, c),
            force_no_binary_list=(d,),
            only_binary_list=(b,),
        ),
        dependencies=policy.dependencies,
        build=BuildSettings(logging=True, parallel_downloads=False, timeout=60),
        allow_import_errors={"x-*": {"x.y": "driver", "x.z": "other"}},
        environment={
            "MODE": Variable(append=("d",)),
            "PATH": Variable(prepend=("a", "b"), append=("c",)),
            "OFF": Variable(value=""),
        },
    )
    assert sorted(policy.overrides[NUMPY].split(",")) == ["<3", ">=2"]
    assert [str(item) for item in app.requirements_on(Platform.LINUX_X64)] == ["torch==1"]
    mac = app.policy(Platform.MACOSX_AARCH64)
    assert mac.skip == {TORCH: "mac"}
    assert mac.environment["MODE"] == Variable(value="{layer}/{{x}}")
    assert (mac.build_wheel, mac.dependencies, mac.force_source) == ({}, (), {})
    base = stack.layers["base"].policy(Platform.LINUX_X64)
    assert base.skip == {TORCH: "shared"}
    assert not base.resolution.strict_missing


def test_without_settings_the_policy_is_the_default(tmp_path: Path) -> None:
    layer = read_spec(tmp_path, ALL).layers["app"]
    assert layer.policies == {}
    assert layer.policy(Platform.LINUX_X64) == Policy()


def test_who_may_be_built() -> None:
    a, b, c = map(canonicalize_name, "abc")
    policy = Policy(
        force_source={a: "reason"},
        resolution=SourcePolicy(allow_source_all=True, only_binary_list=(a, b)),
    )
    assert [policy.may_build(name) for name in (a, b, c)] == [True, False, True]
    assert policy.from_source == (a,)
    assert not Policy().may_build(a)


def test_the_inputs_of_a_lock_are_those_of_earlier_versions(tmp_path: Path) -> None:
    # Otherwise all locks of users become stale.
    stack = read_spec(tmp_path, ALL, POLICY.replace("{packageRoot}/x", "x"))
    inputs = [
        inputs_of(stack, stack.layers[name], LINUX, [], None).digest for name in ("app", "base")
    ]
    assert inputs == [
        "0a2df0b60713f04ac392632e26736303bca25f4bee7c5c574b23dfb9db47e6cd",
        "76f22d1343b94a0ffad10c4699979fa112bf40d3de51877b0958647d9e12f163",
    ]


@pytest.mark.parametrize("field", POLICY_FIELDS, ids=lambda field: field.key)
def test_a_field_changes_the_inputs_of_a_lock_as_declared(tmp_path: Path, field: Field) -> None:
    text = EXAMPLES[field.key]
    (tmp_path / "overlays/app").mkdir(parents=True)
    (tmp_path / "overlays/app/file").touch()
    index = '[[tool.uv.index]]\nname = "ours"\nurl = "https://example.org/simple"\n'
    spec = ALL.replace('["base"]', '["base"]\npackage_indexes = { a = "ours" }') + index
    digests = set()
    for own in ("", text):
        stack = read_spec(tmp_path, spec, f"[tool.stackbuild.layers.app]\n{own}")
        digests.add(inputs_of(stack, stack.layers["app"], LINUX, [], None).digest)
    in_inputs = field.changes in ("policy", "requirements", "indexes")
    assert (len(digests) == 2) == in_inputs


def test_variables_of_builds_belong_to_recipes_and_inputs(tmp_path: Path) -> None:
    shared = """
[tool.stackbuild.shared.build]
environment = { CUDA_HOME = "/usr/local/cuda", PATH.prepend = ["/usr/local/cuda/bin"] }
"""
    own = """
[tool.stackbuild.layers.app.platform-specific.linux-x64.build]
timeout = 9
environment = { CUDA_HOME = "/opt/{{cuda}}", PATH.prepend = ["/opt/cuda/bin"] }
"""
    seen: list[tuple[str, str, BuildSettings, BuildSettings]] = []
    for text in ("", shared, shared + own, shared + "timeout = 9"):
        stack = read_spec(tmp_path, ALL, text)
        app = stack.layers["app"]
        target = target_of(app, LINUX, Version("3.12.10"))
        made = recipe(app, target, TORCH, VcsSource(url="u", commit="0" * 40), tmp_path)
        policies = [app.policy(one).build for one in (LINUX, Platform.MACOSX_AARCH64)]
        seen.append((inputs_of(stack, app, LINUX, [], None).digest, made, policies[0], policies[1]))
    _, (_, _, build, _), (_, _, linux, mac), _ = seen
    assert build == mac
    cuda = Variable(prepend=("/usr/local/cuda/bin",))
    assert build.environment == {"CUDA_HOME": Variable(value="/usr/local/cuda"), "PATH": cuda}
    assert (linux.timeout, applied(linux.environment, {"PATH": "/bin"})) == (
        9,
        {
            "CUDA_HOME": "/opt/{cuda}",
            "PATH": os.pathsep.join(("/usr/local/cuda/bin", "/opt/cuda/bin", "/bin")),
        },
    )
    for plain, common, changed, limited in zip(*(one[:2] for one in seen), strict=True):
        assert len({plain, common, changed}) == 3
        assert limited == common


def test_files_are_left_out_of_all_distributions_or_of_one(tmp_path: Path) -> None:
    text = """
[tool.stackbuild.shared]
exclude-files = ["@tests", "*.a"]
[tool.stackbuild.layers.app]
exclude-files = { Numba = ["numba/cuda/**"], "*" = ["*.a", "*.pyi"] }
[tool.stackbuild.layers.app.platform-specific.linux-x64]
exclude-files.numba = ["*.dll"]
"""
    stack = read_spec(tmp_path, ALL, text)
    policy = stack.layers["app"].policy(LINUX)
    everywhere = ("@tests", "*.a", "*.pyi")
    assert policy.excluded_from("numba") == (*everywhere, "numba/cuda/**", "*.dll")
    assert policy.excluded_from("other") == everywhere
    mac = stack.layers["app"].policy(Platform.MACOSX_AARCH64)
    assert mac.excluded_from("numba") == (*everywhere, "numba/cuda/**")
    assert stack.layers["base"].policy(LINUX).excluded_from("x") == ("@tests", "*.a")


def test_every_field_of_a_policy_is_declared() -> None:
    declared = {field.attribute for field in POLICY_FIELDS}
    assert {field.name for field in fields(Policy)} <= declared


def test_arrays_are_joined_and_other_values_replaced(tmp_path: Path) -> None:
    settings = dict(read_spec(tmp_path, ALL, POLICY).layers["app"].settings)
    specific: Any = settings.pop(SPECIFIC)
    leaves = [*_leaves(settings), *_leaves(specific[LINUX])]
    assert len(leaves) > 20
    for leaf, node in leaves:
        # A value for a build backend is of either kind.
        either = "anyOf" in leaf.schema
        assert either or leaf.merging == ("joined" if isinstance(node, tuple) else "replaced")


def _leaves(settings: Any) -> Iterator[tuple[Leaf, object]]:
    for key, node in settings.items():
        yield from _leaves_of(BY_KEY[key].kind, node)


def _leaves_of(kind: Kind, node: Any) -> Iterator[tuple[Leaf, object]]:
    if isinstance(kind, Leaf):
        yield kind, node
    elif isinstance(kind, Either):
        yield from _leaves_of(kind.leaf if isinstance(node, Setting) else kind.table, node)
    elif isinstance(kind, Named):
        for below in node.values():
            yield from _leaves_of(kind.of, below)
    else:
        for field in kind.fields:
            if field.key in node:
                yield from _leaves_of(field.kind, node[field.key])


def test_the_documentation_says_what_is_declared() -> None:
    page = policy_reference.PAGE.read_text(encoding="utf-8")
    assert policy_reference.page(page) == page, "run `make reference`"
    assert policy_reference.SCHEMA.read_text(encoding="utf-8") == policy_reference.schema_text()
