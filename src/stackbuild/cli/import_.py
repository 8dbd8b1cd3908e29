"""`stackbuild import`: make a stack out of an older project's configuration."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from stackbuild.api import Project, import_runenv
from stackbuild.cli.options import add_flag, add_shared, add_value
from stackbuild.cli.output import print_answer

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from stackbuild.api.types import ImportReport, Note, NoteKind

EXAMPLES = """\
`runenv` reads a repository of the kind of runenv-python-3: shared-config.json,
and a config.json for each variant. Each variant becomes one application on a
runtime. The import needs no network. It writes no frameworks: after
`stackbuild lock`, `stackbuild suggest` suggests frameworks for the stack.

Examples:
  stackbuild import runenv . --dry-run
  stackbuild import runenv ../runenv-python-3 --to .
  stackbuild import runenv . --json > report.json
"""

_IMPORTANT: dict[str, tuple[NoteKind, ...]] = {
    "will behave differently": ("differs", "without-counterpart", "unknown"),
    "needs an answer": ("question",),
}
"""The kinds of notes that are always printed, in the order of the report."""
_COUNTED: dict[str, NoteKind] = {"carried over": "became", "had no effect": "needless"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `import`."""
    parser.description = "Make a stack out of an older project's configuration."
    parser.epilog = EXAMPLES
    parser.add_argument("kind", choices=("runenv",), help="the kind of project in DIR")
    add_value(parser, "directory", "DIR", "the older repository")
    text = "where the stack is written (default: into the repository itself)"
    add_value(parser, "--to", "DIR", text)
    add_value(parser, "--index", "URL", "the default package index of the stack, if it is not uv's")
    add_flag(parser, "--dry-run", "only print the report")
    add_flag(parser, "--verbose", "print what was carried over and what had no effect too")
    add_shared(parser, "--json")


def run(arguments: argparse.Namespace) -> int:
    """Import, and print the report."""
    report = import_runenv(
        arguments.directory, arguments.to, index=arguments.index, write=not arguments.dry_run
    )
    variants = [{"directory": name, "layer": layer} for name, layer in report.environments]
    value = asdict(report) | {"environments": variants}
    print_answer(value, lines(report, verbose=arguments.verbose), as_json=arguments.json)
    if report.written:
        # Errors that the import itself does not check show up here, not in the next command.
        Project.load(report.spec)
    return 0


def lines(report: ImportReport, *, verbose: bool) -> Iterator[str]:
    """The report for a person, the most important first; with `verbose` all of its notes."""
    count = len(report.environments)
    yield f"{report.repository}: {count} variant{'' if count == 1 else 's'}"
    counted = {heading: (kind,) for heading, kind in _COUNTED.items()}
    for heading, kinds in {**_IMPORTANT, **(counted if verbose else {})}.items():
        if notes := [note for kind in kinds for note in report.notes if note.kind == kind]:
            yield ""
            yield f"{heading}:"
            yield from _each(notes) if verbose else _together(notes)
    yield ""
    found = [note.kind for note in report.notes]
    if not verbose:
        counts = (f"{found.count(kind)} {heading}" for heading, kind in _COUNTED.items())
        yield f"settings: {', '.join(counts)}; --verbose lists them"
    if report.written:
        yield f"written to {report.spec.parent}:"
        yield from (f"  {name}" for name in report.written)
        yield "next: stackbuild show, stackbuild lock, stackbuild suggest"
    else:
        yield f"nothing was written; without --dry-run it would be {report.spec}"


def _each(notes: Iterable[Note]) -> Iterator[str]:
    return (f"  {note.place}: {note.text}" for note in notes)


def _together(notes: Iterable[Note]) -> Iterator[str]:
    """A line for what several places with the same last key have alike, with the first of them."""
    places: dict[tuple[str, str], list[str]] = {}
    for note in notes:
        key = note.place.rpartition(".")[2].partition("[")[0]
        places.setdefault((key, note.text), []).append(note.place)
    for (_, text), found in places.items():
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        yield f"  {found[0]}{more}: {text}"
