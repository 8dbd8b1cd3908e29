"""What environments share and what that spares, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.messages import size_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stackbuild.importers.report import Comparison, SharedLayer


def framework_lines(frameworks: Sequence[SharedLayer]) -> Iterator[str]:
    """The frameworks with what they hold."""
    if not frameworks:
        yield "frameworks: none, for no two environments hold the same files"
    for item in frameworks:
        yield f"framework {item.name}, for {', '.join(item.environments)}"
        if item.below:
            yield f"  stands on: {', '.join(item.below)}"
        names = dict.fromkeys(name for held in item.distributions.values() for name in held)
        yield f"  holds: {', '.join(sorted(names))}"


def table_lines(table: Sequence[Comparison]) -> Iterator[str]:
    """The bytes to fetch by platform and in all; interpreters and overlays are not counted."""
    now = any(item.now is not None for item in table)
    heads = ["to fetch for all", "separate environments"]
    heads += ["layers as they are", "layers proposed"] if now else ["layers"]
    rows = [
        (item.platform, [item.separate, *([item.now or 0] if now else []), item.layers])
        for item in table
    ]
    sums = [sum(column) for column in zip(*(sizes for _, sizes in rows), strict=True)]
    texts = [
        heads,
        *([name, *map(size_text, sizes)] for name, sizes in (*rows, ("all platforms", sums))),
    ]
    widths = [max(len(row[place]) for row in texts) for place in range(len(heads))]
    for first, *rest in texts:
        cells = [text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells])
