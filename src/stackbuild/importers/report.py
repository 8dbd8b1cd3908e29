"""What an import did, as text and as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stackbuild.importers.frameworks import Choice
    from stackbuild.importers.model import Note


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLayer:
    """A framework, as a report tells of it. Platforms and names are text, for printing."""

    name: str
    environments: tuple[str, ...]
    below: tuple[str, ...]
    requirements: tuple[str, ...]
    distributions: Mapping[str, tuple[str, ...]]
    """By platform: name and version of each."""
    sizes: Mapping[str, int]
    """By platform: bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Bytes to fetch for all environments, on one platform."""

    platform: str
    separate: int
    """With an environment each."""
    layers: int
    """With the frameworks."""
    now: int | None = None
    """With the layers that the stack has now, where it has any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What was read, and what it became."""

    repository: Path
    spec: Path
    written: tuple[str, ...]
    """Relative to the directory of the spec; empty for a dry run."""
    environments: tuple[tuple[str, str], ...]
    """Directory and layer of each variant."""
    frameworks: tuple[SharedLayer, ...]
    comparisons: tuple[Comparison, ...]
    """Empty where no index was asked."""
    exact: bool
    notes: tuple[Note, ...]
    text: str
    """The stack."""


def comparisons(
    choices: Sequence[Choice], now: Mapping[str, int] | None = None
) -> tuple[Comparison, ...]:
    """The bytes of several choices together, by platform."""
    platforms = list(dict.fromkeys(p for choice in choices for p in choice.separate))
    return tuple(
        Comparison(
            platform=str(platform),
            separate=sum(choice.separate.get(platform, 0) for choice in choices),
            layers=sum(choice.layered.get(platform, 0) for choice in choices),
            now=now.get(platform, 0) if now is not None else None,
        )
        for platform in platforms
    )


def as_json(report: ImportReport) -> dict[str, Any]:
    """The report for a script."""
    return {
        "repository": str(report.repository),
        "spec": str(report.spec),
        "written": list(report.written),
        "environments": [
            {"directory": directory, "layer": layer} for directory, layer in report.environments
        ],
        **choice_as_json(report.frameworks, report.comparisons, report.exact),
        "notes": [asdict(note) for note in report.notes],
        "text": report.text,
    }


def choice_as_json(
    frameworks: Sequence[SharedLayer], table: Sequence[Comparison], exact: bool
) -> dict[str, Any]:
    """Frameworks and bytes for a script."""
    return {
        "frameworks": [asdict(item) for item in frameworks],
        "bytes": [asdict(item) for item in table],
        "exact": exact,
    }
