"""`stackbuild uninstall`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import uninstall
from stackbuild.cli.console import Console
from stackbuild.cli.install import report_json, report_text
from stackbuild.cli.options import LAYER_HELP, ROOT_HELP, add_shared, add_value, root_here
from stackbuild.cli.output import print_answer

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
Example:
  stackbuild uninstall pgen --root ~/envs

Frameworks and runtimes that no other layer needs are removed, too. To free disk space, run
`stackbuild clean --root ~/envs`, which also removes older generations.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Remove layers from a root."
    parser.epilog = EXAMPLES
    parser.add_argument("layers", nargs="+", metavar="LAYER", help=LAYER_HELP)
    add_value(parser, "--root", "DIR", f"the root {ROOT_HELP}")
    add_shared(parser, "--json")


def run(arguments: argparse.Namespace) -> int:
    """Remove, and print what the root now contains."""
    report = uninstall(
        arguments.layers, root_here(arguments.root), messages=Console(quiet=arguments.quiet)
    )
    print_answer(
        report_json(report), report_text(report), as_json=arguments.json, quiet=arguments.quiet
    )
    return 0
