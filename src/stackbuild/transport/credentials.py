"""User names and passwords for servers, from addresses and from the netrc file."""

from __future__ import annotations

import base64
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from stackbuild.workspace import home_directory

if TYPE_CHECKING:
    import netrc
    from urllib.parse import SplitResult


def authorization(parts: SplitResult) -> str | None:
    """The Authorization header for the address `parts` (RFC 7617), or None.

    Credentials in the address take precedence over the netrc file.
    """
    if parts.username:
        return basic(parts)
    entry = _netrc_entry(parts.hostname or "")
    return _basic(*entry) if entry else None


def basic(parts: SplitResult) -> str:
    """The header for the user name and password in the address `parts`."""
    return _basic(unquote(parts.username or ""), unquote(parts.password or ""))


def _basic(user: str, password: str) -> str:
    encoded = f"{user}:{password}".encode("utf-8", "surrogateescape")
    return f"Basic {base64.b64encode(encoded).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Netrc:
    path: Path
    entries: netrc.netrc | None
    problem: str | None
    """The reason why there are no entries."""


def netrc_problem() -> str | None:
    """The reason why the user's netrc file is not used; None if it is valid."""
    found = _read_netrc()
    return f"{found.path} is not used: {found.problem}" if found and found.problem else None


def _netrc_entry(host: str) -> tuple[str, str] | None:
    found = _read_netrc()
    entry = found.entries.authenticators(host) if found and found.entries else None
    return (entry[0], entry[2] or "") if entry else None


def _read_netrc() -> _Netrc | None:
    home = home_directory()
    named = os.environ.get("NETRC") or (home and home / ".netrc")
    if not named:
        return None
    path = Path(named)
    try:
        return _parse_netrc(path, path.stat().st_mtime_ns)
    except OSError:
        return None


@functools.cache
def _parse_netrc(path: Path, _changed: int) -> _Netrc:
    import netrc

    # Ignored, because a download may not need the file.
    try:
        return _Netrc(path=path, entries=netrc.netrc(path), problem=None)
    except netrc.NetrcParseError as error:
        # Its text may contain a line of the file.
        return _Netrc(path=path, entries=None, problem=f"invalid syntax near line {error.lineno}")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        return _Netrc(path=path, entries=None, problem=f"line {line} is not UTF-8")
