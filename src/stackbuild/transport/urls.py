"""Check, normalise and redact addresses of files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from stackbuild.errors import FetchError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_EXPECTED = "one that begins with https://, http:// or file:///"


def redact(url: str) -> str:
    """`url` for display: without user name, password and query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return re.sub("//[^/]*@", "//", url.partition("?")[0])
    if not (parts.netloc or parts.query or parts.fragment):
        return url  # as in `without_credentials`
    return urlunsplit(
        parts._replace(
            netloc=parts.netloc.rpartition("@")[2],
            query="…" if parts.query else "",
            fragment="",
        )
    )


def without_credentials(url: str) -> str:
    """`url` without user and password, its host in lower case."""
    parts = urlsplit(url)
    # Before CPython 3.14.10, urlunsplit returned file:///wheels for file:wheels.
    return urlunsplit(parts._replace(netloc=host_of(parts.netloc))) if parts.netloc else url


def host_of(netloc: str) -> str:
    """Host and port of the `netloc` of an address, in lower case."""
    return netloc.rpartition("@")[2].lower()


def path_of(parts: SplitResult) -> Path | None:
    """The path on this machine of a file: address, None for others."""
    if parts.scheme != "file":
        return None
    # The import also loads http.client and ssl, which most commands do not need.
    from urllib.request import url2pathname

    return Path(url2pathname(parts.path))


def has_valid_port(url: str) -> bool:
    """Whether host and port of `url` can be parsed."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def bad_address(url: str, found: str | None = None) -> FetchError:
    """The error for an invalid address."""
    return FetchError(
        "this is not the address of a file", file=redact(url), expected=_EXPECTED, found=found
    )


def split_address(url: str) -> SplitResult:
    """The parts of an http, https or file address; host and port are valid.

    Raises FetchError for anything else.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        # Python's message may contain a part of the password.
        raise bad_address(url, "an invalid host or port") from None
    if parts.scheme in {"http", "https"}:
        if not host or port == 0 or re.search(r"[\x00-\x20\x7f\\]", parts.netloc):
            raise bad_address(url, "an invalid host or port")
    elif parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        raise bad_address(url)
    return parts
