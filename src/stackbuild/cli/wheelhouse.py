"""`stackbuild wheelhouse`: a directory of wheels for `pip install --find-links`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import Project
from stackbuild.cli.console import Console
from stackbuild.cli.options import LAYER_HELP, add_shared, add_value
from stackbuild.cli.output import print_answer

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
Afterwards pip installs from the directory, without a package index:
  python -m pip install --no-index --find-links packages -r requirements.txt

Examples:
  stackbuild wheelhouse atls packages
  stackbuild wheelhouse atls pgen packages --platform windows-x64

Wheels are hard links to those in wheelhouse/, where the file system has them. Equal locks give
equal directories.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `wheelhouse`."""
    parser.description = "Copy the wheels of layers, and of the layers below them, to a directory."
    parser.epilog = EXAMPLES
    parser.add_argument("layers", nargs="+", metavar="LAYER", help=LAYER_HELP)
    add_value(parser, "directory", "DIR", "a missing or empty directory, or one of an earlier run")
    add_value(parser, "--platform", "PLATFORM", "(default: this machine's)", default="host")
    add_shared(parser, "--spec", "--json")


def run(arguments: argparse.Namespace) -> int:
    """Copy, and print the path of each wheel."""
    console = Console(quiet=arguments.quiet)
    project = Project.load(arguments.spec, messages=console)
    wheels = project.export_wheels(
        arguments.layers, arguments.directory, platform=arguments.platform
    )
    print_answer(
        {"directory": arguments.directory, "wheels": [path.name for path in wheels]},
        [str(path) for path in wheels],
        as_json=arguments.json,
    )
    return 0
