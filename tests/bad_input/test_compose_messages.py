"""What is said when a layer cannot be composed or published."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.archives import make_archive
from tests.support.index import IndexServer
from tests.support.roots import stackbuild
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.archives import Content

SITE = "lib/python3.12/site-packages"


@pytest.fixture
def small(tmp_path: Path) -> SmallStack:
    return SmallStack(tmp_path / "project", tmp_path / "cache")


def failure(stack: SmallStack, platform: str = "linux-x64") -> str:
    report = stack.publish(["app"], platform=platform)
    assert not report.layers
    assert not (stack.exports / platform).exists()
    (failed,) = report.failures
    assert failed.error.exit_code == 7
    assert f"platform: {platform}" in str(failed.error)
    return str(failed.error)


def overlay(stack: SmallStack, target: str, *, overwrite: bool = False, text: str = "x") -> None:
    stack.write("overlays/app/file", text)
    flag = ", overwrite = true" if overwrite else ""
    stack.more = (
        f'[tool.stackbuild.layers.app]\ncopy-files = [{{from = "file", to = "{target}"{flag}}}]\n'
    )


def test_an_overlay_on_a_file_of_a_distribution(small: SmallStack) -> None:
    overlay(small, "{site-packages}/tool.py")
    assert failure(small) == (
        f"an overlay and tool 2.0 both have {SITE}/tool.py\n"
        "  layer: app\n  platform: linux-x64\n  distribution: tool 2.0\n"
        f"  file: {SITE}/tool.py\n"
        "  to fix: give the overlay's entry in copy-files another `to`, or `overwrite = true`"
    )


@pytest.mark.parametrize("path", ["pyvenv.cfg", "bin/python", f"{SITE}/app.py"])
def test_an_overlay_on_what_the_layer_makes(small: SmallStack, path: str) -> None:
    overlay(small, path)
    assert failure(small).startswith(f"an overlay has {path}, which stackbuild generates\n")


def test_a_distribution_with_the_name_of_the_launch_module(small: SmallStack) -> None:
    small.wheel("app", "clash", "1", {"app.py": ""})
    text = failure(small)
    assert text.startswith(f"clash 1 has {SITE}/app.py, which stackbuild generates\n")
    assert "to fix: give the layer's module another name" in text


def test_two_distributions_with_one_path(small: SmallStack) -> None:
    small.wheel("app", "other", "1.5", {"tool.py": "something else\n"})
    text = failure(small)
    assert text.startswith(
        f"other 1.5 and tool 2.0 both have {SITE}/tool.py, with different contents\n  layer: app\n"
    )


def test_two_distributions_with_the_same_file_are_fine(small: SmallStack) -> None:
    small.wheel("app", "other", "1.5", {"tool.py": "def main():\n    print('tool')\n"})
    assert not small.publish(["app"]).failures


@pytest.mark.parametrize("platform", ["macosx-aarch64", "windows-x64"])
def test_paths_that_differ_by_case_only(small: SmallStack, platform: str) -> None:
    small.wheel("app", "other", "1.5", {"Tool.py": "x = 1\n"})
    assert not small.publish(["app"]).failures
    assert "differ only by case, which this platform ignores" in failure(small, platform)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("aux.py", "has a name that Windows reserves for a device"),
        ("a/con/b.txt", "has a name that Windows reserves for a device"),
        ("what?.txt", 'has one of the characters < > : " | ? * that Windows reserves'),
        ("a./b.txt", "has a dot or a space at the end of a name, which Windows drops"),
    ],
)
def test_a_file_that_windows_cannot_have(small: SmallStack, name: str, fault: str) -> None:
    small.wheel("app", "other", "1.5", {name: ""})
    assert not small.publish(["app"]).failures
    assert failure(small, "windows-x64") == (
        f"a file of other 1.5 {fault}\n"
        "  layer: app\n  platform: windows-x64\n  distribution: other 1.5\n"
        f"  file: Lib/site-packages/{name}\n"
        "  to fix: leave it out of the layer on windows-x64, or rename the file"
    )


def test_a_file_that_is_a_directory_elsewhere(small: SmallStack) -> None:
    small.wheel("app", "other", "1.5", {"tool.py/x.txt": "x"})
    assert failure(small).startswith(
        f"{SITE}/tool.py is a file in tool 2.0 and a directory in other 1.5\n"
    )


def test_a_launch_module_that_is_gone_is_told(small: SmallStack) -> None:
    small.lock()
    (small.directory / "launch" / "app.py").unlink()
    done = stackbuild("publish", "--spec", small.spec, "--layer", "app", "--only")
    assert done.returncode == 3
    assert "launch_module" in done.stderr


def test_a_layer_that_fails_does_not_keep_the_others_back(small: SmallStack) -> None:
    overlay(small, "{site-packages}/tool.py")
    report = small.publish(["base", "app"])
    assert [item.manifest.layer for item in report.layers] == ["base"]
    assert [(one.layer, one.platform) for one in report.failures] == [("app", "linux-x64")]


def test_a_wheel_that_cannot_be_had_fails_its_layers_only(
    small: SmallStack, tmp_path: Path
) -> None:
    (tmp_path / "index").mkdir()
    with IndexServer(tmp_path / "index") as index:
        small.more = f'[[tool.uv.index]]\nurl = "{index.url}"\ndefault = true\n'
        small.lock()
        (small.directory / "wheelhouse" / "tool-2.0-py3-none-any.whl").unlink()
        report = small.publish_locked()
    assert [item.manifest.layer for item in report.layers] == ["base"]
    (failed,) = report.failures
    assert failed.layer == "app"
    assert failed.error.exit_code == 5
    assert "file: tool-2.0-py3-none-any.whl" in str(failed.error)


def test_a_wheel_that_is_not_the_locked_one(small: SmallStack) -> None:
    small.lock()
    wheel = small.directory / "wheelhouse" / "tool-2.0-py3-none-any.whl"
    data = bytearray(wheel.read_bytes())
    data[50] ^= 1
    wheel.write_bytes(data)
    report = small.publish_locked()
    assert [item.manifest.layer for item in report.layers] == ["base"]
    (failed,) = report.failures
    assert failed.error.exit_code == 6
    assert "tool-2.0-py3-none-any.whl" in str(failed.error)


def test_the_command_tells_failures_once_and_exits_with_the_first(
    small: SmallStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STACKBUILD_CACHE_DIR", str(small.cache))
    overlay(small, "{site-packages}/tool.py")
    small.lock()
    words = ["publish", "--spec", str(small.spec), "--layer", "app", "--layer", "base", "--only"]
    done = stackbuild(*words, "--platform", "linux-x64", "--platform", "linux-aarch64")
    assert done.returncode == 7
    assert done.stdout.count("new") == 2
    assert done.stderr.count("error: ") == 2
    assert "not published: app on linux-aarch64" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unlocked_layer(small: SmallStack) -> None:
    small.lock()
    for path in (small.directory / "layers" / "base").iterdir():
        path.unlink()
    done = stackbuild("publish", "--spec", small.spec, "--layer", "base", "--only")
    assert done.returncode == 4
    assert "base" in done.stderr
    assert "run `stackbuild lock`" in done.stderr


def test_a_damaged_index_is_not_written_over(small: SmallStack) -> None:
    small.lock()
    small.exports.mkdir()
    index = small.exports / "index.json"
    index.write_text('{"format": 1, "layers": {"app": 3}}')
    done = stackbuild("publish", "--spec", small.spec, "--layer", "base", "--only")
    assert done.returncode == 6
    assert "layers.app is not an object" in done.stderr
    assert index.read_text() == '{"format": 1, "layers": {"app": 3}}'
    # As the message says.
    assert "move it away and publish all layers again" in done.stderr
    index.unlink()
    words = ("publish", "--spec", small.spec, "--layer", "base", "--only")
    assert stackbuild(*words).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only"], "--only needs a --layer"),
        (["--level", "23"], "'23' is not a whole number from 1 to 22"),
        (["--level", "high"], "'high' is not a whole number from 1 to 22"),
        (["--format", "rar"], "invalid choice: 'rar'"),
        (["--layer", "ap"], "did you mean 'app'?"),
    ],
)
def test_words_that_the_command_cannot_take(
    small: SmallStack, words: list[str], message: str
) -> None:
    small.lock()
    done = stackbuild("publish", "--spec", small.spec, *words)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written(small: SmallStack) -> None:
    small.lock()
    small.exports.mkdir(mode=0o555)
    done = stackbuild("publish", "--spec", small.spec, "--layer", "base", "--only")
    assert done.returncode == 7
    assert str(small.exports) in done.stderr


def test_no_interpreter_to_make_bytecode_with(small: SmallStack, tmp_path: Path) -> None:
    small.python, small.bytecode = "3.99.1", True
    files: dict[str, Content] = {"python.exe": b"MZ", "Lib/os.py": b"x = 1\n"}
    interpreter = make_archive(tmp_path / "python.tar.gz", files)
    small.more = (
        "[tool.stackbuild.layers.cpython.downloads]\n"
        f'windows-x64 = {{ url = "{interpreter.path.as_uri()}", sha256 = "{interpreter.sha256}" }}'
    )
    report = small.publish(["cpython", "base", "app"], platform="windows-x64")
    assert not report.layers
    assert [failed.layer for failed in report.failures] == ["cpython", "base", "app"]
    for failed in report.failures:
        assert str(failed.error) == (
            "no CPython 3.99 was found on this machine to compile bytecode\n"
            "  layer: cpython\n"
            "  to fix: install one (`uv python install 3.99.1`), or set `bytecode = false` under "
            "[tool.stackbuild.frames]"
        )
