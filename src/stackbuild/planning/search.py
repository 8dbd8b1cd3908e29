"""The search for frameworks that minimise the total download of a set of environments.

Environments contain distributions of known size on platforms. The result is a family of
*frameworks*. A framework is a set of environments. On each platform it contains the distributions
that all of them have there, with all their requirements, so that it can be used by itself. An
environment depends on the frameworks of the sets that contain it, at most `longest_chain`; a
framework depends on those whose sets include its own.

The cost of a family on a platform is the sum of all layers, each counted once: the contents of
a framework are downloaded once, and not once for each environment.

`Contents` computes the contents of a family. Larger sets come first. A set takes what all its
environments have in common, without what an earlier set holds for any of them, and without what
would then lack something that it needs. `find` searches the family of the lowest cost. It starts
from several greedy families and moves to better neighbours (a set added, removed or replaced, or
one environment more or less in a set) until there are none. For up to five environments branch and
bound then visits all families, so that the answer is exact; a branch ends if even sharing all that
its sets could share would cost more than the best family so far.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild.planning.contents import Contents, bits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from stackbuild.planning.contents import Environment, Family

LONGEST_CHAIN = 3
"""In frameworks, for one environment."""

_EXACT_UP_TO = 5
"""Environments; beyond, there are too many families."""
_NODES = 10_000
_CANDIDATES = 150
_STEPS = 100
"""The search stops after this number of improvements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """A layer to be shared."""

    environments: frozenset[str]
    """The environments that depend on it."""
    contents: Mapping[str, frozenset[str]]
    """By platform: the keys of the distributions; a platform without any is left out."""
    below: tuple[int, ...]
    """The positions, in the choice, of the frameworks that it depends on; nearest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The frameworks for a set of environments."""

    frameworks: tuple[Framework, ...]
    """Lower ones first."""
    separate: Mapping[str, int]
    """By platform: the bytes of all environments, each without frameworks."""
    layered: Mapping[str, int]
    """By platform: the bytes of the frameworks and of what stays, each counted once."""
    exact: bool
    """Whether no family of frameworks costs less."""


def choose_frameworks(
    environments: Mapping[str, Environment],
    *,
    longest_chain: int = LONGEST_CHAIN,
    layer_bytes: int = 0,
) -> Choice:
    """The frameworks that minimise the total download of all `environments`.

    `layer_bytes` is the cost of an empty layer on a platform. The answer does not depend on the
    order of the input.
    """
    contents = Contents(environments, layer_bytes)
    family, exact = find(contents, longest_chain)
    placed = contents.place(family)
    frameworks: list[Framework] = []
    masks: list[int] = []
    for mask, held in zip(family, placed, strict=True):
        if any(held):
            lower = [n for n, other in enumerate(masks) if mask & other == mask]
            masks.append(mask)
            frameworks.append(
                Framework(
                    environments=frozenset(contents.names[number] for number in bits(mask)),
                    contents=contents.named(held),
                    below=tuple(reversed(lower)),
                )
            )
    return Choice(
        frameworks=tuple(frameworks),
        separate=contents.layered(()),
        layered=contents.layered(family),
        exact=exact,
    )


def find(contents: Contents, longest_chain: int) -> tuple[Family, bool]:
    """The best family that was found, and whether none can be better."""
    candidates = _candidates(contents)
    best: Family = ()
    for start in _beginnings(contents, candidates, longest_chain):
        best = min(best, _improve(contents, start, candidates, longest_chain), key=contents.rank)
    if contents.count > _EXACT_UP_TO:
        return best, not candidates
    return _branch_and_bound(contents, best, longest_chain)


def _candidates(contents: Contents) -> list[int]:
    """Sets that are maximal for what they share, and their intersections."""
    found = {contents.closure(mask) for mask in contents.holders()}
    found.add(contents.everyone)
    fresh = set(found)
    while fresh and len(found) < _CANDIDATES * 4:
        meets = {contents.closure(one & other) for one in fresh for other in found}
        fresh = {mask for mask in meets if mask.bit_count() > 1} - found
        found |= fresh
    worthy = [mask for mask in found if mask.bit_count() > 1 and contents.worth(mask) > 0]
    return sorted(worthy, key=lambda mask: (-contents.worth(mask), mask))[:_CANDIDATES]


def _beginnings(
    contents: Contents, candidates: Sequence[int], longest_chain: int
) -> Iterator[Family]:
    yield ()
    for key in (
        lambda mask: (-contents.worth(mask), mask),
        lambda mask: (-mask.bit_count(), -contents.worth(mask), mask),
        lambda mask: (mask.bit_count(), -contents.worth(mask), mask),
    ):
        family: Family = ()
        for mask in sorted(candidates, key=key):
            wider = contents.ordered((*family, mask))
            if fits(wider, longest_chain) and contents.rank(wider) < contents.rank(family):
                family = wider
        yield family


def fits(family: Iterable[int], longest_chain: int) -> bool:
    """Whether no environment is in more than `longest_chain` sets."""
    counts = Counter(place for mask in family for place in bits(mask))
    return max(counts.values(), default=0) <= longest_chain


def _improve(
    contents: Contents, family: Family, candidates: Sequence[int], longest_chain: int
) -> Family:
    for _ in range(_STEPS):
        rank = contents.rank(family)
        neighbours = _neighbours(contents, family, candidates, longest_chain)
        better = next((other for other in neighbours if contents.rank(other) < rank), None)
        if better is None:
            return family
        family = better
    return family


def _neighbours(
    contents: Contents, family: Family, candidates: Sequence[int], longest_chain: int
) -> Iterator[Family]:
    rest = [mask for mask in candidates if mask not in family]
    changed = [(*family, mask) for mask in rest]
    for place, mask in enumerate(family):
        others = (*family[:place], *family[place + 1 :])
        changed.append(others)
        changed += [(*others, other) for other in rest]
        for environment in range(contents.count):
            other = mask ^ 1 << environment
            if other.bit_count() > 1 and other not in others:
                changed.append((*others, other))
    for sets in changed:
        if fits(sets, longest_chain):
            yield contents.ordered(sets)


def _branch_and_bound(contents: Contents, best: Family, longest_chain: int) -> tuple[Family, bool]:
    """The best family of all; False with it where that would have taken too long."""
    everything = [mask for mask in range(1, contents.everyone + 1) if mask.bit_count() > 1]
    worthy = [mask for mask in everything if contents.worth(mask) > 0]
    worthy.sort(key=lambda mask: (-contents.worth(mask), mask))
    pending: list[tuple[Family, int]] = [((), 0)]
    nodes = 0
    while pending:
        chosen, place = pending.pop()
        nodes += 1
        if nodes > _NODES:
            return best, False
        family = contents.ordered(chosen)
        best = min(best, family, key=contents.rank)
        # The sets left to choose from, without those that would exceed a chain.
        rest = [mask for mask in worthy[place:] if fits((*chosen, mask), longest_chain)]
        least = contents.least((*chosen, *rest), len(chosen) + 1)
        if not rest or least >= contents.rank(best)[:2]:
            continue
        pending.extend(((*chosen, mask), worthy.index(mask) + 1) for mask in reversed(rest))
    return best, True
