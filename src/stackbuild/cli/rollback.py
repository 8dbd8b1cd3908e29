"""`stackbuild rollback`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import rollback
from stackbuild.cli.console import Console
from stackbuild.cli.install import report_json, report_text
from stackbuild.cli.options import ROOT_HELP, add_shared, add_value, root_here, whole
from stackbuild.cli.output import print_answer

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
Examples:
  stackbuild rollback --root ~/envs      to the generation before the one in use
  stackbuild rollback 4 --root ~/envs    to generation 4

Nothing is fetched. Later generations stay: `stackbuild history` lists them.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Return to an earlier generation of a root."
    parser.epilog = EXAMPLES
    text = "the generation (default: the one before that in use)"
    add_value(parser, "generation", "N", text, nargs="?", type=whole)
    add_value(parser, "--root", "DIR", f"the root {ROOT_HELP}")
    add_shared(parser, "--json")


def run(arguments: argparse.Namespace) -> int:
    """Switch, and print what the root now contains."""
    report = rollback(
        root_here(arguments.root),
        arguments.generation,
        messages=Console(quiet=arguments.quiet),
    )
    print_answer(
        report_json(report), report_text(report), as_json=arguments.json, quiet=arguments.quiet
    )
    return 0
