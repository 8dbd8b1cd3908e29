"""`stackbuild list`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from stackbuild.api import list_installed, list_published
from stackbuild.cli.console import Console
from stackbuild.cli.options import ROOT_HELP, add_flag, add_place, add_shared, add_value, root_here
from stackbuild.cli.output import print_answer, table
from stackbuild.messages import size_text
from stackbuild.platforms import parse_platform

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from stackbuild.api.types import AvailableLayer, IndexEntry, InstalledLayer

EXAMPLES = """\
Examples:
  stackbuild list --root ~/envs
  stackbuild list --from https://layers.example.org/stack --platform linux-x64 --json
  stackbuild list --from exports --all
"""

_DATES = ("LOCK", "PUBLISHED")
_SIZES = ("DIGEST", "FILES", "SIZE", "ARCHIVE", "")


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "List the layers that are installed in a root or published in a place."
    parser.epilog = EXAMPLES
    where = parser.add_mutually_exclusive_group()
    add_value(where, "--root", "DIR", f"what is installed here {ROOT_HELP}")
    add_place(where, "what is published in a directory or at a URL")
    add_value(parser, "--platform", "PLATFORM", "only this platform (with --from)")
    text = "also print older versions, with dates and the versions of locks (with --from)"
    add_flag(parser, "--all", text)
    add_shared(parser, "--json")


def run(arguments: argparse.Namespace) -> int:
    """Print a line, or a JSON object, for each layer."""
    rows: list[tuple[str, ...]]
    if arguments.place is not None:
        variants = list_published(
            arguments.place, platform=arguments.platform, messages=Console(quiet=arguments.quiet)
        )
        objects = [entry for variant in variants for entry in _variant(variant)]
        dates = _DATES if arguments.all else ()
        rows = [("LAYER", "KIND", "VERSION", "PLATFORM", "PYTHON", *dates, *_SIZES)]
        for variant in variants:
            rows += _all_rows(variant) if arguments.all else [_variant_row(variant)]
    else:
        platform = parse_platform(arguments.platform) if arguments.platform else None
        items = list_installed(root_here(arguments.root))
        items = [item for item in items if platform in {None, item.manifest.platform}]
        objects = [_item(item) for item in items]
        rows = [("LAYER", "KIND", "PLATFORM", "PYTHON", *_SIZES)]
        rows += [_item_row(item) for item in items]
    print_answer(objects, table(rows), as_json=arguments.json)
    return 0


def _variant(variant: AvailableLayer) -> Iterator[dict[str, object]]:
    """The current version, then the older ones."""
    for entry in (variant.entry, *variant.older):
        yield {
            "layer": variant.layer,
            "platform": str(variant.platform),
            "current": entry is variant.entry,
            **asdict(entry),
        }


def _variant_row(variant: AvailableLayer) -> tuple[str, ...]:
    older = [f"{len(variant.older)} older"] if variant.older else []
    return _row(variant, variant.entry, (), older)


def _all_rows(variant: AvailableLayer) -> Iterator[tuple[str, ...]]:
    for entry in (variant.entry, *variant.older):
        lock = "" if entry.lock_version is None else str(entry.lock_version)
        current = ["current"] if entry is variant.entry else []
        yield _row(variant, entry, (lock, (entry.published or "unknown")[:10]), current)


def _row(
    variant: AvailableLayer, entry: IndexEntry, dates: Sequence[str], more: Sequence[str]
) -> tuple[str, ...]:
    notes = [*([entry.title] if entry.title else []), *entry.doubts, *more]
    return (
        *(variant.layer, entry.kind, entry.version, variant.platform, entry.python_version),
        *dates,
        *(entry.digest[:12], str(entry.files)),
        *(size_text(entry.content_size), size_text(entry.size), "; ".join(notes)),
    )


def _item(item: InstalledLayer) -> dict[str, object]:
    manifest = item.manifest
    return {
        "layer": manifest.layer,
        "directory": manifest.directory,
        "kind": manifest.kind,
        "platform": manifest.platform,
        "python_version": item.python_version,
        "version": item.version,
        "digest": manifest.digest,
        "lock": manifest.lock,
        "chain": [link.directory for link in manifest.chain],
        "distributions": {one.name: one.version for one in manifest.distributions},
        "files": item.files,
        "size": item.size,
        "archive": {"name": manifest.archive.name, "size": manifest.archive.size},
        "asked": item.asked,
        "needed_by": item.needed_by,
        "from": item.origin,
    }


def _item_row(item: InstalledLayer) -> tuple[str, ...]:
    manifest = item.manifest
    return (
        *(manifest.directory, manifest.kind, manifest.platform, item.python_version),
        *(manifest.digest[:12], str(item.files)),
        *(size_text(item.size), size_text(manifest.archive.size)),
        f"for {', '.join(item.needed_by)}" if item.needed_by else "",
    )
