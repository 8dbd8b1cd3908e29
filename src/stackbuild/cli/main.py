"""`stackbuild`: finds the command, runs it, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import codecs
import importlib
import io
import keyword
import os
import re
import sys
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from stackbuild import __version__
from stackbuild.cli.interruption import TERMINATED, Terminated, interruptible
from stackbuild.cli.output import message_text, print_message
from stackbuild.errors import SpecError, StackbuildError, quoted
from stackbuild.platforms import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COMMANDS = {
    "show": "print the layers of the stack as a tree",
    "lock": "choose the distributions of each layer and write its locks",
    "fetch": "fill the wheelhouse with the files that the locks name",
    "wheelhouse": "copy the wheels of layers to a directory for pip",
    "wheel": "put wheels that were built elsewhere into the wheelhouse",
    "publish": "compose layers and write archives, manifests and the index",
    "promote": "copy published layers to another place",
    "unpublish": "remove versions of layers from a place",
    "prune": "remove old versions of layers from a place",
    "build": "compose layers and install them into a local root",
    "export": "copy layers, and the layers below them, into plain directories",
    "bundle": "write a layer, and the layers below it, to one executable file",
    "image": "make a container image of a layer and those below it",
    "install": "install layers, and the layers below them, into a root",
    "sync": "make a root equal to a file that says which layers it contains",
    "run": "run a command in an installed layer",
    "env": "print the environment variables of an installed layer",
    "list": "list what is installed in a root or published in a place",
    "diff": "print what changes between two versions of layers",
    "history": "list the generations of a root",
    "rollback": "return to an earlier generation of a root",
    "uninstall": "remove layers from a root",
    "verify": "check that deployed layers work, or are unchanged",
    "repair": "repair a root whose state or files were damaged",
    "clean": "remove caches, build roots and old generations",
    "runtime": "make archives of interpreters for a mirror",
    "suggest": "suggest frameworks that minimise the total download",
    "import": "make a stack out of an older project's configuration",
}
"""Each name is a module of this package; the text is its line in `--help`."""

_INSTEAD = {
    "--dev": "use `stackbuild run --dev LAYER`",
    "--if-needed": "not needed: `lock` resolves only what is not current",
    "--lock-if-needed": "not needed: run `stackbuild lock` first, which resolves only what changed",
    "--reset-lock": "use `stackbuild lock --upgrade --layer LAYER`",
    "--force": "not needed: `stackbuild publish --check` writes damaged archives again",
    "--output-dir": "use `stackbuild publish --to DIR`, or the DIR of `stackbuild export`",
    "--tag-outputs": "not needed: the names of archives have a digest",
    "--allow-missing": "not possible: each name or pattern must match a layer",
    "--publish": "run `stackbuild publish`",
}
"""Options that commands lack, most of them of venvstacks, with what replaces them."""
_GENERAL = ("--debug", "-q", "--quiet")
"""The options of all commands."""

EPILOG = """\
A stack maintainer:   stackbuild lock; stackbuild publish --platform host
A consumer:           stackbuild install atls --from exports --root ~/envs
Then:                 ~/envs/atls/bin/python, or: stackbuild run atls --root ~/envs -- python

Exit codes: 0 done, 1 unexpected, 2 usage, 3 spec, 4 lock, 5 download, 6 integrity,
7 composing, 8 installing, 9 verification, 130 interrupted, 143 terminated.
Messages go to stderr, data to stdout.
"""


class Command(Protocol):
    """The interface of a command's module."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Describe the command's arguments, its help and examples."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do the work; the result is the exit code."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End the process with a message that is safe on a terminal."""
        super().error(message_text(message))


def _command(name: str) -> Command:
    # No module can be called `import`, so that command's is called `import_`.
    module = f"{name}_" if keyword.iskeyword(name) else name
    return cast("Command", importlib.import_module(f"stackbuild.cli.{module}"))


def _parse(words: list[str]) -> argparse.Namespace:
    """Parse `words`; ends the process, with the usage, if they are wrong."""
    chosen = next((word for word in words if not word.startswith("-")), None)
    first = [word for word in words[:1] if word in COMMANDS]
    parser, command = _parsers(chosen, first or COMMANDS)
    if chosen is not None and command is None:
        parser.error(f"there is no command {chosen!r}{_did_you_mean(chosen, COMMANDS)}")
    parsed, unknown = parser.parse_known_args(words)
    if unknown:
        refusing = command or parser
        if command and unknown[0] in _GENERAL:
            command.error(
                f"{unknown[0]} comes before the command: stackbuild {unknown[0]} {chosen}"
            )
        options = re.findall(r"--[a-z-]+", refusing.format_usage())  # examples have others
        hint = _as_argument(unknown[0], refusing) or _hint(unknown[0], options)
        refusing.error(f"unknown arguments: {' '.join(unknown)}{hint}")
    if parsed.command is None:
        parser.error("no command given; `stackbuild --help` lists them")
    return parsed


def _as_argument(word: str, parser: argparse.ArgumentParser) -> str:
    """What to write instead of the option `word`, if `parser` has it as an argument."""
    name = word.partition("=")[0].removeprefix("--").upper()
    found = re.search(rf"[ \[]{re.escape(name)}\b", parser.format_usage().partition(" [-h]")[2])
    return f"; {name} is an argument here: {parser.prog} {name}" if found and name else ""


def _hint(word: str, options: Sequence[str]) -> str:
    """What to write instead of the unknown argument `word`."""
    name = word.partition("=")[0].replace("--no-", "--")
    if name in _INSTEAD:
        return f"; {_INSTEAD[name]}"
    if word.endswith(".toml") and "--spec" in options:
        return f"; use --spec {quoted(word)}"
    if not word.startswith("-") and "--layer" in options:
        return f"; use --layer {quoted(word)}"
    return _did_you_mean(word, options)


def _did_you_mean(word: str, valid: Iterable[str]) -> str:
    guess = nearest(word, valid)
    return f"; did you mean {guess!r}?" if guess else ""


def _parsers(
    chosen: str | None, names: Iterable[str]
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser | None]:
    """The parser for the commands `names`, and that of `chosen`, the only one that is imported."""
    parser = _Parser(
        prog="stackbuild",
        description="Compose Python environments out of shared layers and ship them as archives.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"stackbuild {__version__}")
    parser.add_argument(_GENERAL[0], action="store_true", help="show the traceback of an error")
    text = "print only answers, warnings and errors: no notes, progress and summaries"
    parser.add_argument(*_GENERAL[1:], action="store_true", help=text)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    found = None
    for name in names:
        command = commands.add_parser(
            name,
            help=COMMANDS[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == chosen:
            found = command
            _command(name).configure(command)
    return parser, found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `stackbuild` with `arguments` (those of the process by default)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parsed = _parse(words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path may contain characters that the locale cannot encode; that is no failure.
        codecs.register_error("json-escape", _escaped)
        sys.stdout.reconfigure(errors="json-escape")
    try:
        with interruptible():
            return _command(parsed.command).run(parsed)
    except StackbuildError as error:
        return _report(error, parsed.debug, error.exit_code, _with_option(error, parsed))
    except KeyboardInterrupt as error:
        code = TERMINATED if isinstance(error, Terminated) else 130
        return _report(error, parsed.debug, code, "interrupted; existing files are unchanged")
    except BrokenPipeError:
        # The reader of stdout has gone (`stackbuild list | head`); keep Python from
        # complaining about it once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _report(error, parsed.debug, 1, _os_error(error))
    except Exception as error:  # noqa: BLE001 - a user gets a message, not a traceback
        text = f"unexpected {type(error).__name__}: {error}; --debug shows where, please report it"
        return _report(error, parsed.debug, 1, text)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""Write characters that cannot be encoded as JSON does, `\uXXXX`, in text and JSON alike."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    escapes = [f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)]
    return "".join(escapes), error.end


def _os_error(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{reason}: {error.filename}" if error.filename else reason


def _with_option(error: StackbuildError, parsed: argparse.Namespace) -> str:
    """The text of `error`, with the option that names another spec if this one is no file."""
    spec = getattr(parsed, "spec", None)
    if isinstance(error, SpecError) and spec and (spec.is_dir() or not os.path.lexists(spec)):
        return f"{error}\n  to fix: name the file of the stack with --spec FILE"
    return str(error)


def _report(error: BaseException, debug: bool, code: int, text: str | None = None) -> int:
    if debug:
        import traceback

        print_message("".join(traceback.format_exception(error)).rstrip())
    print_message(f"error: {text or error}")
    return code
