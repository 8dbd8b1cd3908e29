"""`stackbuild build`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.cli.console import Console
from stackbuild.cli.install import add_no_sync_argument, sync_of
from stackbuild.cli.main import add_json_argument, add_selection_arguments, add_spec_argument
from stackbuild.cli.output import print_json, print_lines

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from stackbuild.compose.report import PublishedLayer
    from stackbuild.durable import Sync
    from stackbuild.install.report import InstallReport
    from stackbuild.platforms import Platform
    from stackbuild.workspace import Workspace

EXAMPLES = """\
Examples:
  stackbuild build                      every layer, for this machine
  stackbuild build --layer atls
  build/linux-x64/atls/bin/python       what comes of it

The layers go through the same code as those that are published and installed elsewhere, so
they are the same.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Compose layers and install them into build/<platform>."
    parser.epilog = EXAMPLES
    add_spec_argument(parser)
    add_selection_arguments(parser)
    add_no_sync_argument(parser)
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Build, and print what the roots hold now."""
    from stackbuild.cli.install import report_json, report_text
    from stackbuild.cli.publish import print_failures
    from stackbuild.compose.export_directory import ExportDirectory, explained
    from stackbuild.compose.publish import publish
    from stackbuild.spec.reader import load_stack
    from stackbuild.spec.select import select
    from stackbuild.workspace import open_workspace

    stack = load_stack(arguments.spec)
    workspace = open_workspace(stack.directory)
    pairs = select(stack, arguments.layer, arguments.platform or ["host"])
    to = workspace.build_exports
    with explained(to, workspace):
        report = publish(stack, workspace, Console(), pairs=pairs, to=to)
    if report.failures:
        return print_failures(report.failures)
    installed = _install(report.layers, workspace, sync_of(arguments))
    ExportDirectory(to).forget_older(Console())
    if arguments.json:
        print_json([report_json(item) for item in installed])
    else:
        print_lines(line for item in installed for line in report_text(item))
    return 0


def _install(
    layers: Sequence[PublishedLayer], workspace: Workspace, sync: Sync
) -> list[InstallReport]:
    from stackbuild.install.install import install
    from stackbuild.registry.open import open_registry

    by_platform: dict[Platform, list[str]] = {}
    for item in layers:
        by_platform.setdefault(item.manifest.platform, []).append(item.manifest.layer)
    registry = open_registry(str(workspace.build_exports))
    return [
        install(names, registry, workspace.build / platform, platform, Console(), sync=sync)
        for platform, names in by_platform.items()
    ]
