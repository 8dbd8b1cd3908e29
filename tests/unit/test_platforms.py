from __future__ import annotations

import platform as host
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackbuild.errors import UsageError
from stackbuild.platforms import (
    DEFAULT_PLATFORMS,
    Platform,
    host_platform,
    nearest,
    parse_platform,
)

VENVSTACKS = {
    "linux_x86_64": Platform.LINUX_X64,
    "linux_aarch64": Platform.LINUX_AARCH64,
    "macosx_x86_64": Platform.MACOSX_X64,
    "macosx_arm64": Platform.MACOSX_AARCH64,
    "win_amd64": Platform.WINDOWS_X64,
    "win_arm64": Platform.WINDOWS_AARCH64,
}


@pytest.mark.parametrize("platform", Platform)
def test_each_platform_is_read_by_both_of_its_names(platform: Platform) -> None:
    assert parse_platform(str(platform)) is platform
    assert parse_platform(platform.venvstacks_name) is platform


def test_the_names_of_venvstacks() -> None:
    assert {platform.venvstacks_name: platform for platform in Platform} == VENVSTACKS


def test_operating_system_and_processor() -> None:
    assert [(p.os, p.machine) for p in DEFAULT_PLATFORMS] == [
        ("linux", "x86_64"),
        ("linux", "aarch64"),
        ("macos", "x86_64"),
        ("macos", "aarch64"),
        ("windows", "x86_64"),
    ]
    assert (Platform.WINDOWS_AARCH64.os, Platform.WINDOWS_AARCH64.machine) == ("windows", "aarch64")
    assert Platform.WINDOWS_AARCH64 not in DEFAULT_PLATFORMS


def test_a_misspelt_platform_is_told_with_its_nearest_name() -> None:
    with pytest.raises(UsageError) as caught:
        parse_platform("linux-x46")
    assert str(caught.value) == (
        "'linux-x46' is not a platform\n"
        "  expected: linux-x64, linux-aarch64, macosx-x64, macosx-aarch64, windows-x64,"
        " windows-aarch64, or host\n"
        "  to fix: did you mean 'linux-x64'?"
    )


NAMES = {"host", *map(str, Platform), *VENVSTACKS}


@given(st.text().filter(lambda text: text not in NAMES))
def test_any_other_text_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_platform(text)


@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [
        ("linux", "x86_64", Platform.LINUX_X64),
        ("linux", "aarch64", Platform.LINUX_AARCH64),
        ("darwin", "x86_64", Platform.MACOSX_X64),
        ("darwin", "arm64", Platform.MACOSX_AARCH64),
        ("win32", "AMD64", Platform.WINDOWS_X64),
        ("win32", "ARM64", Platform.WINDOWS_AARCH64),
    ],
)
def test_the_host(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, expected: Platform
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(host, "machine", lambda: machine)
    assert host_platform() is expected
    assert parse_platform("host") is expected


def test_a_host_that_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "sunos5")
    monkeypatch.setattr(host, "machine", lambda: "sun4v")
    with pytest.raises(UsageError, match=r"this machine \(sunos5, sun4v\) is not supported"):
        host_platform()


def test_nearest_takes_any_iterable() -> None:
    assert nearest("framwork", iter(["runtime", "framework"])) == "framework"
    assert nearest("zzz", ["runtime"]) is None
