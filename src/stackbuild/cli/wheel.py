"""`stackbuild wheel add`: put wheels that were built elsewhere into the wheelhouse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.api import Project
from stackbuild.cli.console import Console
from stackbuild.cli.options import add_shared
from stackbuild.cli.output import print_answer

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
A distribution without a compatible wheel is built from source, on a machine of
the target platform. Run `stackbuild lock --platform host` there, copy the wheel
from wheelhouse/ to this machine, add it, and run `stackbuild lock` here. Wheels
that were built in another way, such as on an older Linux, can also be added.

Examples:
  stackbuild wheel add freesasa-2.2.1-cp312-cp312-macosx_13_0_arm64.whl
  stackbuild wheel add ~/wheels/*.whl
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `wheel`."""
    parser.description = "Put wheels that were built elsewhere into the wheelhouse."
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser(
        "add",
        help="check wheels and copy them into the wheelhouse",
        description="Check wheels against their RECORD and tags, and copy them into the"
        " wheelhouse.\nIf one is refused, none is copied.",
        epilog=EXAMPLES,
        formatter_class=parser.formatter_class,
        allow_abbrev=False,
    )
    add.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a wheel")
    add_shared(add, "--spec", "--json")


def run(arguments: argparse.Namespace) -> int:
    """Add, and print the platforms of each wheel."""
    console = Console(quiet=arguments.quiet)
    added = Project.load(arguments.spec, messages=console).add_wheels(arguments.files)
    for item in added:
        for layer in dict.fromkeys(one.layer for one in item.stale):
            stale = [one for one in item.stale if one.layer == layer]
            name = item.wheel.name.partition("-")[0].replace("_", "-").lower()
            # Only these: on other platforms the wheel might have to be built.
            words = [f"--platform {one.platform}" for one in stale]
            console.warn(
                f"the lock of {layer} on {', '.join(one.platform for one in stale)}"
                f" {stale[0].reason}; to take the best added wheel:"
                f" stackbuild lock --layer {' '.join([layer, *words])} --upgrade-package {name}"
            )
    print_answer(
        added,
        [f"added  {item.wheel.name}  {', '.join(item.platforms)}" for item in added],
        as_json=arguments.json,
        quiet=arguments.quiet,
    )
    return 0
