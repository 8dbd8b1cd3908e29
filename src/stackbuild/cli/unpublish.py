"""`stackbuild unpublish`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import unpublish
from stackbuild.cli.console import Console
from stackbuild.cli.options import PUBLISHED_HELP, add_shared, add_value
from stackbuild.cli.prune import print_report

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
Examples:
  stackbuild unpublish exports atls@7
  stackbuild unpublish s3://bucket/stack pgen atls@sha256:7bd8b0531128 --platform linux-x64

A version that a layer above needs is not removed without that layer. The files stay until a
`stackbuild prune` after the grace period.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Remove versions of layers from the index of a place."
    parser.epilog = EXAMPLES
    add_value(parser, "place", "PLACE", "a directory, an object store or a container registry")
    text = f"{PUBLISHED_HELP}; without a version, all versions"
    parser.add_argument("layers", nargs="+", metavar="LAYER", help=text)
    add_shared(parser, "--platform", "--json")


def run(arguments: argparse.Namespace) -> int:
    """Remove the versions, and print them."""
    messages = Console(quiet=arguments.quiet)
    report = unpublish(arguments.place, arguments.layers, arguments.platform, messages=messages)
    print_report(report, as_json=arguments.json)
    return 0
