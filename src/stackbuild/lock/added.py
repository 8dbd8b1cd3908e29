"""Wheels in the wheelhouse that were built elsewhere and added (`stackbuild wheel add`).

A list there distinguishes them from the others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild import strictjson
from stackbuild.errors import IntegrityError
from stackbuild.files import atomic_write
from stackbuild.lock.model import LockedFile
from stackbuild.names import path_fault
from stackbuild.reading import Item, ReadError, records

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.targets import Target
    from stackbuild.reading import Readers


LIST = "added.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedWheel:
    """A wheel in the wheelhouse that was checked when it was added."""

    wheel: LockedFile
    dependencies: tuple[str, ...]
    extras: tuple[str, ...]

    @property
    def name(self) -> NormalizedName:
        """The distribution's name."""
        from packaging.utils import parse_wheel_filename

        return parse_wheel_filename(self.wheel.name)[0]

    @property
    def version(self) -> Version:
        """The distribution's version."""
        from packaging.utils import parse_wheel_filename

        return parse_wheel_filename(self.wheel.name)[1]


def read_added(wheelhouse: Path) -> list[AddedWheel]:
    """The added wheels, in their order. Raises IntegrityError for a damaged list."""
    path = wheelhouse / LIST
    try:
        return list(records(_added, _ADDED)(Item("", strictjson.read(path))))
    except FileNotFoundError:
        return []
    except (strictjson.JsonError, ReadError) as error:
        raise IntegrityError(
            "the list of added wheels is damaged",
            file=path,
            found=str(error),
            remedy="remove it, and add the wheels again with `stackbuild wheel add FILE`",
        ) from None


def _added(file: str, size: int, sha256: str, **metadata: tuple[str, ...]) -> AddedWheel:
    return AddedWheel(wheel=LockedFile(name=file, size=size, sha256=sha256), **metadata)


def _wheel_name(item: Item[object]) -> str:
    """The file name of a wheel, without directories."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    name = item.text()
    if fault := path_fault(name):
        raise item.error(fault)
    try:
        parse_wheel_filename(name)
    except InvalidWheelFilename:
        raise item.wrong_type("the file name of a wheel") from None
    return name


_ADDED: Readers = {
    "file": _wheel_name,
    "size": Item.count,
    "sha256": Item.sha256,
    "dependencies": Item.strings,
    "extras": Item.strings,
}


def write_added(wheelhouse: Path, wheels: Sequence[AddedWheel]) -> None:
    """Write the list, whole or not at all."""
    items = [
        {
            "file": item.wheel.name,
            "size": item.wheel.size,
            "sha256": item.wheel.sha256,
            "dependencies": item.dependencies,
            "extras": item.extras,
        }
        for item in wheels
    ]
    atomic_write(wheelhouse / LIST, json.dumps(items, indent=2) + "\n")


def compatible_added(wheelhouse: Path, target: Target) -> list[tuple[int, AddedWheel]]:
    """The added wheels for `target` whose file is there, in their order, each with its rank."""
    from packaging.utils import parse_wheel_filename

    return [
        (rank, item)
        for item in read_added(wheelhouse)
        if (rank := target.rank(parse_wheel_filename(item.wheel.name)[3])) is not None
        and (wheelhouse / item.wheel.name).is_file()
    ]


def find_added(
    wheelhouse: Path, name: NormalizedName, version: Version | None, target: Target
) -> AddedWheel | None:
    """The best compatible wheel of a distribution; of equal ones the last added.

    None as `version` means any. Wheels whose file is missing are ignored.
    """
    best: tuple[int, AddedWheel] | None = None
    for rank, item in compatible_added(wheelhouse, target):
        wanted = item.name == name and version in (None, item.version)
        if wanted and (best is None or rank <= best[0]):
            best = rank, item
    return best[1] if best else None


def sums_of_added(wheelhouse: Path, names: Collection[NormalizedName], target: Target) -> set[str]:
    """The sha256 of the added wheels of the distributions `names` that `target` can use."""
    if not names:
        return set()
    found = compatible_added(wheelhouse, target)
    return {item.wheel.sha256 for _, item in found if item.name in names}
