"""`stackbuild list`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.cli.main import add_json_argument
from stackbuild.cli.sizes import size_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from stackbuild.install.contents import Item

EXAMPLES = """\
Examples:
  stackbuild list --root ~/envs
  stackbuild list --from https://layers.example.org/stack --platform linux-x64 --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "List the layers that are installed in a root or published in a place."
    parser.epilog = EXAMPLES
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--root", type=Path, metavar="DIR", help="what is installed here")
    where.add_argument(
        "--from", dest="place", metavar="PLACE", help="what is published in a directory or at a URL"
    )
    parser.add_argument("--platform", metavar="PLATFORM", help="only this platform (with --from)")
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print a line, or a JSON object, for each layer."""
    from stackbuild.install.contents import installed, published
    from stackbuild.platforms import parse_platform
    from stackbuild.registry.open import open_registry

    platform = parse_platform(arguments.platform) if arguments.platform else None
    if arguments.place is not None:
        items = published(open_registry(arguments.place), platform)
    else:
        items = [
            item for item in installed(arguments.root) if platform in {None, item.manifest.platform}
        ]
    if arguments.json:
        print(_json(items, arguments.place is None))
    else:
        print(_table(items))
    return 0


def _json(items: Sequence[Item], in_root: bool) -> str:
    return json.dumps(
        [
            {
                "layer": item.manifest.layer,
                "directory": item.manifest.directory,
                "kind": str(item.manifest.kind),
                "platform": str(item.manifest.platform),
                "python_version": item.manifest.python_version,
                "digest": item.manifest.digest,
                "lock": item.manifest.lock,
                "chain": [link.directory for link in item.manifest.chain],
                "distributions": {one.name: one.version for one in item.manifest.distributions},
                "files": item.files,
                "size": item.size,
                "archive": {
                    "name": item.manifest.archive.name,
                    "size": item.manifest.archive.size,
                },
                **({"asked": item.asked, "needed_by": list(item.needed_by)} if in_root else {}),
            }
            for item in items
        ],
        indent=2,
        ensure_ascii=False,
    )


def _table(items: Sequence[Item]) -> str:
    rows = [("LAYER", "KIND", "PLATFORM", "PYTHON", "DIGEST", "FILES", "SIZE", "ARCHIVE", "")]
    rows += [
        (
            item.manifest.directory,
            str(item.manifest.kind),
            str(item.manifest.platform),
            item.manifest.python_version,
            item.manifest.digest[:12],
            str(item.files),
            size_text(item.size),
            size_text(item.manifest.archive.size),
            f"for {', '.join(item.needed_by)}" if item.needed_by else "",
        )
        for item in items
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
