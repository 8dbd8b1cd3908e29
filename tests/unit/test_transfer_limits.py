"""Servers that are slow, wrong, or hostile: how long they are waited for, and what is told."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackbuild.errors import FetchError, StackbuildError, UsageError
from stackbuild.messages import Silent
from stackbuild.registry.find import open_registry
from stackbuild.runtimes.download import fetch_archive
from stackbuild.spec.model import Download
from stackbuild.transport.ranges import content_length, read_bytes, read_spans
from stackbuild.transport.retries import NotFoundError, Patience
from stackbuild.transport.transfer import download
from stackbuild.transport.urls import redact, split_address
from stackbuild.workspace import Workspace
from tests.support.http import CutAfter, Raw, Redirect, Status, Trickle, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.http import Server

DATA = random.Random(7).randbytes(300_000)
QUICK = Patience(
    reach=2.0, silence=1.0, attempts=3, backoff=0.001, longest_pause=0.01, slowest=5000, window=0.2
)


@dataclass
class Heard(Silent):
    """Messages that are kept."""

    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving({"/f": DATA}) as server:
        read_bytes(server.url + "/f")
        yield server


def test_a_trickle_is_given_up(tmp_path: Path) -> None:
    with serving({"/f": DATA}) as server:
        server.script("/f", *[Trickle(1, 0.01)] * 5)
        began = time.monotonic()
        with pytest.raises(FetchError) as caught:
            download(
                server.url + "/f", tmp_path / "f", sha256=None, messages=Silent(), patience=QUICK
            )
        assert time.monotonic() - began < 5
        assert server.count("/f") == 2
    assert caught.value.message == "127.0.0.1 sends too slowly"
    details = dict(caught.value.details)
    assert details["expected"] == "5000 bytes per second or more"
    assert details["found"].endswith(" bytes in 0 s")
    assert list(tmp_path.iterdir()) == []


def test_a_transfer_that_was_slow_once_goes_on(tmp_path: Path) -> None:
    with serving({"/f": DATA}) as server:
        server.script("/f", Trickle(1, 0.01))
        download(
            server.url + "/f",
            tmp_path / "f",
            sha256=hashlib.sha256(DATA).hexdigest(),
            messages=Silent(),
            patience=QUICK,
        )
        assert server.requests[1].headers["range"].startswith("bytes=")
    assert (tmp_path / "f").read_bytes() == DATA


def test_a_slow_reader_is_no_slow_server(server: Server) -> None:
    got = b""
    for piece in read_spans(server.url + "/f", [(0, None)], chunk=60_000, patience=QUICK):
        time.sleep(QUICK.window)
        got += piece
    assert got == DATA


def test_headers_that_trickle_are_given_up(server: Server) -> None:
    patience = Patience(reach=0.2, silence=0.3, attempts=2, backoff=0.001)
    head = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 90
    server.script("/slow", *[Raw(head, 1, 0.05)] * 2)
    began = time.monotonic()
    with pytest.raises(FetchError) as caught:
        read_bytes(server.url + "/slow", patience=patience)
    assert dict(caught.value.details)["found"] == "no answer in time"
    assert time.monotonic() - began < 3


def test_the_body_of_a_redirect_is_not_read(server: Server) -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: /f\r\nContent-Length: 1000000\r\n\r\n"
    server.script("/slow", Raw(head + b"x" * 1000, len(head), 0.05))
    began = time.monotonic()
    assert read_bytes(server.url + "/slow", patience=QUICK) == DATA
    assert time.monotonic() - began < 0.5


def test_what_a_server_asks_for_is_told_and_has_a_limit(server: Server) -> None:
    heard = Heard()
    server.script("/f", Status(503, {"Retry-After": "75"}))
    began = time.monotonic()
    assert read_bytes(server.url + "/f", patience=QUICK, messages=heard) == DATA
    assert time.monotonic() - began < 5
    assert heard.notes == [
        "127.0.0.1 requests a pause of 75 s (HTTP status 503 Service Unavailable); "
        "trying again in 0 s"
    ]


def test_pauses_of_its_own_are_told_when_they_are_long(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    slept: list[float] = []
    monkeypatch.setattr("stackbuild.transport.retries.time.sleep", slept.append)
    server.script("/f", Status(500), Status(502), Status(503))
    assert read_bytes(server.url + "/f", patience=Patience(), messages=heard) == DATA
    assert slept == [0.5, 1.0, 2.0]
    assert heard.notes == [
        "127.0.0.1: HTTP status 502 Bad Gateway; trying again in 1 s",
        "127.0.0.1: HTTP status 503 Service Unavailable; trying again in 2 s",
    ]


@contextmanager
def plain_server() -> Iterator[tuple[int, list[bytes]]]:
    """A port that answers whatever it is sent as a web server without TLS does."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        heard: list[bytes] = []

        def answer() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(1000))
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield listening.getsockname()[1], heard
        listening.shutdown(socket.SHUT_RDWR)


def test_tls_to_a_server_without_is_told_at_once() -> None:
    with plain_server() as (port, heard):
        with pytest.raises(FetchError) as caught:
            read_bytes(f"https://ann:secret@127.0.0.1:{port}/f?key=1", patience=Patience())
        assert len(heard) == 1
    assert caught.value.message == "127.0.0.1 does not use TLS at this address"
    remedy = dict(caught.value.details)["to fix"]
    assert remedy.endswith(f"use http://127.0.0.1:{port}/f?…")
    assert "secret" not in str(caught.value)


def test_a_server_without_ranges_is_named_once() -> None:
    heard = Heard()
    arrived: list[int] = []
    spans = [(10, 20), (1000, 3000), (299_000, 300_000)]
    with serving({"/f": DATA}, ranges=False) as server:
        server.script("/f", CutAfter(100_000))
        got = b"".join(
            read_spans(
                server.url + "/f", spans, patience=QUICK, messages=heard, count=arrived.append
            )
        )
        assert got == b"".join(DATA[start:stop] for start, stop in spans)
        assert heard.notes == [
            f"127.0.0.1 does not support range requests: {server.url}/f is read as a whole "
            "(300.0 kB), although only 3.0 kB are needed"
        ]
        assert sum(arrived) == server.bytes_sent == 400_000
        heard.notes.clear()
        assert b"".join(read_spans(server.url + "/f", [(0, 300_000)], messages=heard)) == DATA
        assert heard.notes == []


def test_with_ranges_only_what_is_asked_for_arrives() -> None:
    heard = Heard()
    arrived: list[int] = []
    # A server of its own: the shared one may still be sending slowly for another test.
    with serving({"/f": DATA}) as server:
        address = server.url + "/f"
        list(read_spans(address, [(10, 20), (1000, 3000)], messages=heard, count=arrived.append))
        assert sum(arrived) == server.bytes_sent == 2010
    assert heard.notes == []


def test_more_than_was_announced_is_not_taken(server: Server) -> None:
    server.script("/f", Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef"))
    assert read_bytes(server.url + "/f", patience=QUICK) == b"abc"


def test_chunks(server: Server) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.script("/f", Raw(head + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"))
    assert read_bytes(server.url + "/f", patience=QUICK) == b"abcde"
    server.script("/f", *[Raw(head + b"3\r\nabc\r\nzz\r\n")] * 3)
    with pytest.raises(FetchError, match="the transfer failed 3 times"):
        read_bytes(server.url + "/f", patience=QUICK)


DIGITS = st.integers(0, 10**6).map(str) | st.sampled_from(["9" * 5000, "9" * 30, "-1", "", "²"])
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Content-Range": st.builds("bytes {}-{}/{}".format, DIGITS, DIGITS, DIGITS | st.just("*"))
        | st.builds("bytes */{}".format, DIGITS)
        | st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20),
        "Content-Length": DIGITS,
        "Retry-After": DIGITS
        | st.sampled_from(
            [
                "Mon, 01 Jan 0001 00:00:00 -2359",
                "Fri, 31 Dec 9999 23:59:59 -2359",
                "Fri, 31 Dec 99999 23:59:59 GMT",
                "Mon, 32 Foo 2026 25:61:61 GMT",
                "1e999",
                "NaN",
            ]
        )
        | st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20),
        "Location": st.sampled_from(
            [
                "http://[::1",
                "http://h:99999/",
                "http://h:x/",
                "//",
                "http://",
                "\x00",
                "http://a..b/",
                "http://" + "a" * 70 + ".invalid/",
                "http://é/",
                "file:///etc/passwd",
                "http://u:p@[/",
            ]
        ),
        "Transfer-Encoding": st.sampled_from(["chunked", "gzip", ""]),
    },
)
# A server's answer is part of each example, hence fewer of them; the same ones each time.
FEW = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FEW
@given(st.sampled_from([200, 206, 302, 401, 416, 503]), HEADERS, st.binary(max_size=30))
def test_whatever_a_server_answers_the_error_is_one_of_ours(
    server: Server, status: int, headers: dict[str, str], body: bytes
) -> None:
    lines = [f"HTTP/1.1 {status} x", *(f"{name}: {text}" for name, text in headers.items())]
    answer = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
    patience = Patience(
        reach=0.5, silence=0.5, attempts=2, backoff=0.0, longest_pause=0.0, slowest=1, window=0.5
    )
    server.script("/any", *[Raw(answer)] * 12)
    for ask in (
        lambda: list(read_spans(server.url + "/any", [(5, 20)], patience=patience)),
        lambda: read_bytes(server.url + "/any", patience=patience),
        lambda: content_length(server.url + "/any", patience=patience),
    ):
        try:
            ask()
        except StackbuildError as error:
            assert len(str(error)) < 1000  # noqa: PT017 - any of ours will do, if it is short
    server.forget("/any")


@pytest.mark.parametrize(
    "url",
    [
        "http://h:99999/",
        "http://h:x/",
        "https://[::1/",
        "http:///f",
        "http://a b/",
        "http://h:0/",
        "http://ann:sec/ret@h/",
        "http://h\\x/",
    ],
)
def test_addresses_that_are_none(url: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="this is not the address of a file") as caught:
        split_address(url)
    assert "secret" not in str(caught.value)
    with pytest.raises(FetchError, match="this is not the address of a file"):
        download(url, tmp_path / "f", sha256=None, messages=Silent())
    with pytest.raises(UsageError, match="the address of the registry is not valid"):
        open_registry(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["a..b", "a" * 70 + ".invalid", "é…é"])
def test_hosts_that_no_name_can_have(host: str) -> None:
    with pytest.raises(FetchError):
        read_bytes(f"http://{host}/f", patience=QUICK)


@given(st.text(max_size=30))
@settings(deadline=None, derandomize=True)
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for url in (text, f"http://{text}", f"http://u:{text}@h/{text}"):
        redact(url)
        try:
            split_address(url)
        except FetchError:
            continue


def test_a_redirect_to_no_address(server: Server) -> None:
    server.script("/f", Redirect("http://ann:secret@h:99999/x"))
    with pytest.raises(
        FetchError, match="redirects to an address that is not http or https"
    ) as caught:
        read_bytes(server.url + "/f", patience=QUICK)
    assert "secret" not in str(caught.value)


def test_a_proxy_with_a_bad_address_is_named(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "")
    for address in ("http://ann:secret@proxy:x", "socks5://proxy:1080"):
        monkeypatch.setenv("http_proxy", address)
        with pytest.raises(FetchError, match="the address of the proxy is not valid") as caught:
            read_bytes("http://h.invalid/f", patience=QUICK)
        assert "http_proxy" in dict(caught.value.details)["to fix"]
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("netrc", "problem"),
    [
        (b"machine a login b password c\n# \xe9\n", "line 2 is not UTF-8"),
        (b"machine a login b password c\nmachine secret what\n", "invalid syntax near line 3"),
    ],
)
def test_a_netrc_file_that_cannot_be_read_is_told_where_it_is_missed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, netrc: bytes, problem: str
) -> None:
    path = tmp_path / "netrc"
    path.write_bytes(netrc)
    monkeypatch.setenv("NETRC", str(path))
    assert read_bytes(server.url + "/f") == DATA
    server.script("/f", Status(401))
    with pytest.raises(FetchError) as caught:
        read_bytes(server.url + "/f", patience=QUICK)
    remedy = dict(caught.value.details)["to fix"]
    assert remedy.endswith(f"{path} is not used: {problem}")
    assert "secret" not in remedy


def test_passwords_in_any_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password ключ\n", "utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving({"/f": b"x"}) as server:
        read_bytes(server.url + "/f")
        read_bytes(server.url.replace("//", "//ann:%D0%BA%D0%BB%D1%8E%D1%87@") + "/f")
        sent = {request.headers["authorization"] for request in server.requests}
    assert sent == {"Basic YW5uOtC60LvRjtGH"}


def test_downloads_that_fail_beside_each_other_say_why(tmp_path: Path) -> None:
    # A failure removes the directory that it made, in which another may be about to write.
    workspace = Workspace(project=tmp_path, cache=tmp_path / "cache", jobs=1)
    archive = Download(url="https://h/python.tar.gz", sha256="0" * 64)
    errors: list[BaseException] = []

    def work() -> None:
        for _ in range(60):
            try:
                fetch_archive(archive, ["file:///nowhere"], workspace, Silent(), QUICK)
            except NotFoundError:
                continue
            except BaseException as error:  # noqa: BLE001 - collected for the assertion
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert list((workspace.runtimes / "downloads").iterdir()) == []
