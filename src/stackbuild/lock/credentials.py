"""The user and password of a package index, from outside the spec.

In this order: the address itself, in which ``${NAME}`` stands for an
environment variable; the variables ``UV_INDEX_<NAME>_USERNAME`` and
``UV_INDEX_<NAME>_PASSWORD``, as uv calls them; and for a user without a
password the command ``keyring``. What the user's netrc says is found by those
who download. None of it is ever written anywhere.
"""

from __future__ import annotations

import functools
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from stackbuild.errors import LockError

if TYPE_CHECKING:
    from stackbuild.spec.model import PackageIndex

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KEYRING_SECONDS = 30


def userinfo(index: PackageIndex) -> str | None:
    """``user:password`` for the address of `index`, quoted; None without any.

    Raises LockError for an environment variable that is not set.
    """
    netloc = urlsplit(index.url).netloc
    given = netloc.rpartition("@")[0]
    user, _, password = (_expanded(part, index) for part in given.partition(":"))
    if index.name and not password:
        prefix = "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", index.name.upper())
        user = user or quote(os.environ.get(f"{prefix}_USERNAME", ""), safe="")
        password = quote(os.environ.get(f"{prefix}_PASSWORD", ""), safe="")
    if user and not password:
        bare = urlunsplit(urlsplit(index.url)._replace(netloc=netloc.rpartition("@")[2]))
        password = quote(_from_keyring(bare, unquote(user)), safe="")
    if not user and not password:
        return None
    return f"{user}:{password}" if password else user


def _expanded(text: str, index: PackageIndex) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise LockError(
                f"the environment variable {match[1]} is not set",
                expected=f"a part of the address of the package index {index.name or ''}".rstrip(),
                remedy=f"set {match[1]}, or take it out of the address in [[tool.uv.index]]",
            )
        return quote(os.environ[match[1]], safe="")

    return _VARIABLE.sub(value, text)


@functools.cache
def _from_keyring(address: str, user: str) -> str:
    """The password that the command `keyring` knows; empty where there is none."""
    import shutil
    import subprocess

    command = shutil.which("keyring")
    if command is None:
        return ""
    try:
        result = subprocess.run(
            [command, "get", address, user],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_KEYRING_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.rstrip("\r\n") if result.returncode == 0 else ""
