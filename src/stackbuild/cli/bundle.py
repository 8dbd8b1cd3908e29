"""`stackbuild bundle`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import Project, bundle
from stackbuild.cli.console import Console
from stackbuild.cli.export import print_packed
from stackbuild.cli.options import (
    PUBLISHED_HELP,
    add_place,
    add_shared,
    add_value,
    check_unresolved,
    path_argument,
)

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
Examples:
  stackbuild bundle atls                         atls-linux-x64.run
  stackbuild bundle atls --platform macosx-aarch64 -o atls.run
  stackbuild bundle atls --from https://layers.example.org/stack
  ./atls.run ARGUMENT...                         starts the launch module of atls
  ./atls.run --extract DIR                       the layers as plain directories
  ./atls.run --verify                            checks the sha256 of the bundle

A bundle needs sh, tar and gzip, and neither Python nor a network. Its first start unpacks the
layers into the user's cache directory, or into the directory STACKBUILD_BUNDLES.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Write a layer, and the layers below it, to one executable file."
    parser.epilog = EXAMPLES
    parser.add_argument("layer", metavar="LAYER", help=PUBLISHED_HELP)
    parser.add_argument(
        *("-o", "--output"),
        type=path_argument,
        metavar="FILE",
        help="the file to write (default: LAYER-PLATFORM.run in this directory)",
    )
    add_place(
        parser,
        "where layers are published: a directory or an address (default: the project is built)",
    )
    add_value(parser, "--platform", "PLATFORM", "(default: this machine's)", default="host")
    add_shared(parser, "--spec", "--allow-unresolved", "--json")


def run(arguments: argparse.Namespace) -> int:
    """Write the bundle, and print where it is."""
    check_unresolved(arguments)
    messages = Console(quiet=arguments.quiet)
    if arguments.place is None:
        report = Project.load(arguments.spec, messages=messages).bundle(
            arguments.layer,
            arguments.output,
            platform=arguments.platform,
            allow_unresolved=arguments.allow_unresolved,
        )
    else:
        report = bundle(
            arguments.layer,
            arguments.output,
            registry=arguments.place,
            platform=arguments.platform,
            messages=messages,
        )
    return print_packed(report, arguments)
