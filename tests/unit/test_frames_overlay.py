"""Overlays to frames."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from stackbuild.errors import ComposeError
from stackbuild.frames.cache import FrameCache
from stackbuild.frames.files import overlay_set
from stackbuild.layout import layout_for
from stackbuild.platforms import Platform
from stackbuild.project.files import ProjectFiles
from stackbuild.project.overlays import overlay_files
from stackbuild.spec.model import CopyFiles, FrameSettings, Layer, LayerKind
from tests.support.frames import contents

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.frames.model import FrameSet
    from stackbuild.project.overlays import OverlayFile

posix = pytest.mark.skipif(os.name == "nt", reason="modes and links")

_PLATFORM = Platform.LINUX_X64
_LAYOUT = layout_for(_PLATFORM, Version("3.12.10"))


def _layer(*copies: CopyFiles, special: tuple[CopyFiles, ...] = ()) -> Layer:
    return Layer(
        name="app",
        kind=LayerKind.APPLICATION,
        requirements=(),
        platforms=(_PLATFORM, Platform.MACOSX_AARCH64),
        runtime="cpython-3.12",
        frameworks=(),
        copy_files=copies,
        platform_copy_files={_PLATFORM: special} if special else {},
    )


@pytest.fixture
def overlays(tmp_path: Path) -> Path:
    folder = tmp_path / "overlays/app"
    for path, text in {
        "linux/bin/tool": "#!/bin/sh\n",
        "linux/lib/deep/er.txt": "deep",
        "linux/lib/__pycache__/x.cpython-312.pyc": "leftover",
        "package/ours/__init__.py": "x = 1\n",
        "note.txt": "note",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "linux/bin/tool").chmod(0o711)
    return tmp_path / "overlays"


def _read(layer: Layer, overlays: Path, platform: Platform = _PLATFORM) -> tuple[OverlayFile, ...]:
    return overlay_files(layer, platform, _LAYOUT, overlays, ProjectFiles(overlays.parent))


def _set(layer: Layer, overlays: Path, cache: FrameCache) -> FrameSet:
    return overlay_set(layer.name, _read(layer, overlays), _LAYOUT, FrameSettings(), cache)


def _made(layer: Layer, overlays: Path) -> dict[str, tuple[int, bytes | str]]:
    cache = FrameCache(overlays.parent / "cache")
    made = _set(layer, overlays, cache)
    assert _set(layer, overlays, cache) == made
    assert {frame.subject for frame in made.frames} == {"app"}
    return contents(cache, made)


@posix
def test_directories_and_files_are_copied(overlays: Path) -> None:
    layer = _layer(
        CopyFiles(source="package/", target="{site-packages}"),
        CopyFiles(source="note.txt", target="share/doc/renamed.txt"),
        CopyFiles(source="note.txt", target="share/"),
        CopyFiles(source="note.txt", target="."),
        special=(CopyFiles(source="linux", target="."),),
    )
    assert _made(layer, overlays) == {
        "bin/tool": (0o755, b"#!/bin/sh\n"),
        "lib/deep/er.txt": (0o644, b"deep"),
        "lib/python3.12/site-packages/ours/__init__.py": (0o644, b"x = 1\n"),
        "share/doc/renamed.txt": (0o644, b"note"),
        "share/note.txt": (0o644, b"note"),
        "note.txt": (0o644, b"note"),
    }


def test_a_platform_has_only_what_is_for_it(overlays: Path) -> None:
    layer = _layer(special=(CopyFiles(source="note.txt", target="note.txt"),))
    assert [file.path for file in _read(layer, overlays)] == ["note.txt"]
    assert _read(layer, overlays, Platform.MACOSX_AARCH64) == ()


def test_pth_files_at_the_top_of_site_packages_count(overlays: Path) -> None:
    texts = {"b.pth": "\ufefftwo  \n\n", "a.pth": "# one\none\x0cimport x\n", "x/c.pth": "three\n"}
    for path, text in texts.items():
        (overlays / "app/site" / path).parent.mkdir(parents=True, exist_ok=True)
        (overlays / "app/site" / path).write_text(text, encoding="utf-8")
    layer = _layer(
        CopyFiles(source="site/", target="{site-packages}"),
        CopyFiles(source="site/b.pth", target="share/"),
    )
    cache = FrameCache(overlays.parent / "cache")
    assert _set(layer, overlays, cache).pth == ("one", "import x", "two")
    assert _set(layer, overlays, cache).pth == ("one", "import x", "two")
    (overlays / "app/site/b.pth").write_bytes(b"\xff")
    with pytest.raises(ComposeError) as caught:
        _set(layer, overlays, cache)
    assert ("file", str(overlays / "app/site/b.pth")) in caught.value.details


@posix
def test_links_that_stay_are_kept(overlays: Path) -> None:
    (overlays / "app/linux/bin/alias").symlink_to("tool")
    (overlays / "app/linux/share").symlink_to("lib/deep")
    (overlays / "app/linux/lib/up").symlink_to("../bin/tool")
    layer = _layer(CopyFiles(source="linux/", target="x"))
    made = _made(layer, overlays)
    assert made["x/bin/alias"] == (0o777, "tool")
    assert made["x/share"] == (0o777, "lib/deep")
    assert made["x/lib/up"] == (0o777, "../bin/tool")
    assert "x/share/er.txt" not in made


@posix
def test_links_become_copies_on_windows(overlays: Path) -> None:
    (overlays / "app/linux/lib/up").symlink_to("../bin/tool")
    layer = _layer(CopyFiles(source="linux/", target="x"))
    files = {file.path: file for file in _read(layer, overlays, Platform.WINDOWS_X64)}
    copy, tool = files["x/lib/up"], files["x/bin/tool"]
    assert (copy.link, copy.size, copy.executable) == (None, 10, True)
    assert copy.digest() == tool.digest()
    (overlays / "app/linux/share").symlink_to("lib/deep")
    with pytest.raises(ComposeError) as caught:
        _read(layer, overlays, Platform.WINDOWS_X64)
    assert caught.value.message == "an overlay for Windows cannot contain a link to a directory"
    assert ("file", str(overlays / "app/linux/share")) in caught.value.details


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("linux/*/*.txt", []),
        ("linux/**/*.txt", ["lib/deep/er.txt"]),
        ("linux/lib/**", ["deep/er.txt"]),
        ("linux/*/", ["bin/tool", "lib/deep/er.txt"]),
        ("linux/bin/t??l", ["tool"]),
        ("*.txt", ["note.txt"]),
        ("**/[!e]*", ["linux/bin/tool", "note.txt", "package/ours/__init__.py"]),
        ("[n]ote.txt", ["note.txt"]),
    ],
)
def test_patterns(overlays: Path, source: str, paths: list[str]) -> None:
    layer = _layer(CopyFiles(source=source, target="x"))
    if paths:
        assert [file.path for file in _read(layer, overlays)] == [f"x/{path}" for path in paths]
    else:
        with pytest.raises(ComposeError, match="the source of an overlay matches no file"):
            _read(layer, overlays)


def test_a_directory_that_cannot_be_read_is_an_error(
    overlays: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: Path) -> object:  # as for a user who is not root
        if path.name == "deep":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert (
        _fail(overlays, "linux") == "a directory of the project cannot be read: Permission denied"
    )


@posix
def test_a_change_of_content_or_mode_is_noticed(overlays: Path) -> None:
    layer = _layer(CopyFiles(source="linux/", target="."))
    cache = FrameCache(overlays.parent / "cache")

    def key() -> str:
        return _set(layer, overlays, cache).key

    first = key()
    path = overlays / "app/linux/bin/tool"
    os.utime(path, (0, 0))
    path.chmod(0o755)
    assert key() == first
    path.chmod(0o644)
    second = key()
    path.write_text("#!/bin/zh\n")
    assert len({first, second, key()}) == 3


def test_the_later_overlay_wins_with_overwrite(overlays: Path) -> None:
    (overlays / "app/other.txt").write_text("other")
    copies = [
        CopyFiles(source="note.txt", target="a"),
        CopyFiles(source="other.txt", target="a", overwrite=True),
    ]
    (file,) = _read(_layer(*copies), overlays)
    assert (file.source.name, file.overwrite) == ("other.txt", True)
    copies[1] = CopyFiles(source="other.txt", target="a")
    with pytest.raises(ComposeError, match="two overlays have the same path") as caught:
        _read(_layer(*copies), overlays)
    assert "overwrite = true" in str(caught.value)


def test_a_path_that_is_a_file_and_a_directory(overlays: Path) -> None:
    copies = [
        CopyFiles(source="note.txt", target="share/a/b"),
        CopyFiles(source="note.txt", target="share/a", overwrite=True),
    ]
    for order in (copies, copies[::-1]):
        with pytest.raises(ComposeError, match="a file in one overlay and a directory") as caught:
            _read(_layer(*order), overlays)
        assert ("file", "share/a") in caught.value.details


def _fail(overlays: Path, source: str, target: str = ".") -> str:
    layer = _layer(CopyFiles(source=source, target=target))
    with pytest.raises(ComposeError) as caught:
        _read(layer, overlays)
    assert ("layer", "app") in caught.value.details
    assert "to fix" in dict(caught.value.details)
    return caught.value.message


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("missing", ".", "the source of an overlay is missing"),
        ("missing/", ".", "the source of an overlay is missing"),
        ("note.txt/", ".", "the source of an overlay is not a directory"),
        ("../other", ".", "the source of an overlay is outside its directory"),
        ("/etc", ".", "the source of an overlay is outside its directory"),
        ("linux/../../x", ".", "the source of an overlay is outside its directory"),
        ("note.txt", "../x", "the target of an overlay is outside the layer"),
        ("note.txt", "/x", "the target of an overlay is outside the layer"),
        (
            "note.txt",
            "{site-packages}/../../../../x",
            "the target of an overlay is outside the layer",
        ),
        ("*.md", ".", "the source of an overlay matches no file"),
        ("note.txt/*", ".", "the source of an overlay is not a directory"),
        ("../*", ".", "the source of an overlay is outside its directory"),
    ],
)
def test_bad_entries_are_refused(overlays: Path, source: str, target: str, message: str) -> None:
    assert _fail(overlays, source, target) == message


def test_an_empty_directory_is_refused(overlays: Path) -> None:
    (overlays / "app/empty").mkdir()
    assert _fail(overlays, "empty") == "the source of an overlay is an empty directory"


@posix
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/etc/passwd", "a link of an overlay leads out of its directory"),
        ("../../note.txt", "a link of an overlay leads out of its directory"),
        ("nowhere", "a link of an overlay is broken or leads to itself"),
        ("link", "a link of an overlay is broken or leads to itself"),
        ("../lib/__pycache__", "the target of a link of an overlay is not copied"),
    ],
)
def test_links_that_leave_are_refused(overlays: Path, target: str, message: str) -> None:
    (overlays / "app/linux/bin/link").symlink_to(target)
    assert _fail(overlays, "linux") == message


@posix
def test_a_source_that_leaves_through_a_link_is_refused(overlays: Path) -> None:
    (overlays / "app/out").symlink_to(overlays.parent)
    assert _fail(overlays, "out") == "the source of an overlay is outside its directory"


@posix
def test_a_pipe_is_refused(overlays: Path) -> None:
    os.mkfifo(overlays / "app/linux/pipe")
    assert _fail(overlays, "linux") == ("an overlay can only contain files, directories and links")
