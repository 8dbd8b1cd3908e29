"""`stackbuild suggest`: frameworks for the stack that minimise the total download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import Project
from stackbuild.cli.console import Console
from stackbuild.cli.options import add_flag, add_shared
from stackbuild.cli.output import grouped, print_json, print_lines
from stackbuild.messages import size_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from stackbuild.api.types import Suggestion

EXAMPLES = """\
The table compares the size of all layers together: with no frameworks, with
the layers as they are, and with the suggested frameworks. It counts whole
layers, as downloaded by users who unpack archives. `stackbuild install`
downloads a distribution that is in several layers only once in any case.
Versions and sizes are those of the locks.

Frameworks that the stack has stay. Applications that depend on the same ones
can share a new framework, which depends on these. With --apply the new
frameworks are written into the spec. Each of them requires exact versions; the
applications keep their requirements. Comments and formatting are kept.

All applications must be locked on all their platforms. Those that cannot be
are left out with --layer, which names the others.

Examples:
  stackbuild suggest
  stackbuild suggest --layer pgen --layer 'h5ad*'
  stackbuild suggest --apply && stackbuild lock
  stackbuild suggest --spec other/venvstacks.toml --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `suggest`."""
    parser.description = "Suggest frameworks that minimise the total download of the stack."
    parser.epilog = EXAMPLES
    add_shared(parser, "--spec", "--layer")
    add_flag(parser, "--apply", "write the suggested frameworks into the spec")
    add_shared(parser, "--json")


def run(arguments: argparse.Namespace) -> int:
    """Search, and print the frameworks and sizes."""
    project = Project.load(arguments.spec, messages=Console(quiet=arguments.quiet))
    found = project.suggest(arguments.layer)
    applied = project.apply_suggestion(found) if arguments.apply else None
    if arguments.json:
        print_json(_json(found) | ({} if applied is None else {"applied": applied}))
        return 0
    print_lines((*framework_lines(found), *_table(found)))
    if applied is not None:
        print_lines(_outcome(project.spec, applied=applied))
    return 0


def _json(found: Suggestion) -> dict[str, object]:
    return {
        "frameworks": [
            {
                "name": item.name,
                "applications": item.applications,
                "below": item.below,
                "distributions": {
                    platform: [f"{one.name}=={one.version}" for one in held.values()]
                    for platform, held in item.held.items()
                },
                "sizes": {
                    platform: sum(one.wheel.size for one in held.values())
                    for platform, held in item.held.items()
                },
            }
            for item in found.frameworks
        ],
        "bytes": found.table,
        "exact": found.exact,
    }


def _outcome(spec: Path, *, applied: bool) -> Iterator[str]:
    yield ""
    if applied:
        yield f"written to {spec}"
        yield "next: stackbuild lock, stackbuild show"
    else:
        yield f"nothing to apply: these frameworks save nothing; {spec} was not changed"


def framework_lines(found: Suggestion) -> Iterator[str]:
    """The suggested frameworks, for a person."""
    if not found.frameworks:
        yield "no frameworks: the applications share nothing that would save downloads"
    for item in found.frameworks:
        yield f"framework {item.name}, for {', '.join(item.applications)}"
        if item.below:
            yield f"  depends on: {', '.join(item.below)}"
        requirements = item.requirements()
        if everywhere := requirements.pop(None, ()):
            yield f"  contains: {', '.join(everywhere)}"
        for platforms, texts in grouped(requirements):
            yield f"  contains on {platforms}: {texts}"


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
