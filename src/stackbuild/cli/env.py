"""`stackbuild env`."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from stackbuild.api import UsageError, variables
from stackbuild.cli.options import LAYER_HELP, add_shared, add_value
from stackbuild.cli.output import print_answer
from stackbuild.cli.run import add_root, default_root

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
Examples:
  eval "$(stackbuild env atls --root ~/envs)"                      sh, bash, zsh
  stackbuild env atls --root ~/envs --shell fish | source
  stackbuild env atls --root envs --shell powershell | Invoke-Expression

`stackbuild run` and the console scripts of a layer set the variables themselves.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Print commands that set the environment variables of an installed layer."
    parser.epilog = EXAMPLES
    add_value(parser, "layer", "LAYER", LAYER_HELP)
    add_root(parser, None)
    parser.add_argument(
        "--shell",
        choices=sorted(_COMMANDS),
        default="powershell" if os.name == "nt" else "sh",
        help="whose commands to print (default: %(default)s)",
    )
    add_shared(parser, "--json")


def run(arguments: argparse.Namespace) -> int:
    """Print the variables."""
    found = variables(arguments.layer, arguments.root or default_root(), os.environ)
    for name, value in found.environment.items():
        if not arguments.json and not value.isprintable():
            raise UsageError(
                f"{name} has a value with a character that cannot be printed",
                found=repr(value),
                remedy=f"remove the character from {name} in this environment, or from the path of "
                "the root; or use --json, which escapes it",
            )
    command = _COMMANDS[arguments.shell]
    lines = [command(name, value) for name, value in found.environment.items()]
    print_answer(found, lines, as_json=arguments.json)
    return 0


def _sh(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"


def _fish(name: str, value: str) -> str:
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{quoted}'"


def _powershell(name: str, value: str) -> str:
    # PowerShell ends a string at typographic quotes too.
    quoted = "".join(char * 2 if char in "'\u2018\u2019\u201a\u201b" else char for char in value)
    return f"$Env:{name} = '{quoted}'"


_COMMANDS = {"sh": _sh, "fish": _fish, "powershell": _powershell}
