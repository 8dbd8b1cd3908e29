"""Wheels that were built elsewhere and put into the wheelhouse (`stackbuild wheel add`).

A list beside them tells them from wheels that came there in another way.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stackbuild import strictjson
from stackbuild.errors import IntegrityError
from stackbuild.files import atomic_write
from stackbuild.lock.model import LockedFile
from stackbuild.names import path_fault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.targets import Target

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
    """The wheels that were added, in their order. Raises IntegrityError for a damaged list."""
    path = wheelhouse / LIST
    try:
        return [_added(item) for item in strictjson.read(path)]
    except FileNotFoundError:
        return []
    except (strictjson.JsonError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            "the list of wheels that were added is damaged",
            file=path,
            found=f"{type(error).__name__}: {error}",
            remedy="remove it, and add the wheels again with `stackbuild wheel add FILE`",
        ) from None


def _added(item: Mapping[str, Any]) -> AddedWheel:
    """The wheel in an entry of the list. Raises ValueError, KeyError, TypeError for others."""
    name, size, sha256 = item["file"], item["size"], item["sha256"]
    texts = [name, sha256, *item["dependencies"], *item["extras"]]
    if not all(isinstance(text, str) for text in texts) or type(size) is not int:
        raise TypeError("a value of another type")
    if fault := path_fault(name):
        raise ValueError(f"the file name {fault}")
    added = AddedWheel(
        wheel=LockedFile(name=name, size=size, sha256=sha256),
        dependencies=tuple(item["dependencies"]),
        extras=tuple(item["extras"]),
    )
    # Raises for what is not the file name of a wheel.
    _ = added.version
    return added


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


def find_added(
    wheelhouse: Path, name: NormalizedName, version: Version | None, target: Target
) -> AddedWheel | None:
    """The wheel of a distribution that fits best; of equal ones the one added last.

    None as `version` means any. One whose file is gone does not count.
    """
    from packaging.utils import parse_wheel_filename

    best: tuple[int, AddedWheel] | None = None
    for item in read_added(wheelhouse):
        rank = target.rank(parse_wheel_filename(item.wheel.name)[3])
        wanted = item.name == name and version in (None, item.version)
        there = (wheelhouse / item.wheel.name).is_file()
        if wanted and there and rank is not None and (best is None or rank <= best[0]):
            best = rank, item
    return best[1] if best else None
