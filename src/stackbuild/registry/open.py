"""From what a user types to a registry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.errors import UsageError

if TYPE_CHECKING:
    from stackbuild.registry.base import Registry


def open_registry(location: str) -> Registry:
    """The registry at `location`: a directory, or an http or https address.

    Nothing is read yet. Raises UsageError for other kinds of places.
    """
    # Two letters at least, for C:/exports is a directory.
    if not location:
        raise UsageError(
            "the place to take layers from is empty", expected="a directory or address"
        )
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", location)
    if scheme is None:
        from stackbuild.registry.directory import DirectoryRegistry

        return DirectoryRegistry(Path(location).expanduser().absolute())
    if scheme[1].lower() in {"http", "https"}:
        from stackbuild.registry.http import HttpRegistry

        return HttpRegistry(location)
    raise UsageError(
        f"layers cannot be taken from {scheme[1]}:// addresses",
        expected="a directory, or an http:// or https:// address",
    )
