"""The layer's directory `overlays/<layer>/`, whose files builds from source may read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.spec.settings import PACKAGE_ROOT

if TYPE_CHECKING:
    from stackbuild.spec.model import BuildWheel


def uses_package_root(settings: BuildWheel | None) -> bool:
    """Whether a build may read files of the layer's directory."""
    values = settings.config_settings.values() if settings else ()
    return any(
        PACKAGE_ROOT in item
        for value in values
        for item in ((value,) if isinstance(value, str) else value)
    )


def contents(directory: Path) -> list[tuple[str, str]]:
    """Each file below `directory`, with its sha256 (hex).

    Raises OSError for what cannot be read.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    paths = [
        Path(place) / name
        for place, _, names in os.walk(directory, onerror=refuse)
        for name in names
    ]
    return [
        (path.relative_to(directory).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(paths)
        if path.is_file()
    ]
