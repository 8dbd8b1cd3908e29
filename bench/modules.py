"""The native modules that an environment's distributions bring, as their RECORD tells."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_EXTENSION = re.compile(r"(?P<module>.+?)\.(?:cpython-[^/]+|abi3)\.so")
"""Plain libraries that a wheel brings have no such tag."""


def native_modules(venv: Path, *, without: Collection[str] = ()) -> dict[str, list[str]]:
    """Full module names by distribution, for those that have any; `without` are left out."""
    found: dict[str, list[str]] = {}
    for record in sorted(venv.glob("lib/python*/site-packages/*.dist-info/RECORD")):
        with record.open(encoding="utf-8", newline="") as file:
            paths = [row[0] for row in csv.reader(file) if row]
        matches = [match for path in paths if (match := _EXTENSION.fullmatch(path))]
        names = {match["module"].replace("/", ".") for match in matches}
        if kept := sorted(names.difference(without)):
            found[record.parent.name.removesuffix(".dist-info")] = kept
    return found
