"""Wheels without files that stand in for distributions, so that uv resolves without them.

A requirement that is overridden by the address of such a wheel is met by it,
whoever asks; and uv's answer holds it only if somebody does. So one request
both leaves a distribution out and tells whether it was needed. And a
distribution that was built from source, which no index has, is a constraint with
its real version and dependencies, so that it has to be what others ask for.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from packaging.version import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """What uv is told of a distribution that it cannot look up."""

    version: Version
    dependencies: tuple[str, ...] = ()
    """Requirements (PEP 508)."""
    extras: tuple[str, ...] = ()


def stand_in(
    name: str,
    directory: Path,
    version: object = "0",
    dependencies: Iterable[str] = (),
    extras: Iterable[str] = (),
) -> Path:
    """A wheel of `name` without files, in `directory`."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    path = directory / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Provides-Extra: {extra}" for extra in extras]
        lines += [f"Requires-Dist: {dependency}" for dependency in dependencies]
        archive.writestr(f"{info}/METADATA", "\n".join([*lines, ""]))
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: stackbuild\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path
