"""C3 must be what Python does with its classes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackbuild.spec.references import LinearizeError, linearize

Graph = list[list[int]]
"""For each node the parents it depends on, all of them before it."""


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Graphs dense enough that many have no linearisation."""
    graph: Graph = []
    for node in range(draw(st.integers(1, 9))):
        parents = draw(st.lists(st.integers(0, node - 1), max_size=4, unique=True)) if node else []
        graph.append(parents)
    return graph


def by_python(graph: Graph) -> dict[int, tuple[int, ...] | None]:
    """Each node's order as the MRO of a class; None where Python refuses to make the class."""
    classes: dict[int, type] = {}
    orders: dict[int, tuple[int, ...] | None] = {}
    for node, parents in enumerate(graph):
        bases = tuple(classes[parent] for parent in parents if parent in classes)
        if len(bases) < len(parents):
            continue
        try:
            classes[node] = type(str(node), bases, {})
        except TypeError:
            orders[node] = None
        else:
            orders[node] = tuple(int(item.__name__) for item in classes[node].__mro__[:-1])
    return orders


@given(graphs())
def test_agrees_with_python(graph: Graph) -> None:
    mro: dict[int, tuple[int, ...]] = {}
    for node, expected in by_python(graph).items():
        if expected is None:
            with pytest.raises(LinearizeError):
                linearize(graph[node], mro)
        else:
            mro[node] = (node, *linearize(graph[node], mro))
            assert mro[node] == expected


def test_both_outcomes_are_common() -> None:
    """The strategy above reaches what it is for."""
    diamond: Graph = [[], [0], [0], [1, 2]]
    assert by_python(diamond)[3] == (3, 1, 2, 0)
    crossed: Graph = [[], [], [0, 1], [1, 0], [2, 3]]
    assert by_python(crossed)[4] is None


def test_parent_before_what_it_stands_on() -> None:
    mro = {"a": ["a"], "b": ["b", "a"]}
    assert linearize(["b", "a"], mro) == ("b", "a")
    with pytest.raises(LinearizeError) as caught:
        linearize(["a", "b"], mro)
    assert caught.value.orders == (("a",), ("b", "a"), ("a", "b"))


def test_a_parent_named_twice_is_refused_as_python_does() -> None:
    with pytest.raises(LinearizeError):
        linearize(["a", "a"], {"a": ["a"]})


def test_nothing_below() -> None:
    assert linearize([], {}) == ()


def test_many_layers_take_no_time() -> None:
    mro: dict[int, tuple[int, ...]] = {0: (0,)}
    for node in range(1, 400):
        mro[node] = (node, *linearize([node - 1], mro))
    assert mro[399] == tuple(range(399, -1, -1))
