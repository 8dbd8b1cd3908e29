"""`stackbuild build`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import Project
from stackbuild.cli.console import Console
from stackbuild.cli.install import report_json, report_text
from stackbuild.cli.options import add_shared
from stackbuild.cli.output import print_answer
from stackbuild.cli.publish import print_failures

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
Examples:
  stackbuild build                      every layer, for this machine
  stackbuild build --layer atls
  build/linux-x64/atls/bin/python       the interpreter of the built layer

The layers are composed and installed as with `stackbuild publish` and `stackbuild install`.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Compose layers and install them into build/<platform>."
    parser.epilog = EXAMPLES
    add_shared(
        parser, "--spec", "--layer", "--platform", "--no-sync", "--allow-unresolved", "--json"
    )


def run(arguments: argparse.Namespace) -> int:
    """Build, and print what the roots now contain."""
    report = Project.load(arguments.spec, messages=Console(quiet=arguments.quiet)).build(
        arguments.layer,
        arguments.platform or ["host"],
        allow_unresolved=arguments.allow_unresolved,
        sync=not arguments.no_sync,
    )
    if report.failures:
        return print_failures(report.failures)
    print_answer(
        [report_json(item) for item in report.installed],
        [line for item in report.installed for line in report_text(item)],
        as_json=arguments.json,
        quiet=arguments.quiet,
    )
    return 0
