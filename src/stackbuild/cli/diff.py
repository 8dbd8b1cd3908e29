"""`stackbuild diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import diff
from stackbuild.cli.console import Console
from stackbuild.cli.options import add_place, add_shared, add_value
from stackbuild.cli.output import print_answer
from stackbuild.messages import size_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from stackbuild.api.types import DistributionChange, LayerChange, LayerVersion, Upgrade

EXAMPLES = """\
Examples:
  stackbuild diff atls@6 atls@7 --from https://layers.example.org/stack
  stackbuild diff ~/envs atls --from exports    what `install atls` would change
  stackbuild diff ~/envs exports                the same for all layers of the root
  stackbuild diff ~/envs/generations/6 ~/envs   two generations of a root
  stackbuild diff HEAD~1:layers layers          the locks of a git revision, and those of now
  stackbuild diff --platform linux-x64 ../other/layers layers
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Print what changes between two versions of layers."
    parser.epilog = EXAMPLES
    text = (
        "a published layer (LAYER@VERSION), a root, a generation of one, a place, or locks "
        "(a file or a directory, also as REVISION:DIRECTORY of git)"
    )
    add_value(parser, "before", "A", text)
    add_value(parser, "after", "B", "what it is compared with, also one of these")
    add_place(parser, "where layers are published (default: where those of the root came from)")
    text = "the platform (default: that of the root, or this machine's; of locks, all)"
    add_value(parser, "--platform", "PLATFORM", text)
    add_shared(parser, "--json")


def run(arguments: argparse.Namespace) -> int:
    """Compare, and print what differs."""
    report = diff(
        arguments.before,
        arguments.after,
        registry=arguments.place,
        platform=arguments.platform,
        messages=Console(quiet=arguments.quiet),
    )
    lines = [*upgrade_text(report), *(fetch_text(report) if report.fetched_frames else ())]
    print_answer(report, lines, as_json=arguments.json)
    return 0


def upgrade_text(report: Upgrade) -> list[str]:
    """Each layer that changes, followed by its distributions."""
    # A layer often changes alike on all platforms.
    platforms: dict[tuple[str, ...], list[str]] = {}
    for change in report.layers:
        platforms.setdefault(tuple(_lines(change)), []).append(change.platform)
    lines = []
    for (head, *rest), where in platforms.items():
        lines += [f"{head} on {', '.join(where)}", *rest]
    return lines or ["no layer changes"]


def fetch_text(report: Upgrade) -> list[str]:
    """What is fetched, in one line."""
    if not report.fetched_frames:
        return ["nothing to fetch"]
    fetched, disk = size_text(report.fetched_bytes), size_text(report.disk_bytes)
    return [f"{report.fetched_frames} frames to fetch ({fetched}), {disk} on the disk"]


def _lines(change: LayerChange) -> Iterator[str]:
    before, after = change.before, change.after
    if before and after:
        differ = None not in {before.version, after.version} and before.version != after.version
        yield f"{change.layer} {_version(before, not differ)} -> {_version(after, not differ)}"
        if before.python_version != after.python_version:
            yield f"  Python {before.python_version} -> {after.python_version}"
        if not change.distributions:
            yield "  the distributions are equal, other files differ"
        yield from map(_distribution, change.distributions)
    elif one := after or before:
        count = len(change.distributions)
        word = "added" if after else "removed"
        yield (
            f"{change.layer} {_version(one)} {word}, with {count} distribution{'s' * (count != 1)}"
        )


def _version(version: LayerVersion, with_digest: bool = False) -> str:
    digest = version.digest[:12]
    if version.version is None:
        return digest
    return f"{version.version} ({digest})" if with_digest else version.version


def _distribution(change: DistributionChange) -> str:
    before, after = change.before, change.after
    if before is None:
        return f"  added       {change.name} {after}"
    if after is None:
        return f"  removed     {change.name} {before}"
    if before == after:
        return f"  other file  {change.name} {after}"
    from packaging.version import Version

    word = "upgraded" if Version(after) > Version(before) else "downgraded"
    return f"  {word:<10}  {change.name} {before} -> {after}"
