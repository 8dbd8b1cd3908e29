"""`stackbuild export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.api import Project, UsageError, export, export_archive
from stackbuild.cli.console import Console
from stackbuild.cli.options import (
    PUBLISHED_HELP,
    add_place,
    add_shared,
    add_value,
    check_unresolved,
    path_argument,
)
from stackbuild.cli.output import print_answer
from stackbuild.cli.publish import print_failures
from stackbuild.messages import size_text

if TYPE_CHECKING:
    from stackbuild.api.types import PackReport

_RUNENV = "runenv"
"""In place of the first layer; a layer of that name is exported as `app-runenv`."""

EXAMPLES = """\
Examples:
  stackbuild export atls out        out/cpython-3.12, out/framework, out/atls
  stackbuild export atls pgen out --platform windows-x64
  stackbuild export atls /media/stick --from https://layers.example.org/stack
  stackbuild export atls --archive tar.gz   atls-linux-x64.tar.gz, with these directories
  stackbuild export runenv atls variant   variant/pydist/linux-x64, as runenv-python-3 builds it

The directories are copies that no longer need stackbuild, a store or links into a root. Where the
file system has no links (FAT, exFAT), each link becomes a copy of what it leads to. An archive has
them side by side and works where it is unpacked; use zip for Windows.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = (
        "Copy layers, and the layers below them, into plain directories or into one archive."
    )
    parser.epilog = EXAMPLES
    parser.add_argument("layers", nargs="+", metavar="LAYER", help=PUBLISHED_HELP)
    directory = parser.add_argument(
        "directory",
        type=path_argument,
        metavar="DIR",
        help="a missing or empty directory, or one of an earlier export; not with --archive",
    )

    class Archive(argparse.Action):
        """Stores the format. The last word is then a layer, so DIR is not required."""

        def __call__(
            self,
            _parser: argparse.ArgumentParser,
            namespace: argparse.Namespace,
            values: object,
            _option: str | None = None,
        ) -> None:
            directory.required = False
            namespace.archive = values

    parser.add_argument(
        "--archive",
        action=Archive,
        choices=("tar.gz", "tar.zst", "zip"),
        help="write one archive in this format instead of directories",
    )
    parser.add_argument(
        *("-o", "--output"),
        type=path_argument,
        metavar="FILE",
        help="the archive (default: LAYER-PLATFORM.FORMAT in this directory)",
    )
    add_place(
        parser,
        "where layers are published: a directory or an address (default: the project is built)",
    )
    add_value(parser, "--platform", "PLATFORM", "(default: this machine's)", default="host")
    add_shared(parser, "--spec", "--no-sync", "--allow-unresolved", "--json")


def run(arguments: argparse.Namespace) -> int:
    """Export, and print where each layer or the archive is."""
    check_unresolved(arguments)
    if arguments.archive:
        return _write_archive(arguments)
    if arguments.output:
        raise UsageError(
            "--output names an archive, but there is no --archive",
            remedy="add --archive tar.gz, tar.zst or zip",
        )
    messages, sync = Console(quiet=arguments.quiet), not arguments.no_sync
    if arguments.layers[0] == _RUNENV:
        layer, directory = _runenv_words(arguments)
        report = Project.load(arguments.spec, messages=messages).export_runenv(
            layer,
            directory,
            platform=arguments.platform,
            allow_unresolved=arguments.allow_unresolved,
            sync=sync,
        )
    elif arguments.place is None:
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
    answer: dict[str, object] = {"directory": report.directory, "platform": report.platform}
    if arguments.layers[0] == _RUNENV:
        paths = {arguments.layers[0]: str(report.directory)}
    else:
        paths = {item.layer: str(Path(report.directory) / item.directory) for item in report.layers}
        answer |= {"layers": paths, "copied_links": report.copied_links}
    lines = [f"exported   {path}" for path in paths.values()]
    print_answer(answer, lines, as_json=arguments.json, quiet=arguments.quiet)
    return 0


def _write_archive(arguments: argparse.Namespace) -> int:
    layers = [*arguments.layers, *([str(arguments.directory)] if arguments.directory else [])]
    if layers[0] == _RUNENV:
        raise UsageError("`export runenv` cannot be combined with --archive")
    messages = Console(quiet=arguments.quiet)
    if arguments.place is None:
        report = Project.load(arguments.spec, messages=messages).export_archive(
            layers,
            arguments.archive,
            arguments.output,
            platform=arguments.platform,
            allow_unresolved=arguments.allow_unresolved,
        )
    else:
        report = export_archive(
            layers,
            arguments.archive,
            arguments.output,
            registry=arguments.place,
            platform=arguments.platform,
            messages=messages,
        )
    return print_packed(report, arguments)


def print_packed(report: PackReport, arguments: argparse.Namespace) -> int:
    """Print the file that layers were written to, or why they were not. Returns the exit code."""
    if report.failures:
        return print_failures(report.failures)
    layers = [item.layer for item in report.layers]
    answer = {
        "file": report.path,
        "platform": report.platform,
        "layers": layers,
        "size": report.size,
    }
    lines = [f"exported   {report.path} ({size_text(report.size)}): {', '.join(layers)}"]
    print_answer(answer, lines, as_json=arguments.json, quiet=arguments.quiet)
    return 0


def _runenv_words(arguments: argparse.Namespace) -> tuple[str, str]:
    """LAYER and DIR of `export runenv LAYER [DIR]`."""
    match [*arguments.layers[1:], str(arguments.directory)]:
        case [layer]:
            words = layer, "."
        case [layer, directory]:
            words = layer, directory
        case _:
            raise UsageError(
                "`export runenv` takes one layer at a time",
                expected="stackbuild export runenv LAYER [DIR]",
            )
    if arguments.place is not None:
        raise UsageError(
            "`export runenv` cannot be combined with --from",
            remedy="run it in the project: the wheels are those of its locks",
        )
    return words
