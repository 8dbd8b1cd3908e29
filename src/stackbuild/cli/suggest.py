"""`stackbuild suggest`: the frameworks with which a stack is the fewest bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.cli.console import Console
from stackbuild.cli.main import add_json_argument, add_spec_argument
from stackbuild.cli.output import print_json, print_lines
from stackbuild.cli.sharing import framework_lines, table_lines
from stackbuild.importers.report import choice_as_json
from stackbuild.importers.suggest import suggest
from stackbuild.spec.reader import load_stack
from stackbuild.workspace import open_workspace

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
The table compares the bytes of all applications together: with an
environment for each, with the layers as they are, and with those proposed. It
counts whole layers; a root that stackbuild installs into shares equal
distributions of different layers in any case. To use a proposal, write a
[[frameworks]] table for each framework, name it in `frameworks` of its
applications, and lock.
Versions and sizes are those of the locks; nothing is changed.

Examples:
  stackbuild suggest
  stackbuild suggest --spec other/venvstacks.toml --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `suggest`."""
    parser.description = "Propose the frameworks with which the stack is the fewest bytes."
    parser.epilog = EXAMPLES
    add_spec_argument(parser)
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search, and print the frameworks and the bytes."""
    stack = load_stack(arguments.spec)
    found = suggest(stack, open_workspace(stack.directory), Console())
    if arguments.json:
        print_json(choice_as_json(found.frameworks, found.table, found.exact))
    else:
        print_lines((*framework_lines(found.frameworks), *table_lines(found.table)))
    return 0
