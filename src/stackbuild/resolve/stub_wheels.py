"""Stub wheels: wheels without files that replace distributions in a resolution.

A requirement that is overridden by the address of a stub wheel is always met.
The resolution contains the stub only if a distribution requires it. So one
request leaves a distribution out and shows whether it was needed. A distribution
that was built from source, which no index has, is a constraint with its real
version and dependencies, so that it must meet the requirements on it.
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
    """The metadata of a distribution that uv cannot look up."""

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
