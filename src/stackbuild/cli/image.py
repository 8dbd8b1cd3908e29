"""`stackbuild image`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import Project, image
from stackbuild.cli.console import Console
from stackbuild.cli.options import (
    PUBLISHED_HELP,
    add_place,
    add_shared,
    add_value,
    check_unresolved,
)
from stackbuild.cli.output import print_answer
from stackbuild.cli.publish import print_failures
from stackbuild.messages import size_text

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
Examples:
  stackbuild image atls --base debian:12-slim --to oci://registry.example.org/atls:7
  stackbuild image atls --base debian:12-slim --to docker-archive:atls.tar   for docker load
  stackbuild image atls --base oci-layout:base             into atls-linux-x64

The base's layers are followed by one image layer for each layer of the chain, so two applications
share those of their framework. The process runs the launch module as user 65532. Equal layers on
an equal base give equal bytes.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Make a container image of a layer and the layers below it."
    parser.epilog = EXAMPLES
    parser.add_argument("layer", metavar="LAYER", help=PUBLISHED_HELP)
    text = (
        "the image to begin with: debian:12-slim or another one, oci-layout:DIR[:TAG], or scratch"
    )
    add_value(parser, "--base", "IMAGE", text, required=True)
    add_value(
        parser,
        "--to",
        "PLACE",
        "oci-layout:DIR[:TAG], docker-archive:FILE[:NAME:TAG] or oci://HOST/REPOSITORY[:TAG] "
        "(default: oci-layout:LAYER-PLATFORM in this directory)",
    )
    add_place(
        parser,
        "where layers are published: a directory or an address (default: the project is built)",
    )
    text = "linux-x64 or linux-aarch64 (default: this machine's)"
    add_value(parser, "--platform", "PLATFORM", text, default="host")
    add_shared(parser, "--spec", "--allow-unresolved", "--json")


def run(arguments: argparse.Namespace) -> int:
    """Make the image, and print where it is."""
    check_unresolved(arguments)
    messages = Console(quiet=arguments.quiet)
    if arguments.place is None:
        report = Project.load(arguments.spec, messages=messages).image(
            arguments.layer,
            base=arguments.base,
            to=arguments.to,
            platform=arguments.platform,
            allow_unresolved=arguments.allow_unresolved,
        )
    else:
        report = image(
            arguments.layer,
            registry=arguments.place,
            base=arguments.base,
            to=arguments.to,
            platform=arguments.platform,
            messages=messages,
        )
    if report.failures:
        return print_failures(report.failures)
    answer = {
        "image": report.to,
        "platform": report.platform,
        "digest": report.digest,
        "size": report.size,
        "written": report.written,
        "layers": [
            {"layer": one.layer, "digest": one.digest, "size": one.size, "new": one.new}
            for one in report.layers
        ],
    }
    width = max(len(one.layer) for one in report.layers)
    lines = [
        f"{one.layer:<{width}}  {'new' if one.new else 'unchanged':<9}  {size_text(one.size):>8}"
        for one in report.layers
    ]
    sizes = f"{size_text(report.size)}, {size_text(report.written)} written"
    lines.append(f"{report.to} ({sizes}): {report.digest}")
    print_answer(answer, lines, as_json=arguments.json, quiet=arguments.quiet)
    return 0
