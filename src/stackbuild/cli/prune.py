"""`stackbuild prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import prune
from stackbuild.cli.console import Console
from stackbuild.cli.options import add_flag, add_shared, add_value, whole
from stackbuild.cli.output import print_answer

if TYPE_CHECKING:
    import argparse

    from stackbuild.api.types import PruneReport

EXAMPLES = """\
Examples:
  stackbuild prune exports --keep 3
  stackbuild prune s3://bucket/stack --keep 5 --keep-tag 2026.1 --dry-run

Versions of lower layers that a kept version needs are kept. The index names the others no longer;
their files are removed by a prune after the grace period, because a consumer may still read an
index of before. Run it regularly.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Remove old versions of layers from a place that they are published to."
    parser.epilog = EXAMPLES
    add_value(parser, "place", "PLACE", "a directory, an object store or a container registry")
    text = "keep the N newest versions of each layer and platform"
    add_value(parser, "--keep", "N", text, type=whole, required=True)
    text = "also keep this version (as in LAYER@VERSION); may be given several times"
    add_value(parser, "--keep-tag", "VERSION", text, action="append", default=[])
    text = "remove files that no index has named for this number of days (default: 7)"
    add_value(parser, "--grace", "DAYS", text, type=whole, default=7)
    add_flag(parser, "--dry-run", "print what would be removed; change nothing")
    add_shared(parser, "--json")


def run(arguments: argparse.Namespace) -> int:
    """Prune, and print what was removed."""
    report = prune(
        arguments.place,
        keep=arguments.keep,
        keep_versions=arguments.keep_tag,
        grace_days=arguments.grace,
        dry_run=arguments.dry_run,
        messages=Console(quiet=arguments.quiet),
    )
    print_report(report, as_json=arguments.json, dry_run=arguments.dry_run)
    return 0


def print_report(report: PruneReport, *, as_json: bool, dry_run: bool = False) -> None:
    """Print the versions and files that were removed."""
    answer = {
        "versions": [
            {
                "layer": one.layer,
                "platform": one.platform,
                "version": one.entry.version,
                "digest": one.entry.digest,
            }
            for one in report.versions
        ],
        "files": report.files,
        "waiting": report.waiting,
    }
    would = "would be " if dry_run else ""
    lines = [
        f"{one.layer}  {one.platform}  version {one.entry.version}  {one.entry.digest[:12]}  "
        f"{would}removed from the index"
        for one in report.versions
    ]
    lines.append(
        f"{len(report.files)} files {would}removed, {len(report.waiting)} wait for the grace period"
    )
    print_answer(answer, lines, as_json=as_json)
