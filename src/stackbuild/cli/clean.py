"""`stackbuild clean`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import UsageError, clean
from stackbuild.cli.console import Console
from stackbuild.cli.options import add_flag, add_shared, add_value, whole
from stackbuild.cli.output import print_answer
from stackbuild.messages import size_text

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
Examples:
  stackbuild clean                  the build roots of this project; shows the caches' sizes
  stackbuild clean --unused-for 30  also cached frames unused for 30 days
  stackbuild clean --caches         also all caches, which all projects share
  stackbuild clean --root ~/envs    old generations, and frames that no layer uses
  stackbuild clean --root ~/envs --keep 3 --older-than 30
                                    the same, of generations made more than 30 days ago, and
                                    not of the one in use and two others

The current generation, the locks, the wheelhouse and published layers are kept. On Linux, so
are generations that processes run in; elsewhere such a process loses its files.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Remove files that can be created or downloaded again."
    parser.epilog = EXAMPLES
    add_value(parser, "--root", "DIR", "the root to clean")
    text = "keep the generation in use and the newest others, N together (with --root; default: 1)"
    add_value(parser, "--keep", "N", text, type=whole)
    text = "keep generations made in this number of days (with --root)"
    add_value(parser, "--older-than", "DAYS", text, type=whole)
    caches = parser.add_mutually_exclusive_group()
    add_flag(caches, "--caches", "remove the caches")
    text = "remove cached frames that were not used for this number of days"
    add_value(caches, "--unused-for", "DAYS", text, type=whole)
    add_shared(parser, "--spec", "--json")


def run(arguments: argparse.Namespace) -> int:
    """Remove, and print what was freed."""
    if arguments.root is None and (arguments.keep, arguments.older_than) != (None, None):
        raise UsageError("--keep and --older-than need --root, whose generations they choose")
    report = clean(
        root=arguments.root,
        keep=1 if arguments.keep is None else arguments.keep,
        older_than=arguments.older_than or 0,
        directory=arguments.spec.parent,
        caches=arguments.caches,
        unused_for=arguments.unused_for,
        messages=Console(quiet=arguments.quiet),
    )
    size = sum(item.size for item in report.freed)
    value = {"freed": report.freed, "size": size, "kept": report.kept}
    lines = [f"removed  {size_text(it.size):>9}  {it.what}: {it.path}" for it in report.freed]
    lines += [
        f"kept     {size_text(it.size):>9}  {it.what} (--caches removes it): {it.path}"
        for it in report.kept
    ]
    print_answer(
        value, [*lines, f"freed {size_text(size)}"], as_json=arguments.json, quiet=arguments.quiet
    )
    return 0
