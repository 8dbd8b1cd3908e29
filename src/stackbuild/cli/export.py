"""`stackbuild export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.api import Project, UsageError, export
from stackbuild.cli.console import Console
from stackbuild.cli.options import LAYER_HELP, add_place, add_shared, add_value
from stackbuild.cli.output import print_answer
from stackbuild.cli.publish import print_failures

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
Examples:
  stackbuild export atls out        out/cpython-3.12, out/framework, out/atls
  stackbuild export atls pgen out --platform windows-x64
  stackbuild export atls /media/stick --from https://layers.example.org/stack

The directories are copies that no longer need stackbuild, a store or links into a root. Where the
file system has no links (FAT, exFAT), each link becomes a copy of what it leads to.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Copy layers, and the layers below them, into plain directories."
    parser.epilog = EXAMPLES
    parser.add_argument("layers", nargs="+", metavar="LAYER", help=LAYER_HELP)
    add_value(
        parser, "directory", "DIR", "a missing or empty directory, or one of an earlier export"
    )
    add_place(
        parser,
        "where layers are published: a directory, or an http(s) address "
        "(default: the project is built)",
    )
    add_value(parser, "--platform", "PLATFORM", "(default: this machine's)", default="host")
    add_shared(parser, "--spec", "--no-sync", "--allow-unresolved", "--json")


def run(arguments: argparse.Namespace) -> int:
    """Export, and print where each layer is."""
    if arguments.allow_unresolved and arguments.place is not None:
        raise UsageError(
            "--allow-unresolved cannot be combined with --from",
            remedy="leave it out: layers are checked when they are published",
        )
    messages, sync = Console(quiet=arguments.quiet), not arguments.no_sync
    if arguments.place is None:
        report = Project.load(arguments.spec, messages=messages).export(
            arguments.layers,
            arguments.directory,
            platform=arguments.platform,
            allow_unresolved=arguments.allow_unresolved,
            sync=sync,
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
            "directory": report.directory,
            "platform": report.platform,
            "layers": paths,
            "copied_links": report.copied_links,
        },
        [f"exported   {path}" for path in paths.values()],
        as_json=arguments.json,
        quiet=arguments.quiet,
    )
    return 0
