"""Cache of built wheels, by the hash of all inputs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild import strictjson
from stackbuild.files import atomic_copy, atomic_write, sha256_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptWheel:
    """A wheel in the cache."""

    path: Path
    sha256: str
    foreign: Mapping[str, str]
    """External libraries that it needs (`audit.Audit.foreign`)."""


class Kept:
    """The cache of built wheels below a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, key: str) -> KeptWheel | None:
        """The wheel with the inputs `key`; None if it is missing or damaged."""
        entry = self._read(self._directory / "keys" / f"{key}.json")
        if not isinstance(entry, dict):
            return None
        sha256, name = str(entry.get("sha256")), str(entry.get("name"))
        path = self._directory / "wheels" / sha256 / name
        foreign = entry.get("foreign")
        if not isinstance(foreign, dict) or not all(
            isinstance(one, str) for one in foreign.values()
        ):
            return None
        if path.is_file() and sha256_file(path) == sha256:
            return KeptWheel(path=path, sha256=sha256, foreign=foreign)
        return None

    def put(self, key: str, wheel: Path, foreign: Mapping[str, str]) -> KeptWheel:
        """Store a copy of `wheel` under the inputs `key`."""
        sha256 = sha256_file(wheel)
        path = self._directory / "wheels" / sha256 / wheel.name
        atomic_copy(wheel, path)
        entry = {"sha256": sha256, "name": wheel.name, "foreign": dict(foreign)}
        atomic_write(self._directory / "keys" / f"{key}.json", json.dumps(entry))
        return KeptWheel(path=path, sha256=sha256, foreign=foreign)

    def requires(self, recipe: str) -> list[str] | None:
        """The stored requirements of the backend for the source of `recipe`, if any."""
        entry = self._read(self._directory / "recipes" / f"{recipe}.json")
        if isinstance(entry, list) and all(isinstance(item, str) for item in entry):
            return entry
        return None

    def remember_requires(self, recipe: str, requires: Sequence[str]) -> None:
        """Store the requirements of the backend."""
        path = self._directory / "recipes" / f"{recipe}.json"
        atomic_write(path, json.dumps(list(requires)))

    @staticmethod
    def _read(path: Path) -> object:
        try:
            return strictjson.read(path)
        except (OSError, strictjson.JsonError):
            return None
