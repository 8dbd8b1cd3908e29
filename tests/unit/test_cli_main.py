from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from tools.standin import PROJECT

from stackbuild import __version__
from stackbuild.cli.console import Console
from stackbuild.cli.main import COMMANDS, main
from stackbuild.cli.output import print_json, print_lines
from stackbuild.errors import IntegrityError
from stackbuild.spec.reader import load_stack

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    Install = Callable[[Callable[[argparse.Namespace], int]], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a function in the place of what `stackbuild show` does."""

    def put(run: Callable[[argparse.Namespace], int]) -> None:
        module = ModuleType("stackbuild.cli.show")
        module.configure = lambda parser: None  # type: ignore[attr-defined]  # a module made here
        module.run = run  # type: ignore[attr-defined]  # a module made here
        monkeypatch.setitem(sys.modules, "stackbuild.cli.show", module)

    return put


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(_: argparse.Namespace) -> int:
        raise error

    return run


ACTIONS = {"runtime": ["pack"], "wheel": ["add"]}
"""Commands of commands."""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [name, *ACTIONS.get(name, [])]
    with pytest.raises(SystemExit) as caught:
        main([*words, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: stackbuild {' '.join(words)}")
    assert "example" in text.lower(), "the help of a command shows how it is used"
    named = re.findall(r"(?:--layer |--effective |\bout/)(\w[\w.@-]+)", text)
    layers = load_stack(PROJECT / "venvstacks.toml").layers
    assert set(named) <= {*layers, "LAYER"}, "examples name layers of the README"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(name in text and line in text for name, line in COMMANDS.items())


def test_the_readme_names_every_command() -> None:
    table = (PROJECT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `stackbuild (\w+)(?: \w+)?` \|", table, re.MULTILINE))
    assert named == {*COMMANDS}


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"stackbuild {__version__}\n"


@pytest.mark.parametrize("words", [[], ["nothing"], ["show", "--no-such"], ["--sp"]])
def test_a_wrong_call_is_a_usage_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: stackbuild" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "stackbuild: error: no command given; `stackbuild --help` lists them"),
        (["pubish"], "stackbuild: error: there is no command 'pubish'; did you mean 'publish'?"),
        (["xyz"], "stackbuild: error: there is no command 'xyz'"),
        (
            ["publish", "--layr", "atls"],
            "stackbuild publish: error: unknown arguments: --layr atls; did you mean '--layer'?",
        ),
        (["show", "x"], "stackbuild show: error: unknown arguments: x; use --layer x"),
        (
            ["history", "--root", "x"],
            "stackbuild history: error: unknown arguments: --root;"
            " ROOT is an argument here: stackbuild history ROOT",
        ),
        (["history", "--rot"], "stackbuild history: error: unknown arguments: --rot"),
        (
            ["build", "--dev", "x"],
            "stackbuild build: error: unknown arguments: --dev x; use `stackbuild run --dev LAYER`",
        ),
        (
            ["show", "dir/venvstacks.toml"],
            "stackbuild show: error: unknown arguments: dir/venvstacks.toml;"
            " use --spec dir/venvstacks.toml",
        ),
        (
            ["publish", "--no-force", "--output-dir", "x"],
            "stackbuild publish: error: unknown arguments: --no-force --output-dir x;"
            " not needed: `stackbuild publish --check` writes damaged archives again",
        ),
        (
            ["publish", "--output-dir=x"],
            "stackbuild publish: error: unknown arguments: --output-dir=x;"
            " use `stackbuild publish --to DIR`, or the DIR of `stackbuild export`",
        ),
        (
            ["lock", "-q"],
            "stackbuild lock: error: -q comes before the command: stackbuild -q lock",
        ),
    ],
)
def test_a_misspelt_word_gets_the_nearest_valid_one(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == said


def test_a_foreseen_error_has_no_traceback(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(raising(IntegrityError("the archive differs", layer="atls", found="x")))
    assert main(["show"]) == 6
    assert capsys.readouterr().err == "error: the archive differs\n  layer: atls\n  found: x\n"


def test_debug_shows_it(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(raising(IntegrityError("the archive differs")))
    assert main(["--debug", "show"]) == 6
    text = capsys.readouterr().err
    assert text.startswith("Traceback (most recent call last):")
    assert text.endswith("error: the archive differs\n")


def test_an_error_of_the_system_names_its_file(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/root/x")))
    assert main(["show"]) == 1
    assert capsys.readouterr().err == "error: No space left on device: /root/x\n"


HOSTILE = "a\x1b[2J\x9b1m\x7f\u202eb\u2028\u2066\udcff\r"
"""ESC, C1, DEL, marks of direction, a line separator, a lone surrogate, a carriage return."""
ESCAPED = r"a\x1b[2J\x9b1m\x7f\u202eb\u2028\u2066\udcff\r"


def saying(_: argparse.Namespace) -> int:
    print_lines([f"{HOSTILE}\n{HOSTILE}", "second"])
    print_json({HOSTILE: [HOSTILE]})
    console = Console(quiet=False)
    console.note(HOSTILE)
    console.warn(f"{HOSTILE}\nerror: not ours")
    raise IntegrityError(HOSTILE, found=HOSTILE)


@pytest.mark.parametrize("words", [["show"], ["--debug", "show"]])
def test_nothing_printed_acts_on_a_terminal(
    install: Install, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    install(saying)
    assert main(words) == 6
    out, err = capsys.readouterr()
    assert [char for char in out + err if not char.isprintable() and char != "\n"] == []
    lines = out.splitlines()
    assert lines[:2] == [rf"{ESCAPED}\n{ESCAPED}", "second"]
    assert json.loads("".join(lines[2:])) == {HOSTILE: [HOSTILE]}
    assert err.startswith(f"{ESCAPED}\nwarning: {ESCAPED}\n    error: not ours\n")
    assert err.endswith(f"error: {ESCAPED}\n  found: {ESCAPED}\n")


def test_a_wrong_call_is_told_without_acting_on_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["show", HOSTILE])
    assert ESCAPED in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_title_of_a_progress_bar_does_not_act_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Console(quiet=False).task(f"x\u202e\x9b[red]{'y' * 3}", 10) as task:
        task.advance(3)
    text = terminal.getvalue()
    assert r"x\u202e\x9b[red]yyy" in text
    assert "\u202e" not in text
    assert "\x9b" not in text


@pytest.mark.parametrize("words", [[], ["-q"], ["--quiet"]])
def test_quiet_leaves_warnings_errors_and_the_result(
    install: Install, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    def run(arguments: argparse.Namespace) -> int:
        console = Console(quiet=arguments.quiet)
        console.note("a note")
        with console.task("a task", 10) as task:
            task.advance(3)
        console.warn("odd")
        print_lines(["the result"])
        raise IntegrityError("wrong")

    terminal, out = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("TERM", "xterm")
    install(run)
    assert main([*words, "show"]) == 6
    said = terminal.getvalue()
    assert ("a note" in said, "a task" in said) == ((False, False) if words else (True, True))
    assert "warning: odd\nerror: wrong\n" in said
    assert out.getvalue() == "the result\n"


def test_an_interruption(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(raising(KeyboardInterrupt()))
    assert main(["show"]) == 130
    assert capsys.readouterr().err.startswith("error: interrupted")


def test_an_unexpected_error_is_reported_in_a_sentence(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(raising(ZeroDivisionError("by zero")))
    assert main(["show"]) == 1
    assert capsys.readouterr().err == (
        "error: unexpected ZeroDivisionError: by zero; --debug shows where, please report it\n"
    )
    assert main(["--debug", "show"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break differently there")
def test_a_reader_that_has_gone_is_no_error() -> None:
    command = f"{sys.executable} -m stackbuild --help | true"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr


HEAVY = (
    "rich",
    "urllib3",
    "stackbuild.zstd",
    "tomlkit",
    "findpython",
    "elftools",
    "pefile",
    "venvstacks",
)


def test_starting_imports_nothing_heavy() -> None:
    code = (
        "import sys; from stackbuild.cli.main import main\n"
        "try: main(['show', '--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stderr == "[]\n"
