"""Merging shared settings into a layer's, and the policy that comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from stackbuild.platforms import Platform
from stackbuild.spec.model import BuildSettings, BuildWheel, Policy, Setting, SourcePolicy
from stackbuild.spec.policy import merge
from tests.support.specs import ALL, read_spec

if TYPE_CHECKING:
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


def test_every_field_arrives_in_the_policy(tmp_path: Path) -> None:
    stack = read_spec(
        tmp_path,
        ALL,
        """
[tool.stackbuild.shared]
skip.Torch = { linux-x64 = "shared", macosx_arm64 = "mac" }
force-source.numpy.linux-x64 = "f"
no-deps = ["a"]
overrides = { torch = "2.7.0", numpy = ">=2,<3" }
resolution = { strict-missing = false, allow-source-list = ["a"], only-binary-list = ["b"] }
build.timeout = 60
allow-import-errors."x-*"."x.y" = "driver"
[tool.stackbuild.layers.app]
skip.torch.linux-x64 = "own"
no-deps = ["B", "A"]
overrides.torch = "2.8"
resolution = { strict-missing = true, allow-source-list = ["c", "a"] }
build = { logging = true, parallel-downloads = false }
[tool.stackbuild.layers.app.build-wheel.numpy.linux-x64]
reason = "none"
build-requires = ["setuptools>=40", "wheel"]
config-settings = { one = "{packageRoot}/x", many = ["a", "b"] }
[tool.stackbuild.layers.app.platform-specific.linux-x64]
dependencies = ["torch==1"]
resolution = { allow-source-all = true, force-no-binary-list = ["d"] }
allow-import-errors."x-*"."x.z" = "other"
""",
    )
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
    )
    assert sorted(policy.overrides[NUMPY].split(",")) == ["<3", ">=2"]
    assert [str(item) for item in app.requirements_on(Platform.LINUX_X64)] == ["torch==1"]
    mac = app.policy(Platform.MACOSX_AARCH64)
    assert mac.skip == {TORCH: "mac"}
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
