"""`stackbuild install`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import install, preview_install
from stackbuild.cli.console import Console
from stackbuild.cli.diff import fetch_text, upgrade_text
from stackbuild.cli.options import (
    PUBLISHED_HELP,
    ROOT_HELP,
    add_flag,
    add_place,
    add_shared,
    add_value,
    root_here,
)
from stackbuild.cli.output import print_answer
from stackbuild.messages import size_text

if TYPE_CHECKING:
    import argparse

    from stackbuild.api.types import InstallReport

EXAMPLES = """\
Examples:
  stackbuild install atls --from exports --root ~/envs
  stackbuild install atls pgen --from https://layers.example.org/stack --root /opt/envs
  stackbuild install 'app-*' --from exports --root ~/envs
  stackbuild install atls@7 --from exports --root ~/envs
  stackbuild install atls --root ~/envs --dry-run

Only missing files are downloaded. The root does not change until all of them are downloaded
and checked. After a failure, the same command continues where it stopped.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Install layers, and the layers below them, into a root."
    parser.epilog = EXAMPLES
    parser.add_argument("layers", nargs="+", metavar="LAYER", help=PUBLISHED_HELP)
    add_place(
        parser,
        "where layers are published: a directory or an address "
        "(default: where the layers of the root came from)",
    )
    add_value(parser, "--root", "DIR", f"the directory to install into {ROOT_HELP}")
    add_value(parser, "--platform", "PLATFORM", "of a new root (default: this machine's)")
    add_value(
        parser,
        "--store",
        "DIR",
        "where frames are unpacked; several roots on one file system can share it "
        "(default: that of the earlier install, else in the root)",
    )
    text = "change nothing; print what would change and be fetched"
    add_flag(parser, "--dry-run", text)
    add_shared(parser, "--no-sync", "--json")


def run(arguments: argparse.Namespace) -> int:
    """Install, and print what the root now contains."""
    root, console = root_here(arguments.root), Console(quiet=arguments.quiet)
    if arguments.dry_run:
        preview = preview_install(
            arguments.layers,
            root,
            registry=arguments.place,
            platform=arguments.platform,
            store=arguments.store,
            messages=console,
        )
        lines = [*upgrade_text(preview), *fetch_text(preview)]
        print_answer(preview, lines, as_json=arguments.json)
        return 0
    report = install(
        arguments.layers,
        root,
        registry=arguments.place,
        platform=arguments.platform,
        store=arguments.store,
        sync=not arguments.no_sync,
        messages=console,
    )
    print_answer(
        report_json(report), report_text(report), as_json=arguments.json, quiet=arguments.quiet
    )
    return 0


def report_json(report: InstallReport) -> dict[str, object]:
    """The report of an install or uninstall as plain values for JSON."""
    return {
        "root": report.root,
        "platform": report.platform,
        "generation": report.generation,
        "changed": report.changed,
        "added": report.added,
        "repaired": report.repaired,
        "removed": report.removed,
        "fetched": {"frames": report.fetched_frames, "bytes": report.fetched_bytes},
        "layers": [
            {
                "layer": item.manifest.layer,
                "directory": item.manifest.directory,
                "digest": item.manifest.digest,
                "asked": item.asked,
            }
            for item in report.layers
        ],
    }


def report_text(report: InstallReport) -> list[str]:
    """An install's or uninstall's report for people."""
    if not report.changed:
        return [f"nothing to do: {report.root} is up to date (generation {report.generation})"]
    lines = []
    for manifest in (item.manifest for item in report.layers):
        name = manifest.directory
        word = "installed" if name in report.added else "kept"
        word = "repaired" if name in report.repaired else word
        lines.append(f"{word:<10} {name} {manifest.digest[:12]}")
    lines += [f"{'removed':<10} {name}" for name in report.removed]
    fetched = (
        f", {report.fetched_frames} frames fetched ({size_text(report.fetched_bytes)})"
        if report.fetched_frames
        else ""
    )
    return [*lines, f"{report.root}: generation {report.generation}{fetched}"]
