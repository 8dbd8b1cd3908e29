"""The frameworks that a stack could have, and the downloads that they save."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.utils import NormalizedName

    from stackbuild.lock.model import LockedDistribution
    from stackbuild.platforms import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class SuggestedFramework:
    """A new framework. Those that the stack has stay below it."""

    name: str
    runtime: str
    applications: tuple[str, ...]
    """The applications that depend on it, in the order of the spec."""
    depends_on: tuple[str, ...]
    """The frameworks that it names; empty if it depends on the runtime directly."""
    below: tuple[str, ...]
    """All frameworks below it, nearest first."""
    platforms: tuple[Platform, ...]
    """Its platforms that commands work on, for which its applications are locked."""
    held: Mapping[Platform, Mapping[NormalizedName, LockedDistribution]]
    """The distributions in it."""
    fields: Mapping[str, object] = field(default_factory=dict)
    """Fields of its `[[frameworks]]` table that it has in common with its applications."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """`[tool.stackbuild.layers.<name>]`, except for requirements of one platform."""

    def requirements(self) -> dict[Platform | None, tuple[str, ...]]:
        """An exact requirement for each distribution; None for those on all its platforms."""
        on: dict[str, list[Platform]] = {}
        for platform, items in self.held.items():
            for name, item in sorted(items.items()):
                on.setdefault(f"{name}=={item.version}", []).append(platform)
        everywhere = {text for text, where in on.items() if len(where) == len(self.platforms)}
        found: dict[Platform | None, tuple[str, ...]] = {None: tuple(sorted(everywhere))}
        for platform in self.platforms:
            if texts := {text for text, where in on.items() if platform in where} - everywhere:
                found[platform] = tuple(sorted(texts))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Bytes of all layers of the stack on one platform, without interpreters and overlays."""

    platform: Platform
    separate: int
    """With no frameworks."""
    layers: int
    """With the suggested frameworks and those that the stack has."""
    now: int
    """With the frameworks that the stack has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """The result of a search."""

    frameworks: tuple[SuggestedFramework, ...]
    """Lower ones first."""
    table: tuple[Comparison, ...]
    exact: bool
    """Whether no other new frameworks would save more."""

    def chain(self, application: str) -> tuple[str, ...]:
        """The frameworks that `application` then names; empty if nothing changes for it."""
        found = [item for item in reversed(self.frameworks) if application in item.applications]
        implied = {name for item in found for name in item.below}
        return tuple(item.name for item in found if item.name not in implied)
