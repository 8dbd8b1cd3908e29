"""How large the files of a layer are, by what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.compose.layer_inputs import LayerTarget, Parts
from stackbuild.compose.serialize import manifest_from_json
from stackbuild.compose.sizes import FileGroup, layer_sizes, unused_patterns
from stackbuild.errors import FetchError
from stackbuild.frames.model import Frame, FrameKind, FrameSet
from stackbuild.layout import layout_for
from stackbuild.lock.current import Locks
from stackbuild.platforms import Platform
from stackbuild.spec.reader import load_stack
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.compose.sizes import LayerSizes


def sizes(small: SmallStack) -> LayerSizes:
    stack = load_stack(small.spec)
    lock = Locks(stack, small.workspace).get("app", Platform.LINUX_X64)
    assert lock
    return layer_sizes(stack.layers["app"], lock, small.workspace)


def test_patterns_of_all_distributions_and_of_one(tmp_path: Path) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    small.wheel(
        "app",
        "big",
        "1.0",
        {"big/v1.0/README": "text", "big/a.py": "", "big/b.x": "b", "c.d.e": ""},
    )
    small.more = (
        "[tool.stackbuild.layers.app.exclude-files]\n"
        '"*" = ["*.x", "*.z", "!tool.py"]\n'
        'big = ["*.py", "tool.py"]\ntool = ["*.x"]\n'
    )
    small.lock()
    found = sizes(small)
    assert found.unused == ("*.z", "big: tool.py", "tool: *.x")
    assert (found.total.name, found.excluded.name) == ("", "")
    assert (found.excluded.files, found.excluded.installed) == (2, 1)
    named = {one.name: one.files for one in found.kinds}
    assert (named["README"], named["*.e"]) == (1, 1)
    assert "big/v1.0/" in {one.name for one in found.directories}
    assert (found.archive, found.parts) == ("", ())


def test_parts_are_those_of_the_archive_of_the_lock(tmp_path: Path) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache", bytecode=False)
    small.publish(("base", "app"))
    (path,) = (small.exports / "linux-x64").glob("app-*.json")
    frames = [one.frame for one in manifest_from_json(path.read_bytes(), str(path)).frames]
    kinds = {frame.kind for frame in frames}
    found = sizes(small)
    assert found.archive == path.with_suffix(".tar.zst").name
    assert len(kinds) > 1
    assert [one.name for one in found.parts] == [kind for kind in FrameKind if kind in kinds]
    for one in found.parts:
        mine = [frame for frame in frames if frame.kind == one.name]
        assert one == FileGroup(
            name=one.name,
            files=sum(frame.files for frame in mine),
            installed=sum(frame.content_size for frame in mine),
            compressed=sum(frame.size for frame in mine),
        )
    small.wheel("app", "tool", "3.0", {"tool.py": ""})
    small.lock()
    assert sizes(small).archive == ""


def test_wheels_that_are_not_fetched(tmp_path: Path) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    for name in "dcba":
        small.wheel("app", name, "1", {f"{name}.py": ""})
    small.lock()
    for path in small.wheels["app"]:
        path.unlink()
    with pytest.raises(FetchError) as caught:
        sizes(small)
    assert str(caught.value).splitlines() == [
        "wheels of the layer are not fetched yet",
        "  layer: app",
        "  platform: linux-x64",
        "  found: 5 missing: a-1-py3-none-any.whl, b-1-py3-none-any.whl, c-1-py3-none-any.whl",
        "  to fix: run stackbuild fetch --layer app --platform linux-x64",
    ]


def test_patterns_of_several_layers_and_platforms(tmp_path: Path) -> None:
    small = SmallStack(tmp_path / "project", tmp_path / "cache")
    small.platforms = ("linux-x64", "windows-x64")
    small.more = '[tool.stackbuild.shared]\nexclude-files = ["*.x", "!big/a.py", "!big/b.py"]\n'
    stack = small.lock()
    locks = Locks(stack, small.workspace)
    made = []
    for layer, platform in stack.pairs():
        lock = locks.get(layer.name, platform)
        assert lock
        layout = layout_for(platform, lock.python_version)
        frame = Frame(
            kind=FrameKind.WHEEL, subject="big 1", sha256="", size=1, content_size=1, files=1
        )
        paths = (f"{layout.site_packages}/big/a.py",)
        fields: dict[str, Any] = dict.fromkeys(Parts._fields)
        fields["target"] = LayerTarget(layer, platform, layout, lock, layer.name)
        fields["distributions"] = (FrameSet(key="big", frames=(frame,), paths=paths),)
        made.append(Parts(**fields))
    assert [text.partition(": ")[2] for text in unused_patterns(stack, made)] == [
        f"tool.stackbuild.shared.exclude-files[{number}]: {pattern!r} matches no file of the"
        " wheels in cpython, base, app on linux-x64, windows-x64; correct or remove it"
        for number, pattern in ((0, "*.x"), (2, "!big/b.py"))
    ]
    assert list(unused_patterns(stack, made[1:])) == []
