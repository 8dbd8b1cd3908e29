"""`stackbuild clean`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.cli.console import Console
from stackbuild.cli.main import add_json_argument, add_spec_argument, path_argument
from stackbuild.cli.output import print_json, print_lines
from stackbuild.messages import size_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from stackbuild.install.report import Freed

EXAMPLES = """\
Examples:
  stackbuild clean                  the build roots of this project; tells the caches' sizes
  stackbuild clean --unused-for 30  also the cached frames that 30 days made no use of
  stackbuild clean --caches         all caches too, which all projects share
  stackbuild clean --root ~/envs    old generations, and frames that no layer uses

The generation in use, locks, wheelhouse and published layers stay. A process that still
runs in an old generation loses its files.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Remove what can be made or fetched again."
    parser.epilog = EXAMPLES
    parser.add_argument("--root", type=path_argument, metavar="DIR", help="clean this root")
    caches = parser.add_mutually_exclusive_group()
    caches.add_argument("--caches", action="store_true", help="remove the caches")
    caches.add_argument(
        "--unused-for",
        type=_days,
        metavar="DAYS",
        help="remove cached frames that no command has used for so many days",
    )
    add_spec_argument(parser)
    add_json_argument(parser)


def _days(text: str) -> int:
    from argparse import ArgumentTypeError

    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a whole number of days")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Remove, and print what was freed."""
    from stackbuild.install.clean import (
        caches,
        clean_builds,
        clean_caches,
        clean_root,
        prune_frames,
    )
    from stackbuild.workspace import open_workspace

    workspace = open_workspace(arguments.spec.absolute().parent, read_only=True)
    freed: list[Freed] = []
    kept: list[Freed] = []
    if arguments.root is not None:
        freed += clean_root(arguments.root, Console())
    else:
        freed += clean_builds(workspace, Console())
    if arguments.unused_for is not None:
        freed.append(prune_frames(workspace, arguments.unused_for))
    if arguments.caches:
        freed += clean_caches(workspace)
    elif arguments.root is None:
        kept += caches(workspace)
    if arguments.json:
        print_json(_json(freed, kept))
    else:
        print_lines(_text(freed, kept))
    return 0


def _json(freed: Sequence[Freed], kept: Sequence[Freed]) -> dict[str, object]:
    def entries(items: Sequence[Freed]) -> list[dict[str, object]]:
        return [{"what": item.what, "path": str(item.path), "size": item.size} for item in items]

    return {
        "freed": entries(freed),
        "size": sum(item.size for item in freed),
        "kept": entries(kept),
    }


def _text(freed: Sequence[Freed], kept: Sequence[Freed]) -> list[str]:
    lines = [f"removed  {size_text(item.size):>9}  {item.what}: {item.path}" for item in freed]
    lines += [
        f"kept     {size_text(item.size):>9}  {item.what} (--caches removes it): {item.path}"
        for item in kept
    ]
    return [*lines, f"freed {size_text(sum(item.size for item in freed))}"]
