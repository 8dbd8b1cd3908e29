"""Which layers on which platforms a command works on."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import TYPE_CHECKING

import pytest

from stackbuild.api import Project
from stackbuild.cli.options import add_shared
from stackbuild.errors import UsageError
from stackbuild.platforms import host_platform
from stackbuild.spec.select import find_layers, select
from tests.support.specs import APPLICATION, FRAMEWORK, RUNTIME, read_spec

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.spec.model import Stack

SPEC = (
    RUNTIME,
    'platforms = ["linux-x64", "linux-aarch64", "macosx-x64", "macosx-aarch64", "windows-x64"]\n',
    FRAMEWORK,
    FRAMEWORK.replace("base", "lone"),
    APPLICATION,
    'platforms = ["linux-x64", "macosx-aarch64"]\n',
    APPLICATION.replace('"app"', '"off"'),
    "platforms = []\n",
    '[tool.stackbuild]\nplatforms = ["linux-x64", "windows-x64"]\n',
)


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return read_spec(tmp_path, *SPEC)


def chosen(stack: Stack, layers: str, platforms: str = "", *, with_chain: bool = True) -> list[str]:
    pairs = select(stack, layers.split(), platforms.split(), with_chain=with_chain)
    return [f"{layer.name} {platform}" for layer, platform in pairs]


def test_everything_on_the_platforms_of_the_stack(stack: Stack) -> None:
    assert chosen(stack, "") == [
        *("py linux-x64", "py windows-x64", "base linux-x64", "base windows-x64"),
        *("lone linux-x64", "lone windows-x64", "app linux-x64"),
    ]


def test_a_layer_brings_its_chain(stack: Stack) -> None:
    assert chosen(stack, "app") == ["py linux-x64", "base linux-x64", "app linux-x64"]
    assert chosen(stack, "app", with_chain=False) == ["app linux-x64"]


def test_layers_are_ordered_and_named_once(stack: Stack) -> None:
    assert chosen(stack, "app base py app", "linux-x64") == [
        *("py linux-x64", "base linux-x64", "app linux-x64"),
    ]


def test_a_chain_only_on_the_platforms_of_the_layer_that_brings_it(stack: Stack) -> None:
    assert chosen(stack, "app lone") == [
        *("py linux-x64", "py windows-x64", "base linux-x64", "lone linux-x64"),
        *("lone windows-x64", "app linux-x64"),
    ]


def test_platforms_by_any_name_also_outside_the_default(stack: Stack) -> None:
    assert chosen(stack, "app", "macosx_arm64 linux-x64") == [
        *("py linux-x64", "py macosx-aarch64", "base linux-x64", "base macosx-aarch64"),
        *("app linux-x64", "app macosx-aarch64"),
    ]
    assert chosen(stack, "py", "host") == [f"py {host_platform()}"]


def test_layers_that_are_not_named_are_left_out_where_they_are_not_made(stack: Stack) -> None:
    assert chosen(stack, "", "windows-x64") == [
        *("py windows-x64", "base windows-x64", "lone windows-x64"),
    ]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("app", "app"),
        ("framework-base", "base"),
        ("app-app", "app"),
        ("framework-*", "base lone"),
        ("app-*", "app off"),
        ("*o[nf]*", "lone off"),
        ("?a*", "base"),
        ("*", "py base lone app off"),
    ],
)
def test_names_of_venvstacks_and_patterns(stack: Stack, word: str, found: str) -> None:
    assert [layer.name for layer in find_layers(stack, word)] == found.split()


def test_a_name_comes_before_a_name_in_venvstacks(tmp_path: Path) -> None:
    application = APPLICATION.replace('"app"', '"x"')
    stack = read_spec(tmp_path, RUNTIME, FRAMEWORK.replace("base", "app-x"), FRAMEWORK, application)
    assert [layer.kind for layer in find_layers(stack, "app-x")] == ["framework"]
    assert [layer.kind for layer in find_layers(stack, "app-?")] == ["framework", "application"]


def test_settings_are_those_of_one_layer(stack: Stack) -> None:
    project = Project.load(stack.path)
    assert project.settings("app-app", "linux-x64") == project.settings("app", "linux-x64")
    with pytest.raises(UsageError, match=r"'app-\*' matches several layers") as caught:
        project.settings("app-*")
    assert dict(caught.value.details)["found"] == "app, off"


@pytest.mark.parametrize("option", ["--layer", "--include"])
def test_both_spellings_of_the_option(option: str) -> None:
    parser = ArgumentParser()
    add_shared(parser, "--layer")
    assert parser.parse_args([option, "app-*", option, "base"]).layer == ["app-*", "base"]


def test_a_pattern_leaves_out_what_is_not_made_for_the_platforms(stack: Stack) -> None:
    assert chosen(stack, "*p*", "windows-x64", with_chain=False) == ["py windows-x64"]
    assert chosen(stack, "app-*", with_chain=False) == ["app linux-x64"]


@pytest.mark.parametrize(
    ("layers", "platforms", "message"),
    [
        (
            "bas?s",
            "",
            "no layer matches 'bas?s'\n  file: {path}\n"
            "  expected: one of py, base, lone, app, off\n  to fix: did you mean 'base'?",
        ),
        (
            "app-*",
            "windows-x64",
            "no layer that 'app-*' matches is made for windows-x64\n  file: {path}\n"
            "  found: app, off",
        ),
        (
            "aap",
            "",
            "there is no layer 'aap'\n  file: {path}\n  expected: one of py, base, lone, app, off\n"
            "  to fix: did you mean 'app'?",
        ),
        (
            "app",
            "linux-x64 windows-x64",
            "layer app is not made for windows-x64\n  layer: app\n"
            "  expected: one of linux-x64, macosx-aarch64",
        ),
        (
            "off",
            "",
            "layer off is not made for linux-x64, windows-x64\n  layer: off\n"
            "  to fix: its `platforms` in the spec are an empty list, which disables it",
        ),
        ("", "windows-aarch64", "no layer is made for windows-aarch64\n  file: {path}"),
        (
            "",
            "linux-x46",
            "'linux-x46' is not a platform\n  expected: linux-x64, linux-aarch64, macosx-x64, "
            "macosx-aarch64, windows-x64, windows-aarch64, or host\n"
            "  to fix: did you mean 'linux-x64'?",
        ),
    ],
)
def test_messages(stack: Stack, layers: str, platforms: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(stack, layers.split(), platforms.split())
    assert str(caught.value) == message.format(path=stack.path)
