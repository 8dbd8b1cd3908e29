"""Credentials for container registries, from where docker and podman store them.

The files are those of containers-auth.json(5) and of docker's `config.json`. Programs named
``docker-credential-<name>`` are run as docker's credential helper protocol says: `get`, with the
server's address on standard input.
"""

from __future__ import annotations

import base64
import binascii
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild import strictjson
from stackbuild.errors import IntegrityError
from stackbuild.transport.references import DOCKER_HUB
from stackbuild.workspace import home_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_SECONDS = 60
_NO_CREDENTIALS = "credentials not found in native keychain"
"""What helpers print if they have no credentials for a server."""
_TOKEN_USER = "<token>"  # noqa: S105 - the user name of the protocol, no password
"""The user name with which helpers mark an identity token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Credentials for a registry: a user name and password, or an identity token."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str | None = field(default=None, repr=False)

    @property
    def basic(self) -> str | None:
        """The Authorization header with user name and password (RFC 7617), or None."""
        if not self.user:
            return None
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLogin:
    """What the files have for a repository."""

    login: Login | None
    problems: tuple[str, ...]
    """Files that cannot be read and helpers that fail, for the error if the registry refuses."""


def find_login(host: str, repository: str) -> FoundLogin:
    """The credentials for `repository` of the registry `host` (with its port, if not the usual)."""
    problems: list[str] = []
    for path in _files():
        try:
            login = _in_file(path, host, repository)
        except _UnusableError as problem:
            problems.append(f"{path}: {problem}")
            continue
        if login is not None:
            return FoundLogin(login=login, problems=tuple(problems))
    return FoundLogin(login=None, problems=tuple(problems))


class _UnusableError(Exception):
    """The reason why a file is not used."""


def _files() -> Iterator[Path]:
    """The files with credentials, in the order of containers-auth.json(5)."""
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
        return
    home = home_directory()
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, "containers", "auth.json")
    if config := os.environ.get("XDG_CONFIG_HOME") or (home and home / ".config"):
        yield Path(config, "containers", "auth.json")
    if docker := os.environ.get("DOCKER_CONFIG") or (home and home / ".docker"):
        yield Path(docker, "config.json")


def _in_file(path: Path, host: str, repository: str) -> Login | None:
    try:
        content = strictjson.read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _UnusableError(error.strerror) from error
    except IntegrityError as error:
        # The text of the error may contain a part of the file.
        raise _UnusableError("it is not valid JSON") from error
    if not isinstance(content, dict):
        raise _UnusableError("it is not a JSON object")
    servers = [_DOCKER_HUB_KEY, host] if host == DOCKER_HUB else [host]
    helpers = _table(content, "credHelpers")
    helper = next((helpers[server] for server in servers if server in helpers), None)
    helper = helper or content.get("credsStore")
    if helper is not None and (login := _from_helper(helper, servers[0])):
        return login
    entries = {_plain(key): value for key, value in _table(content, "auths").items()}
    for key in _keys(host, repository):
        if login := _from_entry(entries.get(key)):
            return login
    return None


def _table(content: dict[str, object], key: str) -> dict[str, object]:
    table = content.get(key, {})
    if not isinstance(table, dict):
        raise _UnusableError(f"`{key}` is not a JSON object")
    return table


def _plain(key: str) -> str:
    """A key of `auths` without scheme and path of the API, as docker wrote them once."""
    key = key.partition("://")[2] or key
    for version in ("/v1/", "/v2/", "/v1", "/v2"):
        key = key.removesuffix(version)
    return DOCKER_HUB if key == "index.docker.io" else key


def _keys(host: str, repository: str) -> Iterator[str]:
    """The keys for `repository`, the most specific one first."""
    parts = repository.split("/")
    for count in range(len(parts), 0, -1):
        yield "/".join((host, *parts[:count]))
    yield host


def _from_entry(entry: object) -> Login | None:
    """The credentials in an entry of `auths`; None if it is empty, as with a helper."""
    if not isinstance(entry, dict):
        return None
    user, password = entry.get("username"), entry.get("password")
    if isinstance(encoded := entry.get("auth"), str) and encoded:
        try:
            # docker fills the value up with NUL characters.
            decoded = base64.b64decode(encoded, validate=True).decode().strip("\0")
        except (binascii.Error, UnicodeDecodeError):
            raise _UnusableError("`auth` of an entry is not base64") from None
        user, _, password = decoded.partition(":")
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Login(identity_token=token)
    if isinstance(user, str) and isinstance(password, str) and user:
        return Login(user=user, password=password)
    return None


def _from_helper(helper: object, server: str) -> Login | None:
    if not isinstance(helper, str) or not helper.replace("-", "").replace("_", "").isalnum():
        raise _UnusableError("the name of a credential helper is not valid")
    program = f"docker-credential-{helper}"
    try:
        result = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except OSError as error:
        raise _UnusableError(f"{program} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise _UnusableError(f"{program} does not end within {_HELPER_SECONDS} s") from None
    if result.returncode:
        if _NO_CREDENTIALS in (result.stdout + result.stderr).decode(errors="replace"):
            return None
        raise _UnusableError(f"{program} failed with exit code {result.returncode}")
    try:
        found = strictjson.parse(result.stdout, program)
        user, secret = found["Username"], found["Secret"]
    except (IntegrityError, KeyError, TypeError):
        raise _UnusableError(f"{program} does not print credentials") from None
    if user == _TOKEN_USER:
        return Login(identity_token=str(secret))
    return Login(user=str(user), password=str(secret))
