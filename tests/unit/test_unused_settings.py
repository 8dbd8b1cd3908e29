"""Settings that have no effect, and the lines of settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stackbuild.lock.current import Locks
from stackbuild.resolve.unused_settings import unused_settings
from stackbuild.spec.reader import load_stack
from stackbuild.tomltext import line_of
from stackbuild.workspace import Workspace

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
    ],
)
def test_settings_without_effect_are_found(tmp_path: Path, added: str, expected: list[str]) -> None:
    begin = "venvstacks.toml, "
    assert _unused(tmp_path, LAYERS + added) == [begin + line for line in expected]


def test_the_file_of_uv_settings_is_named(tmp_path: Path) -> None:
    settings = '# comment\n[[index]]\nname = "one"\nurl = "https://a.invalid"\nexplicit = true\n'
    (tmp_path / "venvstacks.uv.toml").write_text(settings)
    assert _unused(tmp_path, LAYERS) == [
        "venvstacks.uv.toml, line 2: index[0]: no layer uses the explicit index one; name"
        " its distributions in `package_indexes` of a layer, or remove it"
    ]


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
