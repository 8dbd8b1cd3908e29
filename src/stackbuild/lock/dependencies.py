"""Requirements of distributions (`Requires-Dist`), with markers and extras (PEP 508)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from packaging.requirements import Requirement


def active(text: str, extras: Iterable[str], environment: Mapping[str, str]) -> Requirement | None:
    """The requirement `text`, if its marker is true with any of `extras` or with none.

    Raises InvalidRequirement.
    """
    from packaging.requirements import Requirement

    requirement = Requirement(text)
    marker = requirement.marker
    if marker is None or any(
        marker.evaluate({**environment, "extra": extra}) for extra in ("", *sorted(extras))
    ):
        return requirement
    return None


def all_active(
    texts: Iterable[str], extras: Iterable[str], environment: Mapping[str, str]
) -> Iterator[Requirement]:
    """Each requirement of a distribution that is `active`; invalid ones are ignored, as by uv."""
    from packaging.requirements import InvalidRequirement

    for text in texts:
        try:
            requirement = active(text, extras, environment)
        except InvalidRequirement:
            continue
        if requirement:
            yield requirement


def requested_extras(
    requires: Mapping[str, Sequence[str]],
    asked: Mapping[str, Collection[str]],
    environment: Mapping[str, str],
) -> dict[str, set[str]]:
    """The extras of each distribution that are required, directly or through other extras.

    `requires` are the requirements of the present distributions, by name; `asked`
    are the extras required from outside. Invalid requirements are ignored.
    """
    from packaging.utils import canonicalize_name

    extras = {name: set(asked.get(name, ())) for name in requires}
    changed = True
    while changed:
        changed = False
        for name, texts in requires.items():
            for requirement in all_active(texts, frozenset(extras[name]), environment):
                other = canonicalize_name(requirement.name)
                if other in extras and not extras[other] >= requirement.extras:
                    extras[other] |= requirement.extras
                    changed = True
    return extras


def unknown_extras(requirement: Requirement, known: Iterable[str]) -> list[str]:
    """The extras of `requirement` that are not among those `known` of its distribution, sorted."""
    from packaging.utils import canonicalize_name

    names = {canonicalize_name(extra) for extra in known}
    return sorted(extra for extra in requirement.extras if canonicalize_name(extra) not in names)
