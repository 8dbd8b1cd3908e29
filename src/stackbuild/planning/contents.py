"""The contents and the cost of a family of frameworks. `search` explains the terms.

Sets of environments and of distributions are integers with a bit for each member.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

Family = tuple[int, ...]
"""Sets of environments, in the order of `Contents.ordered`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The contents of one environment on one or more platforms.

    A distribution is known by its key, which differs wherever the files may:
    ``numpy==2.2.6``. The part before ``==`` is its name.
    """

    sizes: Mapping[str, Mapping[str, int]]
    """By platform and key: bytes."""
    needs: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    """By platform and key: the names of what it needs. It cannot be shared if the
    environment does not have one of them."""
    excluded: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By platform: the names of distributions that are left out, though others may need them."""


def name_of(key: str) -> str:
    """The name in a key."""
    return key.partition("==")[0]


def bits(mask: int) -> Iterator[int]:
    """The members of a set, in rising order."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class _Side:
    """One platform."""

    def __init__(self, platform: str, environments: Sequence[Environment]) -> None:
        self.platform = platform
        held = [item.sizes.get(platform, {}) for item in environments]
        self.keys = sorted({key for sizes in held for key in sizes})
        place = {key: number for number, key in enumerate(self.keys)}
        self.present = sum(
            1 << number for number, item in enumerate(environments) if platform in item.sizes
        )
        # A size is that of a file; if environments differ, the largest counts.
        self.sizes = [max(sizes.get(key, 0) for sizes in held) for key in self.keys]
        self.held = [sum(1 << place[key] for key in sizes) for sizes in held]
        self._by_name = [{name_of(key): place[key] for key in sizes} for sizes in held]
        self._needs = [
            {place[key]: names for key, names in item.needs.get(platform, {}).items()}
            for item in environments
        ]
        self._excluded = [item.excluded.get(platform, frozenset()) for item in environments]
        self._common: dict[int, int] = {}
        self._weights: dict[int, int] = {0: 0}

    def weight(self, keys: int) -> int:
        """The bytes of a set of distributions."""
        if keys not in self._weights:
            self._weights[keys] = sum(self.sizes[place] for place in bits(keys))
        return self._weights[keys]

    def common(self, environments: int) -> int:
        """The keys that all `environments` have here, with all that they need."""
        members = environments & self.present
        if members not in self._common:
            keys = -1 if members else 0
            for place in bits(members):
                keys &= self.held[place]
            self._common[members] = self.closed(keys, keys, members)
        return self._common[members]

    def closed(self, keys: int, available: int, environments: int) -> int:
        """The most of `keys` that needs nothing but itself and `available`."""
        lower = available & ~keys
        members = list(bits(environments & self.present))
        while True:
            lacking = 0
            for place in bits(keys):
                if not self._satisfied(place, keys | lower, members):
                    lacking |= 1 << place
            if not lacking:
                return keys
            keys &= ~lacking

    def with_needs(self, names: Collection[str], environments: int) -> int:
        """The `names` in the only one of `environments` here, with all that they need."""
        (member,) = bits(environments & self.present)
        by_name, needs = self._by_name[member], self._needs[member]
        keys, pending = 0, [by_name[name] for name in names if name in by_name]
        while pending:
            key = pending.pop()
            if not keys >> key & 1:
                keys |= 1 << key
                pending += [by_name[name] for name in needs.get(key, ()) if name in by_name]
        return keys

    def _satisfied(self, key: int, available: int, members: Sequence[int]) -> bool:
        """Whether everything that all `members` need for `key` is present.

        What only some of them need comes with extras, and is held by those that ask for the
        extras. But what one needs and another leaves out on purpose counts as needed.
        """
        needs = [self._needs[place].get(key, frozenset()) for place in members]
        wanted = frozenset().union(*needs)
        for place, names in zip(members, needs, strict=True):
            wanted &= names | self._excluded[place]
        for name in wanted:
            found = self._by_name[members[0]].get(name)
            if found is None or not available >> found & 1:
                return False
        return True


class Contents:
    """The environments of one search."""

    def __init__(self, environments: Mapping[str, Environment], layer_bytes: int) -> None:
        self.names = sorted(environments)
        self.count = len(self.names)
        self.everyone = (1 << self.count) - 1
        self._layer_bytes = layer_bytes
        ordered = [environments[name] for name in self.names]
        platforms = sorted({platform for item in ordered for platform in item.sizes})
        self._sides = [_Side(platform, ordered) for platform in platforms]
        self._ranks: dict[Family, tuple[int, int, Family]] = {}
        self._worths: dict[int, int] = {}

    def holders(self) -> set[int]:
        """For each distribution on each platform, the environments that have it."""
        found = set()
        for side in self._sides:
            for key in range(len(side.keys)):
                found.add(sum(1 << n for n, held in enumerate(side.held) if held >> key & 1))
        return {mask for mask in found if mask.bit_count() > 1}

    def closure(self, mask: int) -> int:
        """The largest set of environments that has all in common that `mask` has."""
        wider = mask
        for number in range(self.count):
            one = 1 << number
            if not mask & one and all(
                not side.present & one or side.common(mask) == side.common(mask | one)
                for side in self._sides
            ):
                wider |= one
        return wider

    def worth(self, mask: int) -> int:
        """The bytes that a set would save as the only framework."""
        if mask not in self._worths:
            self._worths[mask] = sum(
                side.weight(side.common(mask)) * _spared(mask, side) for side in self._sides
            )
        return self._worths[mask]

    def ordered(self, sets: Iterable[int]) -> Family:
        """The sets without repetition, larger ones first, then those that save more."""
        return tuple(
            sorted(set(sets), key=lambda mask: (-mask.bit_count(), -self.worth(mask), mask))
        )

    def place(self, family: Family) -> list[list[int]]:
        """For each set, its contents on each platform.

        If only one of its environments is on a platform, it has the same contents
        there as elsewhere, with their requirements: this makes no difference in
        bytes, and the layers are the same on all platforms.
        """
        placed = [[0] * len(self._sides) for _ in family]
        names: list[set[str]] = [set() for _ in family]
        for alone in (False, True):
            for number, side in enumerate(self._sides):
                for place, mask in enumerate(family):
                    if ((mask & side.present).bit_count() == 1) is not alone:
                        continue
                    keys = side.common(mask)
                    if alone:
                        keys = side.with_needs(names[place], mask)
                    placed[place][number] = keys = self._free(keys, place, family, placed, number)
                    if not alone:
                        names[place].update(name_of(side.keys[key]) for key in bits(keys))
        return placed

    def _free(
        self, keys: int, place: int, family: Family, placed: Sequence[Sequence[int]], number: int
    ) -> int:
        """The `keys` that no other set has for any environment of the set at `place`."""
        side = self._sides[number]
        mask = family[place]
        lower = blocked = 0
        for other, held in enumerate(placed):
            if other == place or not family[other] & mask & side.present:
                continue
            if other < place and family[other] & mask == mask:
                lower |= held[number]
            else:
                blocked |= held[number]
        keys &= ~(lower | blocked)
        return side.closed(keys, keys | lower, mask) if blocked else keys

    def rank(self, family: Family) -> tuple[int, int, Family]:
        """The bytes of a family, then its size: the lower the better."""
        if family not in self._ranks:
            self._ranks[family] = (sum(self.layered(family).values()), len(family), family)
        return self._ranks[family]

    def layered(self, family: Family) -> dict[str, int]:
        """By platform: the bytes of all layers."""
        placed = self.place(family)
        totals = {}
        for number, side in enumerate(self._sides):
            total = self._separate(side)
            for mask, held in zip(family, placed, strict=True):
                total -= side.weight(held[number]) * _spared(mask, side)
                total += self._layer_bytes if held[number] else 0
            totals[side.platform] = total
        return totals

    def _separate(self, side: _Side) -> int:
        """The bytes on a platform without any framework."""
        own = sum(side.weight(side.held[number]) for number in bits(side.present))
        return own + self._layer_bytes * side.present.bit_count()

    def least(self, sets: Sequence[int], count: int) -> tuple[int, int]:
        """Not above the rank of any family made of at least `count` of `sets`."""
        total = 0
        for side in self._sides:
            covered = [0] * len(side.keys)
            for mask in sets:
                for key in bits(side.common(mask)):
                    covered[key] |= mask & side.present
            total += self._separate(side) - sum(
                size * max(0, mask.bit_count() - 1)
                for size, mask in zip(side.sizes, covered, strict=True)
            )
        return total, count

    def named(self, held: Sequence[int]) -> dict[str, frozenset[str]]:
        """The contents of a set, by platform and with keys."""
        return {
            side.platform: frozenset(side.keys[place] for place in bits(keys))
            for side, keys in zip(self._sides, held, strict=True)
            if keys
        }


def _spared(mask: int, side: _Side) -> int:
    """How many copies a set spares on a platform."""
    return max(0, (mask & side.present).bit_count() - 1)
