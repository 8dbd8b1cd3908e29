"""Open the registry at a location given by the user."""

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

    Nothing is read yet. Raises UsageError for other locations, and for an invalid host or port.
    """
    # At least two letters, because C:/exports is a directory.
    if not location:
        raise UsageError("the location of the registry is empty", expected="a directory or address")
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
                "the address of the registry is not valid",
                expected="one such as https://layers.example.org/stack",
                found=redact(location),
            ) from error
        return HttpRegistry(location, messages)
    raise UsageError(
        f"{scheme[1]}:// addresses are not supported as registries",
        expected="a directory, or an http:// or https:// address",
    )


def _directory(path: Path) -> Path:
    """`path` without `..`, if that is the same directory.

    Roots identify registries by their location. Links are kept, because their target may change.
    """
    plain = Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` follows links
    try:
        return plain if plain.samefile(path) else path
    except OSError:
        return path
