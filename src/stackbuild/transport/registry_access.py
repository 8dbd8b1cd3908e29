"""Authorized requests to a container registry.

A registry answers 401 to a request without credentials and says how it wants them: as user name and
password (RFC 7617), or as a token for the repository, which a server named in the answer makes
(Docker's "Token Authentication Specification"). No header or token is in a message.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from stackbuild import strictjson
from stackbuild.errors import FetchError, IntegrityError
from stackbuild.messages import one_line
from stackbuild.transport.connection import check_transient, exchange, status_text
from stackbuild.transport.container_logins import FoundLogin, find_login
from stackbuild.transport.ranges import received
from stackbuild.transport.references import DOCKER_HUB
from stackbuild.transport.retries import (
    Attempts,
    BrokenTransferError,
    ForbiddenError,
    NotFoundError,
    Patience,
)
from stackbuild.transport.urls import redact, split_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from urllib.parse import SplitResult

    import urllib3

    from stackbuild.messages import Messages

_DOCKER_HUB_HOST = "registry-1.docker.io"
_LOOPBACK = re.compile(r"localhost|127\.[0-9]+\.[0-9]+\.[0-9]+|::1")
_PARAMETER = re.compile(r'([A-Za-z0-9_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')
_LONGEST_ERROR = 4096
"""Bytes of a registry's error that are read."""
_LONGEST_TOKEN = 1 << 20


class UnauthorizedError(FetchError):
    """The registry requires credentials, or does not accept those that are stored."""


class _ChallengeError(Exception):
    """An answer with status 401: its WWW-Authenticate headers and its reason."""

    def __init__(self, headers: Iterable[str], reason: str) -> None:
        super().__init__(reason)
        self.headers = tuple(headers)
        self.reason = reason


class Access:
    """Requests to one registry, over https, or http if `host` is this machine."""

    def __init__(self, host: str, messages: Messages, patience: Patience) -> None:
        self.host = host
        self._messages = messages
        self._patience = patience
        address = urlsplit(f"//{_DOCKER_HUB_HOST if host == DOCKER_HUB else host}")
        self._origin = address._replace(
            scheme="http" if _LOOPBACK.fullmatch(address.hostname or "") else "https"
        )
        self._headers: dict[str, str] = {}
        """The Authorization header for each scope."""

    @property
    def base(self) -> str:
        """The address of the registry's API."""
        return f"{self._origin.geturl()}/v2/"

    def same_scheme(self, url: str) -> str:
        """`url`, with the scheme of the registry if it has its host.

        Behind a proxy, some registries do not know that they are asked over https.
        """
        parts = urlsplit(url)
        same = parts.netloc == self._origin.netloc
        return parts._replace(scheme=self._origin.scheme).geturl() if same else url

    def send(
        self,
        scope: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        patience: Patience,
        body: Iterator[bytes] | bytes | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """The answer to a request; the authorization is renewed once if the registry asks for it.

        A scope is an action (pull, push or delete) and the repositories that it needs, separated by
        spaces. The caller closes the answer. Raises NotFoundError, ForbiddenError,
        UnauthorizedError, FetchError, and BrokenTransferError if a retry may succeed.
        """
        try:
            return self._exchange(scope, method, url, headers, patience, body)
        except _ChallengeError as challenge:
            repository = scope.split()[1]
            found = find_login(self.host, repository)
            header = self._answer(challenge, found, url)
            if header is None:
                raise self._unauthorized(found, url, challenge) from None
            self._headers[scope] = header
            if body is not None and not isinstance(body, bytes):
                raise BrokenTransferError("the registry asked for credentials again") from None
        try:
            return self._exchange(scope, method, url, headers, patience, body)
        except _ChallengeError as challenge:
            raise self._unauthorized(found, url, challenge) from None

    def _exchange(
        self,
        scope: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        patience: Patience,
        body: Iterator[bytes] | bytes | None,
    ) -> urllib3.BaseHTTPResponse:
        def sign(parts: SplitResult) -> str | None:
            # Not for the servers of storage that registries redirect to.
            same = (parts.scheme, parts.netloc) == (self._origin.scheme, self._origin.netloc)
            return self._headers.get(scope) if same else None

        check = partial(_checked, self.host, scope.partition(" ")[0])
        return exchange(
            url,
            method=method,
            headers=headers,
            patience=patience,
            sign=sign,
            check=check,
            body=body,
        )[0]

    def _answer(self, challenge: _ChallengeError, found: FoundLogin, url: str) -> str | None:
        """The Authorization header that `challenge` asks for; None without credentials for it."""
        for header in challenge.headers:
            kind, _, rest = header.strip().partition(" ")
            if kind.lower() == "bearer":
                return self._token(bearer_parameters(rest), found, url)
            if kind.lower() == "basic":
                return found.login.basic if found.login else None
        return None

    def _token(self, asked: Mapping[str, str], found: FoundLogin, url: str) -> str | None:
        """The header with a token; None if the server does not accept the credentials."""
        realm = self._realm(asked.get("realm", ""), url)
        login = found.login
        query = {key: asked[key] for key in ("service", "scope") if key in asked}
        body = None
        headers: dict[str, str] = {}
        if login and login.identity_token:
            form = {**query, "grant_type": "refresh_token", "client_id": "stackbuild"}
            body = urlencode({**form, "refresh_token": login.identity_token}).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        else:
            # Each scope is a parameter of its own.
            words = [(key, word) for key, text in query.items() for word in text.split(" ")]
            realm = realm._replace(query="&".join(filter(None, (realm.query, urlencode(words)))))
        basic = login.basic if login else None
        attempts = Attempts(realm.geturl(), self._patience, self._messages)
        while True:
            try:
                response = exchange(
                    realm.geturl(),
                    method="POST" if body else "GET",
                    headers=headers,
                    patience=self._patience,
                    sign=lambda parts: basic if parts.netloc == realm.netloc else None,
                    check=partial(_checked, self.host, "log in"),
                    body=body,
                )[0]
                return f"Bearer {_token_in(self.body(response, _LONGEST_TOKEN), realm)}"
            except BrokenTransferError as error:
                attempts.failed(error, 0)
            except _ChallengeError:
                return None

    def _realm(self, address: str, url: str) -> SplitResult:
        try:
            realm = split_address(address)
            if realm.scheme == "https" or _LOOPBACK.fullmatch(realm.hostname or ""):
                return realm
        except FetchError:
            pass
        raise FetchError(
            "the registry names a server for tokens without https",
            file=redact(url),
            expected="an https:// address, because credentials are sent there",
            found=redact(address),
            remedy="report it to the operator of the registry",
        )

    def _unauthorized(
        self, found: FoundLogin, url: str, challenge: _ChallengeError
    ) -> UnauthorizedError:
        what = "requires credentials, and none are stored"
        if found.login:
            what = "does not accept the stored credentials"
        remedy = f"log in: docker login {self.host}, or podman login {self.host}"
        if found.problems:
            remedy += f"; not used: {'; '.join(found.problems)}"
        return UnauthorizedError(
            f"{self.host} {what}", file=redact(url), found=challenge.reason, remedy=remedy
        )

    def body(self, response: urllib3.BaseHTTPResponse, limit: int) -> bytes:
        """The body of `response`, which is closed. Raises FetchError for more than `limit` bytes.

        Also raises BrokenTransferError.
        """
        data = bytearray()
        try:
            for piece in received(response, limit, self._patience):
                data += piece
                if len(data) > limit:
                    raise FetchError(
                        "the answer of the registry is too large",
                        file=self.host,
                        expected=f"at most {limit} bytes",
                    )
        finally:
            # A connection with unread bytes must not return to the pool.
            response.close()
        return bytes(data)


def bearer_parameters(text: str) -> dict[str, str]:
    """The parameters of a Bearer challenge (RFC 9110, section 11.2), their names in lower case."""
    return {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain
        for name, quoted, plain in _PARAMETER.findall(text)
    }


def _token_in(data: bytes, realm: SplitResult) -> str:
    try:
        answer = strictjson.parse(data, "the answer")
    except IntegrityError:
        answer = None
    if isinstance(answer, dict):
        for key in ("token", "access_token"):
            if (
                isinstance(token := answer.get(key), str)
                and token.isascii()
                and token.isprintable()
            ):
                return token
    raise FetchError(
        "the server for tokens does not send one",
        file=redact(realm.geturl()),
        expected="JSON with `token` or `access_token`",
        remedy="report it to the operator of the registry",
    )


def _checked(
    host: str, action: str, response: urllib3.BaseHTTPResponse, url: str
) -> urllib3.BaseHTTPResponse:
    status = response.status
    if status in {200, 201, 202, 206, 416}:
        return response
    check_transient(response)
    found = _reason(response)
    if status == 401:
        raise _ChallengeError(response.headers.getlist("WWW-Authenticate"), found)
    if status in {404, 410}:
        raise NotFoundError("the registry does not have it", file=redact(url), found=found)
    if status == 403:
        raise ForbiddenError(
            "the registry refuses the request",
            file=redact(url),
            found=found,
            remedy=f"log in with an account that may {action} there: docker login {host}",
        )
    raise FetchError("the registry refuses the request", file=redact(url), found=found)


def _reason(response: urllib3.BaseHTTPResponse) -> str:
    """The status, with the codes and messages that registries send with errors.

    The answer is closed.
    """
    from urllib3.exceptions import HTTPError

    texts = [status_text(response)]
    try:
        answer = strictjson.parse(response.read(_LONGEST_ERROR), "the answer")
        texts += [f"{error['code']}: {error.get('message') or ''}" for error in answer["errors"]]
    except (HTTPError, OSError, IntegrityError, KeyError, TypeError, AttributeError):
        # The status says enough.
        pass
    finally:
        response.close()
    return one_line("; ".join(text.rstrip(": ") for text in texts))
