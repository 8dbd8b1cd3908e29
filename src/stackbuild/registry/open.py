"""From what a user types to a registry."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError, UsageError
from stackbuild.messages import SILENT
from stackbuild.transport.urls import redact, split_address
from stackbuild.workspace import expanded

if TYPE_CHECKING:
    from stackbuild.messages import Messages
    from stackbuild.registry.base import Registry


def open_registry(location: str, messages: Messages = SILENT) -> Registry:
    """The registry at `location`: a directory, or an http or https address.

    Nothing is read yet. Raises UsageError for other kinds of places, and for addresses
    with a host or port that is not valid.
    """
    # Two letters at least, for C:/exports is a directory.
    if not location:
        raise UsageError(
            "the place to take layers from is empty", expected="a directory or address"
        )
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", location)
    if scheme is None:
        from stackbuild.registry.directory import DirectoryRegistry

        return DirectoryRegistry(_directory(expanded(Path(location)).absolute()))
    if scheme[1].lower() in {"http", "https"}:
        from stackbuild.registry.http import HttpRegistry

        try:
            split_address(location)
        except FetchError as error:
            raise UsageError(
                "the address to take layers from is not valid",
                expected="one such as https://layers.example.org/stack",
                found=redact(location),
            ) from error
        return HttpRegistry(location, messages)
    raise UsageError(
        f"layers cannot be taken from {scheme[1]}:// addresses",
        expected="a directory, or an http:// or https:// address",
    )


def _directory(path: Path) -> Path:
    """`path` without `..`, where that names the same directory.

    Roots remember registries by their location. Links stay: they may lead to another
    directory tomorrow.
    """
    plain = Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` follows links
    try:
        return plain if plain.samefile(path) else path
    except OSError:
        return path
