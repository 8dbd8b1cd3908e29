"""Check that the requirements of distributions are satisfied in their chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild.lock.targets import active, requested_extras
from stackbuild.platforms import marker_environment
from stackbuild.tomltext import layer_table
from stackbuild.verify.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packaging.requirements import Requirement

    from stackbuild.verify.deployed import DeployedLayer, Distribution
    from stackbuild.verify.model import Rules

    _Problem = tuple[str, str | None, str | None]
    """The problem, what was expected, and what was found."""


def effective(chain: Sequence[DeployedLayer]) -> dict[str, tuple[DeployedLayer, Distribution]]:
    """The distributions visible in the topmost layer of `chain`, by name: the nearest of each."""
    found: dict[str, tuple[DeployedLayer, Distribution]] = {}
    for layer in chain:
        for distribution in layer.distributions:
            found.setdefault(distribution.name, (layer, distribution))
    return found


def check_requirements(chain: Sequence[DeployedLayer], rules: Rules) -> list[Finding]:
    """A finding for each unsatisfied requirement of the first layer of `chain`.

    An extra applies if the spec or another distribution of the chain requests it. Distributions
    that were deliberately left out (`skip`, `exclude`, `optional-list`) are not reported.
    """
    layer = chain[0]
    environment = marker_environment(layer.manifest.platform, chain[-1].manifest.python_version)
    there = {name: distribution for name, (_, distribution) in effective(chain).items()}
    seen = _Seen(
        there=there,
        left_out=frozenset(
            one.name
            for lower in chain
            for one in (*lower.manifest.skipped, *lower.manifest.omitted)
        ),
        extras=requested_extras(
            {name: one.requires for name, one in there.items()}, rules.extras, environment
        ),
        environment=environment,
        rules=rules,
    )
    return [
        Finding(
            check="requirement",
            layer=layer.manifest.layer,
            distribution=str(distribution),
            message=message,
            expected=expected,
            found=found,
            remedy=f"lock {layer.manifest.layer} again; `no-deps` or `overrides` in "
            f"{layer_table(layer.manifest.layer)} accept it",
        )
        for distribution in layer.distributions
        for message, expected, found in (
            *_python_problems(distribution, environment["python_full_version"]),
            *_requirement_problems(distribution, seen),
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """The distributions visible in a layer, and their extras."""

    there: Mapping[str, Distribution]
    left_out: frozenset[str]
    extras: Mapping[str, set[str]]
    environment: Mapping[str, str]
    rules: Rules


def _python_problems(distribution: Distribution, python: str) -> Iterator[_Problem]:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    wanted = distribution.requires_python
    try:
        if wanted and not SpecifierSet(wanted).contains(python, prereleases=True):
            yield "does not support this Python", wanted, python
    except InvalidSpecifier:
        yield "has an invalid Requires-Python", None, wanted


def _requirement_problems(distribution: Distribution, seen: _Seen) -> Iterator[_Problem]:
    from packaging.requirements import InvalidRequirement
    from packaging.version import InvalidVersion

    if distribution.name in seen.rules.no_deps:
        return
    for text in distribution.requires:
        try:
            requirement = active(text, seen.extras[distribution.name], seen.environment)
            problem = None if requirement is None else _problem(requirement, seen)
        except (InvalidRequirement, InvalidVersion):
            problem = "has an invalid requirement", None, text
        if problem is not None:
            yield problem


def _problem(requirement: Requirement, seen: _Seen) -> _Problem | None:
    from packaging.utils import canonicalize_name

    name = canonicalize_name(requirement.name)
    found = seen.there.get(name)
    if found is None:
        message = "requires a distribution that is not in the chain"
        return None if name in seen.left_out else (message, str(requirement), None)
    fits = requirement.specifier.contains(found.version, prereleases=True)
    if fits or name in seen.rules.overridden:
        return None
    return "requires another version", str(requirement), str(found)
