"""Requests over HTTP: proxies, certificates, credentials, redirects, and when to give up.

`transfer` builds downloads out of this. Nothing here reads a setting of pip,
uv or Python: only the proxy variables, `SSL_CERT_FILE`, `SSL_CERT_DIR` and
the user's netrc file.
"""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

from stackbuild.errors import FetchError

if TYPE_CHECKING:
    import netrc
    from collections.abc import Callable, Mapping

    import urllib3

_Result = TypeVar("_Result")

MAX_REDIRECTS = 10
LONGEST_PAUSE = 60.0
"""Seconds that a server's Retry-After is obeyed at most."""
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP statuses that another attempt may change (RFC 9110, section 15)."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
ENOUGH_PROGRESS = 1 << 20
"""Bytes after which a transfer that breaks off once more starts counting anew."""


class UnreachableError(FetchError):
    """A host that cannot be resolved, connected to, or that does not answer."""

    def __init__(self, host: str, url: str, reason: str) -> None:
        super().__init__(
            f"{host} cannot be reached",
            file=redact(url),
            found=reason,
            remedy="check the network and the proxy settings, or name a mirror",
        )
        self.host = host
        self.reason = reason


class NotFoundError(FetchError):
    """There is no file at an address."""


class BrokenTransferError(Exception):
    """A failure that another attempt may get over; `pause` is what the server asked for."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pause = pause


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait, in seconds, and how often to try."""

    reach: float = 10.0
    """For the first answer of a host, all attempts together."""
    silence: float = 30.0
    """For the next bytes of a host that has answered before."""
    attempts: int = 5
    backoff: float = 0.5
    """The first pause between attempts; each later one is twice as long."""


PATIENCE = Patience()


class Attempts:
    """Counts the failures of one transfer, and waits between them."""

    def __init__(self, url: str, patience: Patience) -> None:
        self._url = url
        self._patience = patience
        self._failures = 0

    def failed(self, error: BrokenTransferError, progress: int) -> None:
        """Wait for the next attempt. Raises FetchError when there were enough of them.

        `progress` is the number of bytes that the attempt brought.
        """
        self._failures = 1 if progress >= ENOUGH_PROGRESS else self._failures + 1
        if self._failures >= self._patience.attempts:
            raise FetchError(
                f"the transfer failed {self._failures} times",
                file=redact(self._url),
                found=error.reason,
                remedy="try again later",
            ) from error
        pause = self._patience.backoff * 2 ** (self._failures - 1)
        time.sleep(min(max(error.pause or 0.0, pause), LONGEST_PAUSE))


def redact(url: str) -> str:
    """`url` as it may be shown: without user name, password and query."""
    parts = urlsplit(url)
    return urlunsplit(
        parts._replace(
            netloc=parts.netloc.rpartition("@")[2],
            query="…" if parts.query else "",
            fragment="",
        )
    )


def open_url(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    patience: Patience = PATIENCE,
) -> urllib3.BaseHTTPResponse:
    """The answer (status 200, 206 or 416) of an http or https `url`, redirects followed.

    Raises UnreachableError, NotFoundError, FetchError, and BrokenTransferError
    for what another attempt may change. The caller closes the answer.
    """
    current = url
    for _ in range(MAX_REDIRECTS + 1):
        response = _send(method, current, dict(headers or {}), patience)
        target = response.headers.get("Location")
        if response.status not in REDIRECTS or target is None:
            return _checked(response, url)
        response.drain_conn()
        response.release_conn()
        current = _redirected(current, target, url)
    raise FetchError(f"more than {MAX_REDIRECTS} redirects", file=redact(url))


def _redirected(current: str, target: str, url: str) -> str:
    before, after = urlsplit(current), urlsplit(urljoin(current, target))
    if after.scheme not in {"http", "https"} or not after.hostname:
        raise FetchError(
            "the server redirects to something else than http or https",
            file=redact(url),
            found=redact(after.geturl()),
        )
    same = (before.scheme, before.hostname, before.port) == (
        after.scheme,
        after.hostname,
        after.port,
    )
    if same and "@" not in after.netloc and "@" in before.netloc:
        # Credentials belong to the host they were written for, and to no other.
        user = before.netloc.rpartition("@")[0]
        after = after._replace(netloc=f"{user}@{after.netloc}")
    return after.geturl()


def _checked(response: urllib3.BaseHTTPResponse, url: str) -> urllib3.BaseHTTPResponse:
    status = response.status
    if status in {200, 206, 416}:
        return response
    response.close()
    found = f"HTTP status {status} {response.reason or ''}".rstrip()
    if status in TRANSIENT:
        raise BrokenTransferError(found, _retry_after(response.headers.get("Retry-After")))
    if status in {404, 410}:
        raise NotFoundError("there is no such file", file=redact(url), found=found)
    remedy = None
    if status in {401, 403, 407}:
        remedy = "give credentials in the netrc file, or user and password in the address"
    raise FetchError("the server refuses the file", file=redact(url), found=found, remedy=remedy)


def _retry_after(value: str | None) -> float | None:
    """Seconds, of a Retry-After header (RFC 9110, section 10.2.3): a number or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


_answered: set[tuple[str, int | None]] = set()
"""Hosts that have answered this process, and so get the longer patience."""


def _send(
    method: str, url: str, headers: dict[str, str], patience: Patience
) -> urllib3.BaseHTTPResponse:
    import urllib3

    parts = urlsplit(url)
    host = parts.hostname or ""
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
    headers = {"Accept-Encoding": "identity", **headers, **_credentials(parts)}
    pool = _pool(parts.scheme, _proxy(parts.scheme, host))
    known = (host, parts.port) in _answered
    # A host that has answered is given all its attempts, and less time for each.
    connect = patience.reach / patience.attempts if known else patience.reach

    def send() -> urllib3.BaseHTTPResponse:
        return pool.request(
            method,
            plain,
            headers=headers,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=urllib3.Timeout(connect=connect, read=patience.silence),
        )

    try:
        response = send() if known else _first_contact(host, url, send, patience)
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
    """Send to a host that has not answered yet: twice at most, and no longer than `reach`."""
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
    """What `call` returns. Raises TimeoutError after `limit` seconds.

    A thread of its own, because resolving a name cannot be given a limit and
    trying several addresses of one host takes the limit for each of them.
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
    """What went wrong, without the addresses that urllib3 puts into its messages."""
    from urllib3 import exceptions

    # By the exact class: a refused connection is a kind of ConnectTimeoutError as well.
    words = {
        exceptions.NameResolutionError: "the host's name cannot be resolved",
        exceptions.ConnectTimeoutError: "no connection in time",
        exceptions.ReadTimeoutError: "the server fell silent",
        exceptions.IncompleteRead: "the connection broke off before the end",
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
    while inner is not None and not isinstance(inner, ssl.SSLCertVerificationError):
        inner = inner.__cause__ or inner.__context__
    if inner is None:
        return BrokenTransferError(f"TLS: {error}")
    return FetchError(
        f"the certificate of {host} is not trusted",
        file=redact(url),
        found=inner.verify_message or str(inner),
        remedy="add the authority to the system's certificates, or name its file in SSL_CERT_FILE",
    )


@functools.cache
def _pool(scheme: str, proxy: str | None) -> urllib3.PoolManager:
    import urllib3

    context = _tls_context() if scheme == "https" else None
    if proxy is None:
        return urllib3.PoolManager(maxsize=16, ssl_context=context)
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    headers = urllib3.make_headers(proxy_basic_auth=_user_info(parts)) if parts.username else None
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return urllib3.ProxyManager(plain, proxy_headers=headers, maxsize=16, ssl_context=context)


def _tls_context() -> object:
    import ssl

    if os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        # Python's own context reads these; the system's store of macOS and Windows does not.
        return ssl.create_default_context()
    import truststore

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _proxy(scheme: str, host: str) -> str | None:
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    return None if proxy is None or proxy_bypass(host) else proxy


def _credentials(parts: SplitResult) -> dict[str, str]:
    """The authorisation header: user and password of the address, or those of the netrc file."""
    user_info = _user_info(parts) if parts.username else _from_netrc(parts.hostname or "")
    if user_info is None:
        return {}
    import urllib3

    return dict(urllib3.make_headers(basic_auth=user_info))


def _user_info(parts: SplitResult) -> str:
    return f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"


def _from_netrc(host: str) -> str | None:
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        found = _netrc(path, path.stat().st_mtime_ns)
    except OSError:
        return None
    entry = found.authenticators(host) if found else None
    return f"{entry[0]}:{entry[2] or ''}" if entry else None


@functools.cache
def _netrc(path: Path, _changed: int) -> netrc.netrc | None:
    import netrc

    try:
        return netrc.netrc(path)
    except netrc.NetrcParseError:
        # Other tools complain about the user's file; a download may well go without it.
        return None
