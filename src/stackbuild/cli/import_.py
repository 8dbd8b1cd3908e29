"""`stackbuild import`: make a stack out of an older project's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.cli.console import Console
from stackbuild.cli.main import add_json_argument, path_argument
from stackbuild.cli.output import print_json, print_lines
from stackbuild.cli.sharing import framework_lines, table_lines
from stackbuild.importers.convert import import_runenv
from stackbuild.importers.model import KINDS
from stackbuild.importers.report import as_json
from stackbuild.spec.reader import load_stack
from stackbuild.workspace import open_workspace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from stackbuild.importers.report import ImportReport

EXAMPLES = """\
`runenv` is the kind of runenv-python-3: shared-config.json, and a config.json for
each variant. Each variant becomes an application; what variants have in common
becomes frameworks, chosen so that all of them together are the fewest bytes. The
package index is asked for versions and sizes, and nothing is downloaded.

Examples:
  stackbuild import runenv . --dry-run
  stackbuild import runenv ../runenv-python-3 --to .
  stackbuild import runenv . --json > report.json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `import`."""
    parser.description = "Make a stack out of an older project's configuration."
    parser.epilog = EXAMPLES
    parser.add_argument("kind", choices=("runenv",), help="what the directory holds")
    parser.add_argument("directory", type=path_argument, metavar="DIR", help="the older repository")
    parser.add_argument(
        "--to",
        type=path_argument,
        metavar="DIR",
        help="where the stack is written (default: into the repository itself)",
    )
    parser.add_argument(
        "--index",
        metavar="URL",
        help="the default package index, where it is another than uv's",
    )
    parser.add_argument("--dry-run", action="store_true", help="only print the report")
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Import, and print the report."""
    directory: Path = arguments.directory.absolute()
    project = (arguments.to or directory).absolute()
    report = import_runenv(
        directory,
        open_workspace(project),
        Console(),
        index=arguments.index,
        write=not arguments.dry_run,
    )
    if arguments.json:
        print_json(as_json(report))
    else:
        print_lines(lines(report))
    if report.written:
        # What the report could not foresee is told now and not by the next command.
        load_stack(report.spec)
    return 0


def lines(report: ImportReport) -> Iterator[str]:
    """The report for a person."""
    count = len(report.environments)
    yield f"{report.repository}: {count} variant{'' if count == 1 else 's'}"
    for kind, heading in KINDS.items():
        notes = [note for note in report.notes if note.kind == kind]
        if notes:
            yield ""
            yield f"{heading}:"
            yield from (f"  {note.place}: {note.text}" for note in notes)
    yield ""
    if report.comparisons:
        yield from framework_lines(report.frameworks)
        yield from table_lines(report.comparisons)
        yield ""
    if report.written:
        yield f"written to {report.spec.parent}:"
        yield from (f"  {name}" for name in report.written)
        yield "next: stackbuild show, stackbuild lock"
    else:
        yield f"nothing was written; without --dry-run it would be {report.spec}"
