"""`stackbuild export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.api import Project, export
from stackbuild.cli.console import Console
from stackbuild.cli.install import add_no_sync_argument
from stackbuild.cli.main import add_json_argument, add_spec_argument, path_argument
from stackbuild.cli.output import print_answer
from stackbuild.cli.publish import print_failures

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
Examples:
  stackbuild export atls out                     out/cpython-3.12, out/bio, out/atls
  stackbuild export atls pgen out --platform windows-x64
  stackbuild export atls /media/stick --from https://layers.example.org/stack

The directories are copies that no longer need stackbuild, a store or links into a root. Where the
file system has no links (FAT, exFAT), each link becomes a copy of what it leads to.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Copy layers, and the layers below them, into plain directories."
    parser.epilog = EXAMPLES
    parser.add_argument("layers", nargs="+", metavar="LAYER")
    parser.add_argument(
        "directory",
        type=path_argument,
        metavar="DIR",
        help="a missing or empty directory, or one of an earlier export",
    )
    parser.add_argument(
        "--from",
        dest="place",
        metavar="PLACE",
        help="where layers are published: a directory, or an http(s) address "
        "(default: the project is built)",
    )
    parser.add_argument(
        "--platform", default="host", metavar="PLATFORM", help="(default: this machine's)"
    )
    add_spec_argument(parser)
    add_no_sync_argument(parser)
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Export, and print where each layer is."""
    messages, sync = Console(), not arguments.no_sync
    if arguments.place is None:
        report = Project.load(arguments.spec, messages=messages).export(
            arguments.layers, arguments.directory, platform=arguments.platform, sync=sync
        )
    else:
        report = export(
            arguments.layers,
            arguments.directory,
            registry=arguments.place,
            platform=arguments.platform,
            sync=sync,
            messages=messages,
        )
    if report.failures:
        return print_failures(report.failures)
    paths = {item.layer: str(Path(report.directory) / item.directory) for item in report.layers}
    print_answer(
        {
            "directory": str(report.directory),
            "platform": str(report.platform),
            "layers": paths,
            "copied_links": report.copied_links,
        },
        [f"exported   {path}" for path in paths.values()],
        as_json=arguments.json,
    )
    return 0
