"""The C3 linearisation, which Python uses for its classes.

See "The Python 2.3 Method Resolution Order", M. Simionato, python.org.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

T = TypeVar("T", bound="Hashable")


class LinearizeError(ValueError):
    """The `orders` contradict each other, so they cannot be merged."""

    def __init__(self, orders: Sequence[Sequence[object]]) -> None:
        self.orders = tuple(tuple(order) for order in orders)
        texts = (" before ".join(map(str, order)) for order in self.orders)
        super().__init__(f"orders contradict each other: {'; '.join(texts)}")


def linearize(parents: Sequence[T], mro: Mapping[T, Sequence[T]]) -> tuple[T, ...]:
    """The linearisation of the ancestors of a node that depends on `parents`.

    `mro` gives the linearisation of each parent, which begins with the parent
    itself. The result keeps the order of `parents` and of each linearisation.
    Raises LinearizeError if there is no such order.
    """
    orders = [deque(mro[parent]) for parent in parents] + [deque(parents)]
    # How many orders contain an entry anywhere but at their head.
    blocked = Counter(entry for order in orders for entry in list(order)[1:])
    result = []
    while orders := [order for order in orders if order]:
        chosen = next((order[0] for order in orders if not blocked[order[0]]), None)
        if chosen is None:
            raise LinearizeError(orders)
        result.append(chosen)
        for order in orders:
            if order[0] == chosen:
                order.popleft()
                if order:
                    blocked[order[0]] -= 1
    return tuple(result)
