"""The lines of the table: what was measured, what it is compared with, what was to be reached."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PRECISE_BELOW = 10
"""Figures below this are printed with two places, so that 1.27 and 1.3 differ."""


class Kind(StrEnum):
    """How a figure of ours stands against the one it is compared with."""

    FASTER = "times faster"
    """The peer's figure divided by ours: the more the better."""
    PART = "of the peer's"
    """Ours divided by the peer's: the less the better."""
    LIMIT = "at most"
    """Ours alone: the less the better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a line is to reach. `value` has the line's unit for LIMIT and none otherwise."""

    kind: Kind
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: a figure of stackbuild and, where there is one, its peer's, in one unit."""

    name: str
    ours: float
    peer: float | None = None
    unit: str = "s"
    against: str = ""
    """What the peer's figure is of."""
    kind: Kind = Kind.FASTER
    """How the two are compared where there is no target."""
    target: Target | None = None
    note: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for a comparison that has nothing to compare with."""
        if self.compared is not Kind.LIMIT and self.peer is None:
            raise ValueError(f"{self.name}: nothing to compare with")

    @property
    def compared(self) -> Kind:
        """How the two are compared: as the target says, if there is one."""
        return self.target.kind if self.target else self.kind

    @property
    def ratio(self) -> float | None:
        """The peer's figure to ours, or ours to the peer's; None where ours stands alone."""
        if self.compared is Kind.LIMIT or self.peer is None:
            return None
        if self.compared is Kind.FASTER:
            return self.peer / self.ours
        return self.ours / self.peer

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.target is None:
            return None
        reached = self.ours if self.ratio is None else self.ratio
        if self.target.kind is Kind.FASTER:
            return reached >= self.target.value
        return reached <= self.target.value


def figure(value: float, unit: str = "") -> str:
    """The number with as many places as it needs, and its unit."""
    if abs(value) < PRECISE_BELOW:
        text = f"{value:.2f}"
    else:
        text = f"{value:.1f}" if value < PRECISE_BELOW**2 else f"{value:.0f}"
    return f"{text} {unit}".rstrip()


def _ratio(line: Line) -> str:
    if line.ratio is None:
        return ""
    return figure(line.ratio) + (" times faster" if line.compared is Kind.FASTER else " of it")


def _target(line: Line) -> str:
    if line.target is None:
        return ""
    if line.target.kind is Kind.FASTER:
        return f"≥ {line.target.value:g} times faster"
    if line.target.kind is Kind.PART:
        return f"≤ {line.target.value:g} of it"
    return f"≤ {line.target.value:g} {line.unit}"


def _cells(line: Line) -> tuple[str, ...]:
    peer = "" if line.peer is None else figure(line.peer, line.unit)
    verdict = {True: "met", False: "MISSED", None: ""}[line.met]
    ours = figure(line.ours, line.unit)
    return (line.name, ours, peer, line.against, _ratio(line), _target(line), verdict)


HEADINGS = ("what", "stackbuild", "peer", "peer is", "ratio", "target", "")


def markdown(lines: Iterable[Line]) -> str:
    """The lines as a table, its columns aligned, and their notes below it."""
    lines = list(lines)
    rows = [HEADINGS, *map(_cells, lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    rows.insert(1, tuple("-" * width for width in widths))
    table = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    notes = [f"- {line.name}: {line.note}" for line in lines if line.note]
    return "\n".join([*table, "", *notes] if notes else table) + "\n"


def as_dict(line: Line) -> dict[str, object]:
    """The line, its ratio and whether its target is met, for the JSON copy."""
    return asdict(line) | {"ratio": line.ratio, "met": line.met}
