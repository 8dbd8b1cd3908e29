"""`stackbuild promote`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import promote
from stackbuild.cli.console import Console
from stackbuild.cli.options import PUBLISHED_HELP, add_shared, place_argument
from stackbuild.cli.output import print_answer
from stackbuild.messages import size_text

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
Examples:
  stackbuild promote s3://bucket/test s3://bucket/stack atls@7
  stackbuild promote https://layers.example.org/stack exports 'app-*' --platform linux-x64

The versions become the current ones of the second place. The layers below are copied too where it
does not have them. Only missing files are copied.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Copy published layers, and the layers below them, to another place."
    parser.epilog = EXAMPLES
    parser.add_argument(
        "source", type=place_argument, metavar="FROM", help="a directory or an address"
    )
    text = "a directory, an object store or a container registry"
    parser.add_argument("target", type=place_argument, metavar="TO", help=text)
    parser.add_argument("layers", nargs="+", metavar="LAYER", help=PUBLISHED_HELP)
    add_shared(parser, "--platform", "--json")


def run(arguments: argparse.Namespace) -> int:
    """Copy, and print a line for each layer."""
    sent = promote(
        arguments.source,
        arguments.target,
        arguments.layers,
        arguments.platform,
        messages=Console(quiet=arguments.quiet),
    )
    answer = [
        {
            "layer": one.layer,
            "platform": one.platform,
            "version": one.entry.version,
            "digest": one.entry.digest,
            "sent": one.sent,
        }
        for one in sent
    ]
    lines = [
        f"{one.layer}  {one.platform}  version {one.entry.version}  {one.entry.digest[:12]}  "
        + (f"{size_text(one.sent)} sent" if one.sent else "complete there")
        for one in sent
    ]
    print_answer(answer, lines, as_json=arguments.json)
    return 0
