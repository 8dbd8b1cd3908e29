"""HTTP requests: proxies, certificates, credentials, redirects and time limits.

The only settings read here are the proxy variables, `SSL_CERT_FILE`, `SSL_CERT_DIR` and the user's
netrc file; settings of pip, uv and Python are ignored.
"""

from __future__ import annotations

import functools
import os
import re
import time
from threading import Thread
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin, urlsplit, urlunsplit

from stackbuild.errors import FetchError
from stackbuild.transport.credentials import authorization, basic, netrc_problem
from stackbuild.transport.retries import (
    PATIENCE,
    BrokenTransferError,
    ForbiddenError,
    NotFoundError,
    Patience,
    UnreachableError,
)
from stackbuild.transport.urls import bad_address, redact, split_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from urllib.parse import SplitResult

    import urllib3

    Sign = Callable[[SplitResult], str | None]
    """The Authorization header for an address, or None."""
    Check = Callable[[urllib3.BaseHTTPResponse, str], urllib3.BaseHTTPResponse]
    """Raises the error of an answer to a request for an address; otherwise returns the answer."""

_Result = TypeVar("_Result")

MAX_REDIRECTS = 10
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP statuses for which a request is retried (RFC 9110, section 15)."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""OpenSSL's error codes for an answer that is not TLS; they differ between versions."""


def open_url(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    patience: Patience = PATIENCE,
) -> urllib3.BaseHTTPResponse:
    """The answer (status 200, 206 or 416) of an http or https `url`; follows redirects.

    The caller closes the answer. Raises UnreachableError, NotFoundError, FetchError, and
    BrokenTransferError if a retry may succeed.
    """
    return follow(url, method=method, headers=headers, patience=patience)[0]


def follow(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    patience: Patience = PATIENCE,
) -> tuple[urllib3.BaseHTTPResponse, str]:
    """Like `open_url`; also returns the address after redirects."""
    return exchange(
        url,
        method=method,
        headers=headers or {},
        patience=patience,
        sign=authorization,
        check=_checked,
    )


def exchange(
    url: str,
    *,
    method: str,
    headers: Mapping[str, str],
    patience: Patience,
    sign: Sign,
    check: Check,
    body: Iterator[bytes] | bytes | None = None,
) -> tuple[urllib3.BaseHTTPResponse, str]:
    """Send a request, follow redirects, and return the answer with the last address.

    `sign` is called for each address, `check` for the last answer. For pieces as `body`, `headers`
    contain their Content-Length. Requests with a body are not redirected. Raises UnreachableError,
    FetchError, the errors of `check`, and BrokenTransferError if a retry may succeed.
    """
    current = url
    for _ in range(MAX_REDIRECTS + 1):
        response = _send(method, current, headers, patience, sign, body)
        target = response.headers.get("Location")
        if response.status not in REDIRECTS or target is None or body is not None:
            return check(response, url), current
        # Do not read the body; it may be long or slow.
        response.close()
        current = _redirected(current, target, url)
    raise FetchError(f"more than {MAX_REDIRECTS} redirects", file=redact(url))


def _redirected(current: str, target: str, url: str) -> str:
    before = urlsplit(current)
    try:
        joined = urljoin(current, target)
        after = split_address(joined)
    except (ValueError, FetchError):
        after = None
    if after is None or after.scheme not in {"http", "https"}:
        raise FetchError(
            "the server redirects to an address that is not http or https",
            file=redact(url),
            found=redact(target),
        )
    same = (before.scheme, before.hostname, before.port) == (
        after.scheme,
        after.hostname,
        after.port,
    )
    if same and "@" not in after.netloc and "@" in before.netloc:
        # Credentials are only sent to the host they were given for.
        user = before.netloc.rpartition("@")[0]
        after = after._replace(netloc=f"{user}@{after.netloc}")
    return after.geturl()


def _checked(response: urllib3.BaseHTTPResponse, url: str) -> urllib3.BaseHTTPResponse:
    status = response.status
    if status in {200, 206, 416}:
        return response
    response.close()
    found = status_text(response)
    check_transient(response)
    if status in {404, 410}:
        raise NotFoundError("there is no such file", file=redact(url), found=found)
    remedy = None
    if status in {401, 403, 407}:
        remedy = "give credentials in the netrc file, or user and password in the address"
        if problem := netrc_problem():
            remedy += f"; {problem}"
    kind = ForbiddenError if status == 403 else FetchError
    raise kind("the server refuses the request", file=redact(url), found=found, remedy=remedy)


def status_text(response: urllib3.BaseHTTPResponse) -> str:
    """The status of `response` for messages."""
    return f"HTTP status {response.status} {response.reason or ''}".rstrip()


def check_transient(response: urllib3.BaseHTTPResponse) -> None:
    """Raise BrokenTransferError for a status in `TRANSIENT`."""
    if response.status in TRANSIENT:
        response.close()
        pause = _retry_after(response.headers.get("Retry-After"))
        raise BrokenTransferError(status_text(response), pause)


def _retry_after(value: str | None) -> float | None:
    """The seconds in a Retry-After header (RFC 9110, section 10.2.3): a number or a date."""
    if value is None:
        return None
    if re.fullmatch("[0-9]{1,9}", value.strip()):
        return float(value)
    from email.utils import parsedate_to_datetime

    try:
        pause = parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError, OSError):
        return None
    return max(0.0, pause)


_answered: set[tuple[str, int | None]] = set()
"""Hosts that have answered this process; they get the longer time limit."""


def _send(
    method: str,
    url: str,
    headers: Mapping[str, str],
    patience: Patience,
    sign: Sign,
    body: Iterator[bytes] | bytes | None,
) -> urllib3.BaseHTTPResponse:
    import urllib3

    parts = split_address(url)
    host = parts.hostname or ""
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
    headers = {"Accept-Encoding": "identity", **headers}
    if credentials := sign(parts):
        headers["Authorization"] = credentials
    pool = _pool(parts.scheme, _proxy(parts.scheme, host))
    known = (host, parts.port) in _answered
    # A host that has answered gets all attempts.
    connect = patience.reach / patience.attempts if known else patience.reach

    def send() -> urllib3.BaseHTTPResponse:
        return pool.request(
            method,
            plain,
            body=body,
            headers=headers,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=urllib3.Timeout(connect=connect, read=patience.silence),
        )

    try:
        if known:
            # The limits above apply to each read and write, this one to all headers together, and
            # to a body at the slowest speed.
            sending = int(headers.get("Content-Length", 0)) / patience.slowest
            response = _within(connect + patience.silence + sending, send)
        else:
            response = _first_contact(host, url, send, patience)
    except TimeoutError as error:
        raise BrokenTransferError("no answer in time") from error
    except urllib3.exceptions.LocationValueError as error:
        raise bad_address(url, "an invalid host") from error
    except urllib3.exceptions.SSLError as error:
        raise _tls_error(error, host, url) from error
    except urllib3.exceptions.HTTPError as error:
        raise BrokenTransferError(reason_of(error)) from error
    _answered.add((host, parts.port))
    return response


def _first_contact(
    host: str,
    url: str,
    send: Callable[[], urllib3.BaseHTTPResponse],
    patience: Patience,
) -> urllib3.BaseHTTPResponse:
    """Send to a host that has not answered yet: at most twice, and within `reach`."""
    from urllib3.exceptions import (
        ConnectTimeoutError,
        NewConnectionError,
        ProxyError,
        ReadTimeoutError,
    )

    deadline = time.monotonic() + patience.reach
    for last in (False, True):
        try:
            return _within(deadline - time.monotonic(), send)
        except (ConnectTimeoutError, NewConnectionError, ProxyError) as error:
            if last or time.monotonic() + patience.backoff >= deadline:
                raise UnreachableError(host, url, reason_of(error)) from error
        except (TimeoutError, ReadTimeoutError) as error:
            reason = f"no answer within {patience.reach:g} seconds"
            raise UnreachableError(host, url, reason) from error
        time.sleep(patience.backoff)
    raise AssertionError("the last attempt returns or raises")


def _within(limit: float, call: Callable[[], _Result]) -> _Result:
    """Run `call` for at most `limit` seconds. Raises TimeoutError.

    Uses a thread, because name resolution has no time limit, and connecting applies the limit to
    each address of a host.
    """
    from concurrent.futures import Future

    outcome: Future[_Result] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except Exception as error:  # noqa: BLE001 - raised again in the waiting thread
            outcome.set_exception(error)

    Thread(target=work, daemon=True).start()
    return outcome.result(timeout=max(limit, 0.0))


def reason_of(error: BaseException) -> str:
    """The reason of an error, without the addresses in urllib3's messages."""
    from urllib3 import exceptions

    # By the exact class, because a refused connection is a subclass of ConnectTimeoutError.
    words = {
        exceptions.NameResolutionError: "the host's name cannot be resolved",
        exceptions.ConnectTimeoutError: "no connection in time",
        exceptions.ReadTimeoutError: "the server stopped sending",
        exceptions.IncompleteRead: "the connection was closed before the end",
    }.get(type(error))
    if words is not None:
        return words
    if isinstance(error, exceptions.ProxyError):
        return f"the proxy: {reason_of(error.original_error)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    inner = error.__cause__ or error.__context__
    return reason_of(inner) if inner is not None else str(error)


def _tls_error(
    error: urllib3.exceptions.SSLError, host: str, url: str
) -> FetchError | BrokenTransferError:
    import ssl

    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, ssl.SSLError):
        inner = inner.__cause__ or inner.__context__
    if isinstance(inner, ssl.SSLCertVerificationError):
        return FetchError(
            f"the certificate of {host} is not trusted",
            file=redact(url),
            found=inner.verify_message or str(inner),
            remedy="add the authority to the system's certificates, "
            "or set SSL_CERT_FILE to its file",
        )
    if inner is not None and inner.reason in _NOT_TLS:
        return FetchError(
            f"{host} does not use TLS at this address",
            file=redact(url),
            expected="a TLS connection, because the address begins with https://",
            remedy="correct the port; if the server has no TLS, "
            f"use http://{redact(url).partition('://')[2]}",
        )
    return BrokenTransferError(f"TLS: {error}")


@functools.cache
def _pool(scheme: str, proxy: str | None) -> urllib3.PoolManager:
    import urllib3

    context = _tls_context() if scheme == "https" else None
    if proxy is None:
        return urllib3.PoolManager(maxsize=16, ssl_context=context)
    address = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = split_address(address)
    except FetchError:
        parts = None
    if parts is None or parts.scheme not in {"http", "https"}:
        raise FetchError(
            "the address of the proxy is not valid",
            file=redact(address),
            expected="one such as http://proxy.example.org:3128",
            remedy=f"correct the environment variable {scheme}_proxy or all_proxy",
        )
    headers = {"Proxy-Authorization": basic(parts)} if parts.username else None
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return urllib3.ProxyManager(plain, proxy_headers=headers, maxsize=16, ssl_context=context)


def _tls_context() -> object:
    import ssl

    if os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        # Python's default context reads these; the system stores of macOS and Windows do not.
        return ssl.create_default_context()
    import truststore

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _proxy(scheme: str, host: str) -> str | None:
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    return None if proxy is None or proxy_bypass(host) else proxy
