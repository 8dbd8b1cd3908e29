"""Settings of a whole layer: its entry in the index, and how it is verified."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stackbuild.reading import did_you_mean
from stackbuild.spec.model import Catalogue, CheckSettings
from stackbuild.spec.table import join

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from stackbuild.spec.table import Table

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST_IMPORT = 3600


def read_catalogue(table: Table, name: str, layers: Collection[str]) -> Catalogue:
    """The keys `version`, `deprecated` and `superseded-by` of the layer `name`."""
    successor = table.text("superseded-by")
    if successor is not None and (successor == name or successor not in layers):
        problem = "a layer cannot supersede itself" if successor == name else "no such layer"
        others = [layer for layer in layers if layer != name]
        hint = did_you_mean(successor, others)
        table.problems.add(table.place_of("superseded-by"), problem, found=successor, hint=hint)
    return Catalogue(
        version=table.text("version"),
        deprecated=table.text("deprecated"),
        superseded_by=successor,
    )


def check_successors(catalogues: Mapping[str, Catalogue], table: Table) -> None:
    """Report layers that supersede each other; `table` contains the tables of the layers."""
    settled: set[str] = set()
    for name in catalogues:
        way = [name]
        while (successor := catalogues[way[-1]].superseded_by) in catalogues:
            if successor in way or successor in settled:
                break
            way.append(str(successor))
        if successor == name and len(way) > 1:
            place = join(join(table.place, name), "superseded-by")
            circle = " -> ".join([*way, name])
            table.problems.add(place, "layers supersede each other", found=circle)
            settled.update(way)


def read_checks(table: Table | None) -> CheckSettings:
    """The table `verify` of a layer."""
    if table is None:
        return CheckSettings()
    environment = dict(table.pairs("environment"))
    for name, item in environment.items():
        if not _VARIABLE.fullmatch(name):
            table.problems.add(item.place, "not the name of an environment variable", found=name)
    default = CheckSettings()
    limit = table.integer("time-limit", default=default.time_limit, low=1, high=_LONGEST_IMPORT)
    settings = CheckSettings(
        skip_modules=tuple(item.value for item in table.texts("skip-modules") or ()),
        host_libraries=tuple(item.value for item in table.texts("host-libraries") or ()),
        environment={name: item.value for name, item in environment.items()},
        time_limit=limit,
    )
    table.done()
    return settings
