"""Downloads through a proxy, and over TLS with certificates of one's own."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import FetchError
from stackbuild.transport import connection
from stackbuild.transport.ranges import read_bytes
from stackbuild.transport.retries import Patience, UnreachableError
from tests.support.http import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = Patience(reach=2.0, silence=1.0, attempts=2, backoff=0.01)


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No proxy but the test's own, and no pool that was made with other certificates."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    connection._pool.cache_clear()
    yield
    connection._pool.cache_clear()


def test_a_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({"/f": b"x"}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//ann:secret@"))
        assert read_bytes("http://files.invalid/f") == b"x"
        assert proxy.requests[0].headers["host"] == "files.invalid"
        assert proxy.requests[0].headers["proxy-authorization"] == "Basic YW5uOnNlY3JldA=="


def test_no_proxy_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({"/f": b"x"}) as server, serving() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert read_bytes(server.url + "/f") == b"x"
        assert proxy.count() == 0


def test_a_proxy_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("http_proxy", f"http://ann:secret@127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(UnreachableError) as caught:
            read_bytes("http://other-files.invalid/f", patience=QUICK)
    assert dict(caught.value.details)["found"] == "the proxy: Connection refused"
    assert "secret" not in str(caught.value)


@contextmanager
def tls_server(directory: Path) -> Iterator[tuple[str, Path]]:
    """A server with a certificate that nobody has heard of: its address and the certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", key, "-out", certificate, "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving({"/f": b"x"}) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        yield server.url.replace("http:", "https:"), certificate


def test_a_certificate_nobody_knows_is_refused_and_one_s_own_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_server(tmp_path) as (url, certificate):
        with pytest.raises(FetchError, match="is not trusted") as caught:
            read_bytes(url + "/f", patience=QUICK)
        assert "SSL_CERT_FILE" in dict(caught.value.details)["to fix"]
        connection._pool.cache_clear()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert read_bytes(url + "/f", patience=QUICK) == b"x"


def test_without_variables_the_system_s_certificates_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with tls_server(tmp_path) as (url, _), pytest.raises(FetchError, match="is not trusted"):
        read_bytes(url + "/f", patience=QUICK)
