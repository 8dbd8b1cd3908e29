"""What a layer depends on: its runtime, its frameworks in order, their package indexes."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from stackbuild.reading import Item, did_you_mean
from stackbuild.spec.model import LayerKind, Setting
from stackbuild.spec.table import join
from stackbuild.spec.values import as_distribution, as_index

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Sequence

    from packaging.utils import NormalizedName

    from stackbuild.spec.model import Layer
    from stackbuild.spec.table import Problems, Table

T = TypeVar("T", bound="Hashable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The names in the file, and the layers that were read before the current one."""

    kinds: Mapping[str, LayerKind]
    """The kind of every layer of the file, including later ones."""
    passed: Collection[str]
    """The names before this one in the file."""
    sound: Mapping[str, Layer]
    """Those of them whose lower layers were found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lower:
    """The layers below one layer, by name."""

    runtime: str
    frameworks: tuple[str, ...]
    """Linearised, nearest first."""


def read_lower(table: Table, name: str | None, known: Known) -> Lower | None:
    """The layers below `name`; None after a problem, which is noted."""
    runtime = table.text("runtime")
    frameworks = table.texts("frameworks")
    if table.has("runtime") and table.has("frameworks"):
        table.problems.add(
            table.place,
            "sets both runtime and frameworks",
            expected="one of them; frameworks determine the runtime",
        )
    elif table.has("runtime"):
        item = Item(table.place_of("runtime"), runtime) if runtime else None
        found = item and _resolve(item, LayerKind.RUNTIME, name, known, table.problems)
        return Lower(runtime=found.name, frameworks=()) if found else None
    elif table.values.get("frameworks", []) == []:
        table.problems.add(
            table.place, "depends on no layer", expected="a runtime, or at least one framework"
        )
    elif frameworks:
        return _from_frameworks(table, frameworks, name, known)
    return None


def _resolve(
    item: Item[str], kind: LayerKind, name: str | None, known: Known, problems: Problems
) -> Layer | None:
    value = item.value
    actual = known.kinds.get(value)
    if actual is None:
        valid = [other for other, other_kind in known.kinds.items() if other_kind is kind]
        problems.add(
            item.place,
            f"unknown {kind}",
            expected=f"one of {', '.join(valid)}" if valid else f"the name of a {kind}",
            found=value,
            hint=did_you_mean(value, valid),
        )
    elif value == name:
        problems.add(item.place, "the layer depends on itself", found=value)
    elif actual is not kind:
        article = "an" if actual is LayerKind.APPLICATION else "a"
        problems.add(item.place, f"not a {kind}", found=value, hint=f"it is {article} {actual}")
    elif value not in known.passed:
        problems.add(
            item.place,
            "is defined later in the file",
            found=value,
            hint="move it above the layers that depend on it",
        )
    else:
        return known.sound.get(value)
    return None


def _from_frameworks(
    table: Table, items: Sequence[Item[str]], name: str | None, known: Known
) -> Lower | None:
    found: dict[str, Layer | None] = {}
    for item in items:
        if item.value in found:
            table.problems.add(item.place, "named twice", found=item.value)
        else:
            found[item.value] = _resolve(item, LayerKind.FRAMEWORK, name, known, table.problems)
    layers = [layer for layer in found.values() if layer]
    if len(layers) < len(found):
        return None
    if len({layer.runtime for layer in layers}) > 1:
        runtimes = ", ".join(f"{layer.name} on {layer.runtime}" for layer in layers)
        table.problems.add(
            table.place_of("frameworks"),
            f"the frameworks depend on different runtimes: {runtimes}",
            expected="one runtime below a layer",
        )
        return None
    mro = {name: (name, *layer.frameworks) for name, layer in known.sound.items()}
    try:
        order = linearize([layer.name for layer in layers], mro)
    except LinearizeError as error:
        table.problems.add(
            table.place_of("frameworks"),
            "the frameworks cannot be put in one order",
            hint=_contradiction(error),
        )
        return None
    return Lower(runtime=layers[0].runtime, frameworks=order)


def _contradiction(error: LinearizeError) -> str:
    orders = (" before ".join(map(str, order)) for order in error.orders if len(order) > 1)
    return "contradicting orders: " + "; ".join(dict.fromkeys(orders))


class LinearizeError(ValueError):
    """The `orders` contradict each other, so they cannot be merged."""

    def __init__(self, orders: Sequence[Sequence[object]]) -> None:
        self.orders = tuple(tuple(order) for order in orders)


def linearize(parents: Sequence[T], mro: Mapping[T, Sequence[T]]) -> tuple[T, ...]:
    """The C3 linearisation of the ancestors of a node that depends on `parents`.

    Python uses it for its classes: "The Python 2.3 Method Resolution Order", M. Simionato.

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


Indexes = Mapping["NormalizedName", Setting]
"""Distribution to the name of the index it must come from, and the place that says so."""


def read_package_indexes(
    table: Table,
    lower: Lower | None,
    indexes_of: Mapping[str, Indexes],
    index_names: Collection[str],
) -> Indexes:
    """`package_indexes`, with those of the lower layers merged in.

    A layer may use another index for a distribution than a lower layer or a
    sibling framework only if its `index_overrides` allow that index as a
    replacement. `indexes_of` contains the results for the lower layers.
    """
    overrides = _read_overrides(table, index_names)
    declared = _read_declared(table, index_names)
    merged: dict[NormalizedName, Setting] = {}
    # Nearest first: the framework that is imported first also determines the index.
    # The indexes of a runtime are in those of its frameworks, which may replace them.
    layers = (lower.frameworks or (lower.runtime,)) if lower else ()
    for layer in layers:
        for distribution, index in indexes_of.get(layer, {}).items():
            chosen = merged.setdefault(distribution, index).value
            if chosen not in (index.value, overrides.get(str(index.value))):
                table.problems.add(
                    table.place,
                    f"lower layers take {distribution} from different indexes, "
                    f"{chosen} and {index.value}",
                    hint=_accept(index.value, chosen),
                )
    for distribution, item in declared.items():
        below = str(merged[distribution].value) if distribution in merged else item.value
        if item.value not in (below, overrides.get(below)):
            table.problems.add(
                item.place,
                f"a lower layer takes {distribution} from another index, {below}",
                found=item.value,
                hint=_accept(below, item.value),
            )
        merged[distribution] = Setting(item.value, item.place)
    return merged


def _accept(index: object, instead: object) -> str:
    return f'index_overrides = {{ {join("", str(index))} = "{instead}" }} accepts {instead}'


def _read_overrides(table: Table, index_names: Collection[str]) -> dict[str, str]:
    below = table.part("index_overrides")
    index = as_index(index_names)
    found = ((name, below.word(key, index)) for key, name in below.names(index))
    return {name: instead for name, instead in found if instead}


def _read_declared(table: Table, index_names: Collection[str]) -> dict[NormalizedName, Item[str]]:
    declared: dict[NormalizedName, Item[str]] = {}
    below = table.part("package_indexes")
    for key, name in below.names(as_distribution):
        if index := below.word(key, as_index(index_names)):
            declared[name] = Item(below.place_of(key), index)
    return declared
