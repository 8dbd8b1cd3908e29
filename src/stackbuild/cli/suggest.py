"""`stackbuild suggest`: frameworks for the stack that minimise the total download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.cli.console import Console
from stackbuild.cli.main import add_json_argument, add_spec_argument
from stackbuild.cli.output import print_json, print_lines
from stackbuild.messages import size_text
from stackbuild.planning.apply import apply
from stackbuild.planning.suggest import suggest
from stackbuild.spec.reader import load_stack
from stackbuild.workspace import open_workspace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from stackbuild.planning.model import Suggestion
    from stackbuild.spec.model import Stack

EXAMPLES = """\
The table compares the size of all layers together: with no frameworks, with
the layers as they are, and with the suggested frameworks. It counts whole
layers, as downloaded by users who unpack archives. `stackbuild install`
downloads a distribution that is in several layers only once in any case.
Versions and sizes are those of the locks.

With --apply the frameworks are written into a spec that has none. Each of them
requires exact versions; the applications keep their requirements. Comments and
formatting are kept.

Examples:
  stackbuild suggest
  stackbuild suggest --apply && stackbuild lock
  stackbuild suggest --spec other/venvstacks.toml --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `suggest`."""
    parser.description = "Suggest frameworks that minimise the total download of the stack."
    parser.epilog = EXAMPLES
    add_spec_argument(parser)
    parser.add_argument(
        "--apply", action="store_true", help="write the suggested frameworks into the spec"
    )
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search, and print the frameworks and sizes."""
    stack = load_stack(arguments.spec)
    found = suggest(stack, open_workspace(stack.directory), Console())
    applied = apply(stack, found) if arguments.apply else None
    if arguments.json:
        print_json(found.as_json() | ({} if applied is None else {"applied": applied}))
        return 0
    print_lines((*_frameworks(found), *_table(found)))
    if applied is not None:
        print_lines(_outcome(stack, applied=applied))
    return 0


def _outcome(stack: Stack, *, applied: bool) -> Iterator[str]:
    yield ""
    if applied:
        yield f"written to {stack.path}"
        yield "next: stackbuild lock, stackbuild show"
    else:
        yield f"nothing to apply: these frameworks save nothing; {stack.path} was not changed"


def _frameworks(found: Suggestion) -> Iterator[str]:
    if not found.frameworks:
        yield "no frameworks: the applications share nothing that would save downloads"
    for item in found.frameworks:
        yield f"framework {item.name}, for {', '.join(item.applications)}"
        if item.below:
            yield f"  depends on: {', '.join(item.below)}"
        names = {f"{d.name}=={d.version}" for held in item.held.values() for d in held.values()}
        yield f"  contains: {', '.join(sorted(names))}"


def _table(found: Suggestion) -> Iterator[str]:
    rows = [(row.platform, [row.separate, row.now, row.layers]) for row in found.table]
    sums = [sum(column) for column in zip(*(sizes for _, sizes in rows), strict=True)]
    texts = [
        ["total download", "no frameworks", "as it is", "suggested"],
        *([name, *map(size_text, sizes)] for name, sizes in (*rows, ("all platforms", sums))),
    ]
    widths = [max(len(row[place]) for row in texts) for place in range(len(texts[0]))]
    for first, *rest in texts:
        cells = [text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells])
