"""Shared libraries of lower layers in layers for macOS and Windows, read without running them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.errors import ComposeError
from stackbuild.frames.binaries import read_macho
from stackbuild.frames.cache import FrameCache
from stackbuild.frames.contents import members
from stackbuild.record import record_hash
from tests.support import images
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from pathlib import Path

MAC_SITE, WINDOWS_SITE = "lib/python3.12/site-packages", "Lib/site-packages"
MAC, WINDOWS = "macosx-aarch64", "windows-x64"
MAC_TAG, WINDOWS_TAG = "cp312-cp312-macosx_11_0_arm64", "cp312-cp312-win_amd64"
MODULE = "consumer/native.cpython-312-darwin.so"
ROOM = bytes(4096)
"""After the load commands, which a linker leaves there too."""


@pytest.fixture
def small(tmp_path: Path) -> SmallStack:
    return SmallStack(tmp_path / "project", tmp_path / "cache")


def published(small: SmallStack, platform: str, **options: Any) -> dict[str, bytes | str]:
    """The files of `app`, the last of each path; of links the targets."""
    report = small.publish(platform=platform, **options)
    for failure in report.failures:
        raise failure.error
    (manifest,) = (one.manifest for one in report.layers if one.manifest.layer == "app")
    cache, siblings = (
        FrameCache(small.workspace.frames),
        {link.directory for link in manifest.chain},
    )
    return {
        member.path: member.link if member.link is not None else b"".join(member.data())
        for placed in manifest.frames
        for member in members(placed.frame, cache, siblings)
    }


def wheels(small: SmallStack, tag: str, module: str, needs: bytes, library: str) -> None:
    """A wheel with a library in `base`, and one with a module that needs it in `app`."""
    data = images.pe() if tag == WINDOWS_TAG else images.macho(name="@rpath/libanswer.dylib")
    small.wheel("base", "publisher", "1.0", {f"publisher/{library}": data}, tag=tag)
    files: dict[str, bytes | str] = {"consumer/__init__.py": "", module: needs}
    small.wheel("app", "consumer", "1.0", files, tag=tag)


LINK = f"../../../../../base/{MAC_SITE}/publisher/libanswer.dylib"


def test_a_directory_that_a_module_for_macos_searches_gets_a_link(small: SmallStack) -> None:
    data = images.macho(
        needed=["@rpath/libanswer.dylib"], rpaths=["@loader_path/../publisher"], kind=images.BUNDLE
    )
    wheels(small, MAC_TAG, MODULE, data, "libanswer.dylib")
    files = published(small, MAC)
    assert files[f"{MAC_SITE}/publisher/libanswer.dylib"] == LINK
    assert files[f"{MAC_SITE}/{MODULE}"] == data


def test_other_modules_for_macos_are_edited_and_record_is_true(
    small: SmallStack, tmp_path: Path
) -> None:
    data = images.macho(needed=["/usr/local/lib/libanswer.dylib"], kind=images.BUNDLE) + ROOM
    wheels(small, MAC_TAG, MODULE, data, "libanswer.dylib")
    files = published(small, MAC)
    assert files[f"{MAC_SITE}/publisher/libanswer.dylib"] == LINK
    edited = files[f"{MAC_SITE}/{MODULE}"]
    assert isinstance(edited, bytes)
    (tmp_path / "edited").write_bytes(edited)
    found = read_macho(tmp_path / "edited", "aarch64")
    assert found is not None
    assert found.needed == ("@loader_path/../publisher/libanswer.dylib",)
    record = files[f"{MAC_SITE}/consumer-1.0.dist-info/RECORD"]
    assert isinstance(record, bytes)
    assert f"{MODULE},{record_hash(edited)},{len(edited)}\n" in record.decode()


def test_a_file_that_cannot_be_edited_is_named(small: SmallStack) -> None:
    data = images.macho(needed=["libx.dylib"], kind=images.BUNDLE)
    wheels(small, MAC_TAG, MODULE, data, "libx.dylib")
    with pytest.raises(ComposeError) as caught:
        published(small, MAC)
    assert str(caught.value) == (
        "a file that needs a library of another distribution or layer cannot be edited\n"
        f"  distribution: consumer 1.0\n  file: {MAC_SITE}/{MODULE}\n"
        "  expected: 24 bytes more\n"
        "  found: the header of a library has no room for a longer name\n"
        "  to fix: link it with `-Wl,-headerpad_max_install_names`, or give it an rpath in its own"
        " distribution, such as `@loader_path/../lib`"
    )


def test_windows_is_told_where_dlls_are(small: SmallStack) -> None:
    data = images.pe(needed=["KERNEL32.dll", "python312.dll", "Answer.dll"])
    wheels(small, WINDOWS_TAG, "consumer/native.pyd", data, "answer.dll")
    files = published(small, WINDOWS)
    text = files[f"{WINDOWS_SITE}/sitecustomize.py"]
    assert isinstance(text, bytes)
    directory = f"base/{WINDOWS_SITE}/publisher"
    assert f"DLL_DIRECTORIES: tuple[str, ...] = ('{directory}',)\n" in text.decode()
    metadata = files["share/venv/metadata/venvstacks_layer.json"]
    assert json.loads(metadata)["dynlib_dirs"] == [f"../{directory}"]


def test_a_program_for_windows_has_its_dll_beside_it(small: SmallStack) -> None:
    dll = images.pe(needed=["KERNEL32.dll"])
    small.wheel("base", "publisher", "1.0", {"publisher/Answer.dll": dll}, tag=WINDOWS_TAG)
    program = images.pe(needed=["answer.dll"], program=True)
    scripts = {"scripts/tell.exe": program}
    small.wheel("app", "consumer", "1.0", {"consumer.py": ""}, tag=WINDOWS_TAG, data=scripts)
    files = published(small, WINDOWS)
    assert (files["Scripts/tell.exe"], files["Scripts/Answer.dll"]) == (program, dll)


def test_sitecustomize_adds_the_directories_on_windows(small: SmallStack, tmp_path: Path) -> None:
    """What it does there is run here, with the names that Windows has."""
    data = images.pe(needed=["answer.dll"])
    wheels(small, WINDOWS_TAG, "consumer/native.pyd", data, "answer.dll")
    files = published(small, WINDOWS)
    site = tmp_path / "root" / "app" / WINDOWS_SITE
    site.mkdir(parents=True)
    dlls = tmp_path / "root" / "base" / WINDOWS_SITE / "publisher"
    dlls.mkdir(parents=True)
    for name in ("sitecustomize.py", "zzz_stackbuild.pth"):
        content = files[f"{WINDOWS_SITE}/{name}"]
        assert isinstance(content, bytes)
        (site / name).write_bytes(content)
    program = (
        "import os, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "sys.prefix, sys.platform, found = sys.argv[2], 'win32', []\n"
        "os.add_dll_directory = found.append\n"
        "import sitecustomize\n"
        "print(found)\n"
    )
    prefix = tmp_path / "root" / "app"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, site, prefix],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{[str(dlls)]}\n"


@pytest.mark.parametrize(
    ("platform", "tag", "module", "data", "name"),
    [
        (
            MAC,
            MAC_TAG,
            MODULE,
            images.macho(needed=["@rpath/libnowhere.dylib"], kind=images.BUNDLE),
            "@rpath/libnowhere.dylib",
        ),
        (
            WINDOWS,
            WINDOWS_TAG,
            "consumer/native.pyd",
            images.pe(needed=["MSVCP140.dll"]),
            "msvcp140.dll",
        ),
        (
            "linux-aarch64",
            "cp312-cp312-manylinux_2_17_aarch64",
            "consumer/native.so",
            images.elf("aarch64", ["libnowhere.so.1"]),
            "libnowhere.so.1",
        ),
    ],
)
def test_a_missing_library_is_an_error_on_every_platform(
    small: SmallStack, platform: str, tag: str, module: str, data: bytes, name: str
) -> None:
    small.wheel("app", "consumer", "1.0", {module: data}, tag=tag)
    with pytest.raises(ComposeError) as caught:
        published(small, platform)
    text = str(caught.value)
    assert f"  layer: app\n  platform: {platform}\n  distribution: consumer 1.0\n" in text
    assert f"/{module}\n  expected: {name}\n" in text
    assert published(small, platform, allow_unresolved=True)
