"""`stackbuild run`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.api import Project, UsageError, build_root, find_root, invocation
from stackbuild.cli.console import Console
from stackbuild.cli.options import LAYER_HELP, add_value

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = """\
Examples:
  stackbuild run atls --root ~/envs                        the layer's launch module, or its Python
  stackbuild run atls --root ~/envs -- --port 8000         the same, with arguments
  stackbuild run atls --root ~/envs -- python -c 'import openmm'
  stackbuild run atls --root ~/envs -- f2py --help         a program of the layer
  stackbuild run atls --dev                                with the sources of the project

Arguments after `--` are passed on unchanged. The exit code is that of the command.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Run a command in an installed layer."
    parser.epilog = EXAMPLES
    parser.usage = _USAGE
    add_root(parser, None)
    add_dev(parser, dev=False)
    # argparse would take the command's options for those of `run`, and drop a `--` that
    # follows a positional argument; so `split` parses the layer and everything after it.
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="LAYER", help=LAYER_HELP)


_USAGE = "stackbuild run LAYER [--root DIR] [--dev] [-- COMMAND ...]"


def add_dev(parser: argparse.ArgumentParser, *, dev: bool) -> None:
    """Add `--dev`."""
    parser.add_argument(
        "--dev",
        action="store_true",
        default=dev,
        help="use launch modules and projects of the repository from their sources, by the"
        " venvstacks.toml in this directory",
    )


def add_root(parser: argparse.ArgumentParser, default: Path | None) -> None:
    """Add `--root`, the root of an installed layer."""
    text = (
        "where the layer is installed "
        "(default: the root that this directory is, or is in, else that of `stackbuild build`)"
    )
    add_value(parser, "--root", "DIR", text, default=default)


def split(
    words: Sequence[str], root: Path | None, *, dev: bool
) -> tuple[str, argparse.Namespace, list[str]]:
    """Split `words` into the layer, which comes first, the options and the command."""
    at = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(
        prog="stackbuild run",
        usage=_USAGE,
        add_help=False,
        allow_abbrev=False,
    )
    add_root(parser, root)
    add_dev(parser, dev=dev)
    if not at:
        parser.error("the following arguments are required: LAYER")
    layer, *others = words[:at]
    options, command = parser.parse_known_args(others)
    if any(word.startswith("-") for word in command):
        parser.error(f"put -- before the command: -- {' '.join(command)}")
    return layer, options, [*command, *words[at + 1 :]]


def default_root() -> Path:
    """The root that this directory is, or is in, or that `stackbuild build` made in it.

    Raises UsageError in a project without such a root.
    """
    if found := find_root():
        return found
    try:
        return build_root(Path())
    except UsageError:
        if Path("venvstacks.toml").is_file():
            raise
    return Path()


def run(arguments: argparse.Namespace) -> int:
    """Replace this process by the command; on Windows, run it and wait."""
    layer, options, command = split(arguments.words, arguments.root, dev=arguments.dev)
    environment, root = dict(os.environ), options.root
    if options.dev:
        root = root or build_root(Path())
        console = Console(quiet=arguments.quiet)
        sources = Project.load("venvstacks.toml", messages=console).link_sources(layer)
        others = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(sources), others]))
    start = invocation(layer, command, root or default_root(), environment)
    words = [str(start.executable), *start.arguments]
    if os.name != "nt":
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(start.executable, words, dict(start.environment))  # noqa: S606 - the user's command
    return subprocess.run(words, env=dict(start.environment), check=False).returncode
