"""Frames with edited and copied files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import ComposeError, IntegrityError
from stackbuild.frames.cache import FrameCache
from stackbuild.frames.contents import members
from stackbuild.frames.files import FileContent, files_set
from stackbuild.frames.keys import frame_key
from stackbuild.frames.model import Binary, FrameKind, FrameSet
from stackbuild.linking.editing import copied_set, edited_set
from stackbuild.runtimes.elf import patchelf_version
from stackbuild.spec.model import FrameSettings
from tests.support import images

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.platforms import OsName

SETTINGS = FrameSettings(level=1)
NEEDED = ("/usr/lib/libSystem.B.dylib", "@rpath/libx.dylib", "liby.dylib")
MODULE = Binary(machines=("aarch64",), needed=NEEDED, path="own/a.so")
LIBRARIES = {"@rpath/libx.dylib": "pub/libx.dylib", "liby.dylib": "own/liby.dylib"}
DATA = images.macho(needed=NEEDED) + bytes(200)
LARGE = b"0123456789abcdef" * 200_000
FILES = {
    "own/a.so": FileContent(DATA),
    "bin/tool": FileContent(DATA, executable=True),
    "own/odd.so": FileContent(b"neither"),
    "own/large.dll": FileContent(LARGE, executable=True),
}


@pytest.fixture
def cache(tmp_path: Path) -> FrameCache:
    return FrameCache(tmp_path)


@pytest.fixture
def source(cache: FrameCache) -> FrameSet:
    """A distribution of two frames."""
    first, second = dict(list(FILES.items())[:1]), dict(list(FILES.items())[1:])
    made = [
        files_set(FrameKind.DISTRIBUTION, "own 1.0", one, SETTINGS, cache)
        for one in (first, second)
    ]
    frames = tuple(frame for one in made for frame in one.frames)
    return FrameSet(key="a" * 64, frames=frames, paths=tuple(sorted(FILES)))


def contents(made: FrameSet, cache: FrameCache) -> dict[str, FileContent]:
    """The only file of `made`."""
    (frame,) = made.frames
    return {
        one.path: FileContent(b"".join(one.data()), executable=one.mode == 0o755)
        for one in members(frame, cache)
    }


@pytest.mark.parametrize("path", ["own/a.so", "bin/tool"])
def test_an_edited_file_takes_the_place_of_the_original(
    source: FrameSet, cache: FrameCache, path: str
) -> None:
    binary = replace(MODULE, path=path)
    made = edited_set(source, binary, LIBRARIES, "macos", SETTINGS, cache)
    up = "" if path.startswith("own") else "../own/"
    names = (NEEDED[0], "@loader_path/../pub/libx.dylib", f"@loader_path/{up}liby.dylib")
    new = images.macho(needed=names).ljust(len(DATA), b"\0")
    assert contents(made, cache) == {path: FileContent(new, FILES[path].executable)}
    assert (made.frames[0].kind, made.frames[0].subject) == (FrameKind.DISTRIBUTION, "own 1.0")
    assert made.paths == (path,)


def test_a_copy_is_at_its_new_path(source: FrameSet, cache: FrameCache) -> None:
    made = copied_set(source, "own/large.dll", "Scripts/large.dll", SETTINGS, cache)
    assert contents(made, cache) == {"Scripts/large.dll": FileContent(LARGE, executable=True)}
    assert (made.frames[0].kind, made.frames[0].subject) == (FrameKind.HEAD, "own 1.0")
    plain = copied_set(source, "own/odd.so", "Scripts/odd.dll", SETTINGS, cache)
    assert contents(plain, cache) == {"Scripts/odd.dll": FileContent(b"neither")}


def test_each_set_is_made_once(source: FrameSet, cache: FrameCache) -> None:
    edited = edited_set(source, MODULE, LIBRARIES, "macos", SETTINGS, cache)
    copied = copied_set(source, "own/odd.so", "x.dll", SETTINGS, cache)
    unreadable = replace(source, frames=())
    assert edited_set(unreadable, MODULE, LIBRARIES, "macos", SETTINGS, cache) == edited
    assert copied_set(unreadable, "own/odd.so", "x.dll", SETTINGS, cache) == copied


def test_the_key_has_all_that_decides_the_contents(source: FrameSet, cache: FrameCache) -> None:
    found_at = [text for item in sorted(LIBRARIES.items()) for text in item]
    edited = ("edited", source.key, "own/a.so")
    by_key: dict[str, tuple[OsName, str]] = {
        frame_key(*edited, "", *found_at, settings=SETTINGS): ("macos", "one"),
        frame_key(*edited, patchelf_version(), *found_at, settings=SETTINGS): ("linux", "two"),
    }
    os: OsName
    for key, (os, name) in by_key.items():
        kept = replace(
            files_set(FrameKind.HEAD, name, {name: FileContent(b"")}, SETTINGS, cache), key=key
        )
        cache.put(kept)
        backwards = dict(reversed(LIBRARIES.items()))
        for libraries in (LIBRARIES, backwards):
            assert edited_set(source, MODULE, libraries, os, SETTINGS, cache) == kept
    copied = copied_set(source, "own/odd.so", "x.dll", SETTINGS, cache)
    expected = frame_key("copied", source.key, "own/odd.so", "x.dll", settings=SETTINGS)
    assert copied.key == expected


@pytest.mark.parametrize(
    ("os", "reason", "rpath"),
    [
        ("linux", "patchelf cannot change the search path of a library: ", "$ORIGIN/../lib"),
        (
            "macos",
            "a binary file is damaged: it is not a 64-bit Mach-O file\n",
            "@loader_path/../lib",
        ),
    ],
)
def test_a_file_that_cannot_be_edited_is_named(
    source: FrameSet, cache: FrameCache, os: OsName, reason: str, rpath: str
) -> None:
    with pytest.raises(ComposeError) as caught:
        edited_set(source, replace(MODULE, path="own/odd.so"), LIBRARIES, os, SETTINGS, cache)
    text = str(caught.value)
    assert text.startswith(
        "a file that needs a library of another distribution or layer cannot be edited\n"
        f"  distribution: own 1.0\n  file: own/odd.so\n  found: {reason}"
    )
    assert text.endswith(
        f"\n  to fix: link it with an rpath such as `{rpath}`; a link in that directory of the"
        " layer is then enough"
    )


def test_the_room_that_a_file_lacks_is_named(source: FrameSet, cache: FrameCache) -> None:
    far = {"liby.dylib": "pub/" * 60 + "liby.dylib"}
    with pytest.raises(ComposeError) as caught:
        edited_set(source, MODULE, far, "macos", SETTINGS, cache)
    assert (
        "\n  expected: 56 bytes more\n  found: the header of a library has no room for a longer"
        in str(caught.value)
    )
    assert "-headerpad_max_install_names" in str(caught.value)


def test_a_file_that_the_frames_do_not_have_is_named(source: FrameSet, cache: FrameCache) -> None:
    with pytest.raises(IntegrityError) as caught:
        copied_set(source, "own/none.dll", "x.dll", SETTINGS, cache)
    assert str(caught.value) == "a file is missing from its frames\n  file: own/none.dll"
