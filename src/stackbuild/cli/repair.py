"""`stackbuild repair`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stackbuild.api import InstallError, repair
from stackbuild.cli.console import Console
from stackbuild.cli.options import ROOT_HELP, add_place, add_shared, path_argument, root_here
from stackbuild.cli.output import print_answer
from stackbuild.errors import quoted
from stackbuild.mark import MARK

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
Examples:
  stackbuild repair ~/envs                  from the root's manifests, store and older generations
  stackbuild repair ~/envs --from exports   damaged files and lost manifests from exports

Every file is read and compared with its recorded size and CRC-32. Damaged files are linked or
downloaded again, in the installed version. If that version is unknown, --from supplies the
current one; without --from, an older generation is used, if a complete one exists.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Repair a root whose state or files were damaged."
    parser.epilog = EXAMPLES
    text = f"the root {ROOT_HELP}"
    parser.add_argument("root", type=path_argument, nargs="?", metavar="ROOT", help=text)
    add_place(parser, "where the layers are published: a directory or an address")
    add_shared(parser, "--json")


def run(arguments: argparse.Namespace) -> int:
    """Repair the root, and print the repairs."""
    root = root_here(arguments.root)
    if (root.parent / MARK).is_file() and not os.path.lexists(root / MARK):
        raise InstallError(
            f"{str(root)!r} is taken as a root, and is a path in one",
            remedy=f"to repair all layers of that root: stackbuild repair {quoted(root.parent)}",
        )
    report = repair(root, registry=arguments.place, messages=Console(quiet=arguments.quiet))
    whole = f"{report.root}: generation {report.generation} is whole"
    print_answer(report, [*report.done, whole], as_json=arguments.json, quiet=arguments.quiet)
    return 0
