"""`stackbuild sync`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.api import preview_sync, sync
from stackbuild.cli.console import Console
from stackbuild.cli.diff import fetch_text, upgrade_text
from stackbuild.cli.install import report_json, report_text
from stackbuild.cli.options import add_flag, add_shared, add_value, path_argument
from stackbuild.cli.output import print_answer

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
Examples:
  stackbuild sync
  stackbuild sync /etc/stackbuild.install.toml --upgrade --dry-run

The file names the place, the layers and the root; stackbuild.install.lock beside it has the exact
versions. Layers that the file does not need are removed from the root.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Make a root equal to a file that says which layers it contains."
    parser.epilog = EXAMPLES
    default = Path("stackbuild.install.toml")
    text = f"the file (default: {default} in this directory)"
    parser.add_argument(
        "file", type=path_argument, nargs="?", metavar="FILE", default=default, help=text
    )
    add_flag(parser, "--upgrade", "choose the current versions and change the lock")
    add_value(parser, "--root", "DIR", "the root (default: that of the file)")
    add_flag(parser, "--dry-run", "change nothing; print what would change and be fetched")
    add_shared(parser, "--no-sync", "--json")


def run(arguments: argparse.Namespace) -> int:
    """Synchronize, and print what the root now contains."""
    file, root, console = arguments.file, arguments.root, Console(quiet=arguments.quiet)
    if arguments.dry_run:
        preview = preview_sync(file, root=root, upgrade=arguments.upgrade, messages=console)
        lines = [*upgrade_text(preview), *fetch_text(preview)]
        print_answer(preview, lines, as_json=arguments.json)
        return 0
    report = sync(
        file,
        root=root,
        upgrade=arguments.upgrade,
        sync=not arguments.no_sync,
        messages=console,
    )
    print_answer(
        report_json(report), report_text(report), as_json=arguments.json, quiet=arguments.quiet
    )
    return 0
