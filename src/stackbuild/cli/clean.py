"""`stackbuild clean`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import clean
from stackbuild.cli.console import Console
from stackbuild.cli.options import add_flag, add_shared, add_value
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

The current generation, the locks, the wheelhouse and published layers are kept. A process
that still runs in an old generation loses its files.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Remove files that can be created or downloaded again."
    parser.epilog = EXAMPLES
    add_value(parser, "--root", "DIR", "the root to clean")
    caches = parser.add_mutually_exclusive_group()
    add_flag(caches, "--caches", "remove the caches")
    text = "remove cached frames that were not used for this number of days"
    add_value(caches, "--unused-for", "DAYS", text, type=_days)
    add_shared(parser, "--spec", "--json")


def _days(text: str) -> int:
    from argparse import ArgumentTypeError

    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a whole number of days")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Remove, and print what was freed."""
    report = clean(
        root=arguments.root,
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
