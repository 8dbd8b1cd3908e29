"""`stackbuild publish`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, get_args

from stackbuild.api import Project, UsageError, write_bootstrap
from stackbuild.cli.console import Console
from stackbuild.cli.options import add_flag, add_shared, add_value
from stackbuild.cli.output import print_answer, print_message
from stackbuild.compose.manifest import ArchiveFormat
from stackbuild.messages import size_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stackbuild.api.types import LayerFailure, PublishedLayer, PublishReport

EXAMPLES = """\
Examples:
  stackbuild publish                                     every layer, on the stack's platforms
  stackbuild publish --layer atls --platform host        atls and the layers below it
  stackbuild publish --layer framework --only --platform macosx-aarch64
  stackbuild publish --to /srv/layers --level 19
  stackbuild publish --to s3://bucket/stack              to an object store
  stackbuild publish --to oci://ghcr.io/team/stack       to a container registry
  stackbuild publish --spec bootstrap/venvstacks.toml --to /srv/layers \\
      --bootstrap https://layers.example.org             install.sh for machines without Python
  stackbuild publish --dry-run --json                    what would be published, for a script

A layer that is published already with the same contents is not written again. If a layer cannot be
composed, it and the layers that need this version of it are not published: their former versions
stay current. The others are published, and the exit code is that of the first failure.

To an object store or a container registry, layers are composed in exports/ of the project, and what
is missing there is sent: archives or frames, then manifests, and the index last and on top of what
others published meanwhile. Credentials are those of the store's own programs: AWS_PROFILE,
AWS_ACCESS_KEY_ID and so on, or what `docker login` or `podman login` stored.

With --dry-run, files that are missing in the wheelhouse or the cache are downloaded to a temporary
directory, which is removed at the end. Nothing is built from source then: run `stackbuild fetch`
first.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Compose layers and write archives, manifests and the index."
    parser.epilog = EXAMPLES
    add_shared(parser, "--spec", "--layer", "--platform")
    text = "a directory, s3://, gs://, az:// or oci:// (default: exports/ of the project)"
    add_value(parser, "--to", "PLACE", text)
    add_flag(parser, "--only", "without the layers below those of --layer")
    parser.add_argument(
        "--format",
        choices=get_args(ArchiveFormat),
        default="tar.zst",
        help="of the archives (default: tar.zst, the only format that can be installed)",
    )
    text = "zstd's level, 1 to 22 (default: the spec's, or 9)"
    add_value(parser, "--level", "N", text, type=_level)
    add_flag(parser, "--check", "read the published archives, and write damaged ones again")
    add_flag(parser, "--dry-run", "print what would be published; write temporary files only")
    text = "also write __venvstacks__/ beside the archives, as venvstacks does; later runs renew it"
    add_flag(parser, "--venvstacks-metadata", text)
    text = (
        "also write install.sh and install.ps1 for machines without Python; ADDRESS is where the "
        "directory is served, and the layer stackbuild must be published there"
    )
    add_value(parser, "--bootstrap", "ADDRESS", text)
    add_shared(parser, "--allow-unresolved", "--json")


def _level(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 22:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 22")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Publish, and print what is published."""
    if arguments.only and not arguments.layer:
        raise UsageError("--only needs a --layer", remedy="name the layers to publish alone")
    if arguments.bootstrap and (arguments.dry_run or "://" in (arguments.to or "")):
        raise UsageError(
            "--bootstrap writes into a directory, so it cannot be combined with --dry-run or with "
            "the address of a store",
            remedy="publish to a directory, and copy that",
        )
    console = Console(quiet=arguments.quiet)
    project = Project.load(arguments.spec, messages=console)
    report = project.publish(
        arguments.layer,
        arguments.platform,
        to=arguments.to,
        with_lower=not arguments.only,
        archive_format=arguments.format,
        level=arguments.level,
        check=arguments.check,
        venvstacks_metadata=arguments.venvstacks_metadata,
        allow_unresolved=arguments.allow_unresolved,
        dry_run=arguments.dry_run,
    )
    if arguments.dry_run:
        console.note("nothing is written; without --dry-run this would be published:")
    scripts: tuple[Path, ...] = ()
    if arguments.bootstrap and not report.failures:
        scripts = write_bootstrap(
            arguments.to or project.exports, arguments.bootstrap, messages=console
        )
    if report.layers or arguments.json:
        lines = omitted(report.layers)
        if arguments.dry_run or not arguments.quiet:
            lines = report_text(report.layers) + lines + [f"written    {one}" for one in scripts]
        answer = report_json(report)
        if scripts:
            answer["bootstrap"] = list(scripts)
        print_answer(answer, lines, as_json=arguments.json)
    return print_failures(report.failures)


def report_json(report: PublishReport) -> dict[str, object]:
    """The report as plain values for JSON."""
    return {
        "layers": [
            {
                "layer": item.manifest.layer,
                "platform": item.manifest.platform,
                "digest": item.manifest.digest,
                "archive": item.path,
                "size": item.manifest.archive.size,
                "new": item.is_new,
                "repaired": item.was_damaged,
                "download": item.download,
                "sent": item.sent,
                "omitted": {left.name: left.reason for left in item.manifest.omitted},
            }
            for item in report.layers
        ],
        "failures": [
            {
                "layer": failure.layer,
                "platform": failure.platform,
                "error": str(failure.error),
                "exit_code": failure.error.exit_code,
            }
            for failure in report.failures
        ],
    }


def report_text(layers: Sequence[PublishedLayer]) -> list[str]:
    """A line for each layer and platform, for people."""
    names = max((len(item.manifest.layer) for item in layers), default=0)
    platforms = max((len(item.manifest.platform) for item in layers), default=0)
    lines = []
    for item in layers:
        manifest = item.manifest
        word = "new" if item.is_new else "unchanged"
        word = "repaired" if item.was_damaged else word
        # Archives of other formats cannot be installed.
        fetched = manifest.archive.format == "tar.zst"
        is_upgrade = fetched and 0 < item.download < manifest.archive.size
        upgrade = f", an upgrade downloads {size_text(item.download)}" if is_upgrade else ""
        lines.append(
            f"{manifest.layer:<{names}}  {manifest.platform:<{platforms}}  {word:<9}  "
            f"{size_text(manifest.archive.size):>8}  {item.path}{upgrade}{_sent(item)}"
        )
    return lines


def _sent(item: PublishedLayer) -> str:
    if item.sent is None:
        return ""
    return f", {size_text(item.sent)} sent" if item.sent else ", complete there"


def omitted(layers: Sequence[PublishedLayer]) -> list[str]:
    """A line for each distribution that a layer lacks."""
    return [
        f"omitted {left.name} in {item.manifest.layer} on {item.manifest.platform}: {left.reason}"
        for item in layers
        for left in item.manifest.omitted
    ]


def print_failures(failures: Sequence[LayerFailure]) -> int:
    """Print each error once, with its layers. Returns the exit code of the first."""
    concerned: dict[str, list[str]] = {}
    for failure in failures:
        where = f"{failure.layer} on {failure.platform}"
        concerned.setdefault(str(failure.error), []).append(where)
    for text, layers in concerned.items():
        print_message(f"error: {text}\n  not published: {', '.join(layers)}")
    return failures[0].error.exit_code if failures else 0
