"""Settings that have no effect, and the lines of settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.lock.current import Locks
from stackbuild.lock.model import LayerLock, LeftOut, LockedDistribution, LockedFile
from stackbuild.platforms import Platform
from stackbuild.resolve.unused_settings import excluded_requirements, unused_settings
from stackbuild.spec.reader import load_stack
from stackbuild.spec.select import select
from stackbuild.tomltext import line_of
from stackbuild.workspace import Workspace
from tests.support.interpreters import Listener
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = """\
[[runtimes]]
name = "rt"
python_implementation = "cpython@3.12.10"
requirements = []
platforms = ["linux_x86_64", "win_amd64"]
"""
INDEXES = """
[[tool.uv.index]]
name = "one"
url = "https://one.invalid/simple"
[[tool.uv.index]]
name = "two"
url = "https://two.invalid/simple"
"""


def _unused(directory: Path, text: str) -> list[str]:
    """The settings without effect of a spec whose locks are missing."""
    path = directory / "venvstacks.toml"
    path.write_text(text)
    stack = load_stack(path)
    locks = Locks(stack, Workspace(project=directory, cache=directory / "cache", jobs=1))
    return list(unused_settings(stack, locks, (), stale=True))


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        pytest.param('linux_target = "glibc@2.28"', [], id="target"),
        pytest.param(
            'macosx_target = "12.0"',
            ["line 6: runtimes[0].macosx_target: rt is not made for macOS; remove it"],
            id="target of another system",
        ),
        pytest.param('priority_indexes = ["two"]' + INDEXES, [], id="order"),
        pytest.param(
            'priority_indexes = ["one"]' + INDEXES,
            [
                "line 6: runtimes[0].priority_indexes: rt uses the indexes in this order anyway;"
                " remove it"
            ],
            id="order of the file",
        ),
        pytest.param('priority_indexes = ["two"]' + INDEXES + "explicit = true", [], id="explicit"),
        pytest.param(
            INDEXES + "explicit = true",
            [
                "line 10: tool.uv.index[1]: no layer uses the explicit index two; name its"
                " distributions in `package_indexes` of a layer, or remove it"
            ],
            id="explicit index that no layer uses",
        ),
        pytest.param(
            "[tool.stackbuild.shared]\n"
            'force-source.a = {linux-x64 = "a", macosx-x64 = "b"}\n'
            'build-wheel.a = {macosx-x64.reason = "b", windows-x64.reason = "a"}\n'
            'platform-specific.macosx-x64.dependencies = ["b"]\n'
            'platform-specific.windows-x64.dependencies = ["b"]',
            [
                "line 7: tool.stackbuild.shared.force-source.a.macosx-x64: no layer is made for"
                " macosx-x64; remove it",
                "line 8: tool.stackbuild.shared.build-wheel.a.macosx-x64.reason: no layer is made"
                " for macosx-x64; remove it",
                "line 9: tool.stackbuild.shared.platform-specific.macosx-x64.dependencies[0]: no"
                " layer is made for macosx-x64; remove it",
            ],
            id="other platforms",
        ),
        pytest.param(
            '[tool.stackbuild.shared]\nresolution.optional-list = ["a"]',
            [
                "line 7: tool.stackbuild.shared.resolution.optional-list[0]: set"
                " `strict-missing = false` beside it, or remove it"
            ],
            id="optional list",
        ),
        pytest.param(
            '[tool.stackbuild.shared]\nresolution.optional-list = ["a"]\n'
            "platform-specific.windows-x64.resolution.strict-missing = false",
            [],
            id="optional list of one platform",
        ),
        pytest.param(
            '[tool.stackbuild]\nlocal-wheels = ["some", "none", "empty"]',
            [
                f"line 7: tool.stackbuild.local-wheels[{number}]: there are no wheels in {name!r}"
                for number, name in ((1, "none"), (2, "empty"))
            ],
            id="local wheels",
        ),
    ],
)
def test_settings_without_effect_are_found(tmp_path: Path, added: str, expected: list[str]) -> None:
    for name in ("some/a-1-py3-none-any.whl", "empty/a.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    begin = "venvstacks.toml, "
    assert _unused(tmp_path, LAYERS + added) == [begin + line for line in expected]


def test_the_file_of_uv_settings_is_named(tmp_path: Path) -> None:
    settings = '# comment\n[[index]]\nname = "one"\nurl = "https://a.invalid"\nexplicit = true\n'
    (tmp_path / "venvstacks.uv.toml").write_text(settings)
    assert _unused(tmp_path, LAYERS) == [
        "venvstacks.uv.toml, line 2: index[0]: no layer uses the explicit index one; name"
        " its distributions in `package_indexes` of a layer, or remove it"
    ]


def layer_lock(layer: str, platform: Platform, **fields: Any) -> LayerLock:
    empty: dict[str, Any] = dict.fromkeys(("requirements", "distributions", "inherited"), ())
    empty |= dict.fromkeys(("inputs", "locked_at", "digest"), "")
    python = Version("3.12.10")
    values = {**empty, "python_version": python, "version": 1, **fields}
    return LayerLock(layer=layer, platform=platform, **values)


def test_settings_of_layers_on_some_platforms(tmp_path: Path) -> None:
    """No layer is locked for the platform that is not a default one."""
    spec = (
        LAYERS.replace('platforms = ["linux_x86_64", "win_amd64"]', "")
        + '[[frameworks]]\nname = "base"\nruntime = "rt"\nrequirements = []\n'
        + '[[applications]]\nname = "app"\nframeworks = ["base"]\nrequirements = ["lib"]\n'
        + """
[tool.stackbuild.layers.base]
overrides = {one = "==1"}
platform-specific.linux-x64.resolution.only-binary-list = ["two"]
[tool.stackbuild.layers.app]
no-deps = ["three"]
"""
    )
    path = tmp_path / "venvstacks.toml"
    path.write_text(spec)
    stack = load_stack(path)
    locks = Locks(stack, Workspace(project=tmp_path, cache=tmp_path / "cache", jobs=1))
    current = [layer_lock(layer.name, platform) for layer, platform in select(stack, (), ())]
    assert len(current) < len(list(stack.pairs()))
    do, tables = "remove it, or correct the name", "tool.stackbuild.layers"
    found = unused_settings(stack, locks, current, stale=False)
    assert [text.partition(": ")[2].removeprefix(f"{tables}.") for text in found] == [
        f"base.overrides.one: neither base nor a layer above it has one; {do}",
        "base.platform-specific.linux-x64.resolution.only-binary-list[0]: base does not have two"
        f" on linux-x64; {do}",
        f"app.no-deps[0]: app does not have three; {do}",
    ]
    assert excluded_requirements(stack, current) == ()


def test_entries_for_what_was_not_skipped(tmp_path: Path) -> None:
    (tmp_path / "venvstacks.toml").write_text(
        LAYERS
        + """
[tool.stackbuild.layers.rt]
skip = {gone.linux-x64 = "x", wheel.linux-x64 = "x", none.linux-x64 = "x", none.macosx-x64 = "x"}
exclude = {gone.linux-x64 = "x", wheel.linux-x64 = "x", none.windows-x64 = "x"}
"""
    )
    stack = load_stack(tmp_path / "venvstacks.toml")
    locks = Locks(stack, Workspace(project=tmp_path, cache=tmp_path / "cache", jobs=1))
    file = LockedFile(name="wheel-1-py3-none-any.whl", size=1, sha256="")
    wheel = LockedDistribution(name=canonicalize_name("wheel"), version=Version("1"), wheel=file)
    left_out = LeftOut(name=canonicalize_name("gone"), reason="x")
    lock = layer_lock("rt", Platform.LINUX_X64, distributions=(wheel,), skipped=(left_out,))
    found = unused_settings(stack, locks, [lock], stale=True)
    unneeded = "no distribution needs {} there; remove this entry"
    place = "tool.stackbuild.layers.rt."
    assert [text.partition(": ")[2].removeprefix(place) for text in found] == [
        "skip.none.linux-x64 and 1 more: " + unneeded.format("none"),
        "skip.wheel.linux-x64: other distributions need wheel there; move this entry to `exclude`",
        "exclude.wheel.linux-x64: " + unneeded.format("wheel"),
    ], "the lock for Windows is missing"


OF_LAYER = """
[tool.stackbuild.layers.base]
no-deps = ["tool", "libb", "other"]
platform-specific.linux-x64.resolution.only-binary-list = ["libb", "lib"]
resolution.optional-list = ["tool"]
resolution.strict-missing = false
force-source.libb = {linux-x64 = "a", windows-x64 = "b"}
build-wheel.tool.linux-x64.reason = "x"
exclude-files = {libc = ["*.h"], "*" = ["*.a"]}
skip.lib.linux-x64 = "x"
exclude = {nothing = {linux-x64 = "x", windows-x64 = "x"}, lib.linux-x64 = "x"}
skip.tool.linux-x64 = "x"
"""
SHARED = """
[tool.stackbuild.shared]
exclude-files.toool = ["*.h"]
skip.tool.linux-x64 = "x"
overrides.libb = "==1"
no-deps = ["lib"]
"""
OF_UV = """
[tool.uv]
exclude-dependencies = ["tool"]
constraint-dependencies = ["libb<1", "lib<9"]
override-dependencies = ["qq<1", "rr<1; sys_platform == 'linux'"]
exclude-newer-package = {lub = "2025-01-01"}
dependency-metadata = [{name = "lib"}, {name = "libb"}]
no-build-package = ["libz"]
"""


def test_names_that_no_lock_has(tmp_path: Path) -> None:
    small = SmallStack(
        tmp_path / "project",
        tmp_path / "cache",
        platforms=("linux-x64", "windows-x64"),
        more=OF_LAYER + SHARED + OF_UV,
        more_base='package_indexes = {libx = "one", tool = "one", torch = "one", lxx = "one"}',
        more_app=INDEXES,
    )
    stack = small.lock()
    locks = Locks(stack, small.workspace)
    found = [locks.get(layer.name, platform) for layer, platform in stack.pairs()]
    current = [lock for lock in found if lock]

    def unused(*, stale: bool, count: int) -> list[str]:
        texts = unused_settings(stack, locks, current[:count], stale=stale)
        return [text.partition(": ")[2].removeprefix("tool.stackbuild.") for text in texts]

    above, only = "neither base nor a layer above it has", "base does not have"
    lib, other = "did you mean 'lib'?", "remove it, or correct the name"
    entries = (
        ("exclude.lib.linux-x64", "lib"),
        ("exclude.nothing.linux-x64 and 1 more", "nothing"),
        ("skip.tool.linux-x64", "tool"),
    )
    skips = [
        f"layers.base.{key}: no distribution needs {name} there; remove this entry"
        for key, name in entries
    ]
    assert unused(stale=False, count=len(current)) == [
        f"frameworks[0].package_indexes.libx: {above} libx; {lib}",
        f"layers.base.no-deps[1]: {above} libb; {lib}",
        f"layers.base.no-deps[2]: {above} other; {other}",
        "layers.base.platform-specific.linux-x64.resolution.only-binary-list[0]: "
        f"{only} libb on linux-x64; {lib}",
        f"layers.base.resolution.optional-list[0]: {only} tool; {other}",
        f"layers.base.force-source.libb.linux-x64: {only} libb on linux-x64; {lib}",
        f"layers.base.force-source.libb.windows-x64: {only} libb on windows-x64; {lib}",
        f"layers.base.build-wheel.tool.linux-x64.reason: {only} tool on linux-x64; {other}",
        f"layers.base.exclude-files.libc[0]: {only} libc; {lib}",
        *skips,
        "shared.exclude-files.toool[0]: no layer has toool; did you mean 'tool'?",
        f"shared.overrides.libb: no layer has libb; {lib}",
        f"tool.uv.constraint-dependencies: no layer has libb; {lib}",
        f"tool.uv.override-dependencies: no layer has rr; {other}",
        f"tool.uv.override-dependencies[0]: no layer has qq; {other}",
        f"tool.uv.exclude-newer-package: no layer has lub; {other}",
        f"tool.uv.dependency-metadata[1]: no layer has libb; {lib}",
        f"tool.uv.no-build-package[0]: no layer has libz; {lib}",
    ]
    # Another layer or platform may have the distribution.
    assert unused(stale=True, count=len(current)) == skips
    assert unused(stale=True, count=0) == skips
    assert unused(stale=False, count=len(current) - 1) == skips
    assert excluded_requirements(stack, current) == (
        "app requires tool, but exclude-dependencies in [tool.uv] leaves it out; remove one of "
        "the two",
    )


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("top", 2),
        ("list[1]", 4),
        ("list[2]", None),
        ("entries[1].x", 11),
        ("entries[1].y", None),
        ('table."a.b"', 13),
        ("table.x.y", None),
        ("top[0]", None),
    ],
)
def test_lines_of_settings(place: str, line: int | None) -> None:
    text = (
        "# a = 1\ntop = 1\n\nlist = [\n  1,\n  2,\n]\n[[entries]]\nx = 1\n"
        "[[entries]]\nx = '''\n'''\n[table.\"a.b\"]\nx = 1\n"
    )
    assert line_of(text, place) == line


def test_patterns_without_a_file_are_told_when_layers_are_published(tmp_path: Path) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    small.wheel("app", "big", "1.0", {"big/a.py": "", "big/b.py": ""})
    small.more = (
        '[tool.stackbuild.shared]\nexclude-files = ["*.py", "*.pyx", "!tool.py", "!big/z.py"]\n'
        '[tool.stackbuild.layers.app]\nexclude-files = {big = ["big/b.*", "*.h"], bog = ["*.py"]}\n'
        '[tool.stackbuild.layers.base]\nexclude-files = ["tool.py"]\n'
    )
    listener = Listener()
    # Shared patterns may match a file of the runtime, which is not published here.
    small.publish(messages=listener)
    layers = "tool.stackbuild.layers"
    assert [text.partition(": ")[2] for text in listener.warnings] == [
        f"{layers}.base.exclude-files[0]: 'tool.py' matches no file of the wheels in base on"
        " linux-x64; correct or remove it",
        f"{layers}.app.exclude-files.big[1]: '*.h' matches no file of wheels of big in app on"
        " linux-x64; correct or remove it",
        f"{layers}.app.exclude-files.bog[0]: '*.py' matches no file of wheels of bog in app on"
        " linux-x64; correct or remove it",
    ]
    assert listener.warnings[0].startswith(f"{small.spec.name}, line ")
    # Those that keep files match files that are there.
    small.more = f'[{layers}.app]\nexclude-files = ["*.py", "!tool.py", "!big/z.py"]\n'
    kept = Listener()
    small.publish(["app"], messages=kept)
    assert [text.partition(": ")[2] for text in kept.warnings] == [
        f"{layers}.app.exclude-files[2]: '!big/z.py' matches no file of the wheels in app on"
        " linux-x64; correct or remove it"
    ]
