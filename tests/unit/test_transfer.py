"""Downloads from a real server that misbehaves in every scripted way."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import FetchError, IntegrityError, StackbuildError
from stackbuild.messages import Silent
from stackbuild.transport.ranges import content_length, read_bytes, read_spans
from stackbuild.transport.retries import NotFoundError, Patience, UnreachableError
from stackbuild.transport.transfer import download
from stackbuild.transport.urls import redact
from tests.support.http import CutAfter, Hang, Redirect, Send, Status, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = random.Random(7).randbytes(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
# A busy machine may take seconds to answer.
QUICK = Patience(reach=10.0, silence=1.0, attempts=4, backoff=0.01)


def fetch(
    url: str,
    to: Path,
    sha256: str | None = SHA256,
    size: int | None = None,
    patience: Patience = QUICK,
) -> None:
    download(url, to, sha256=sha256, messages=Silent(), size=size, patience=patience)


def read_range(
    url: str, start: int, stop: int | None, *, chunk: int = 1 << 20, patience: Patience = QUICK
) -> Iterator[bytes]:
    return read_spans(url, [(start, stop)], chunk=chunk, patience=patience)


def left_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, kept from others while the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def silent_port() -> Iterator[int]:
    """A port where connections are accepted (by the kernel) and never answered."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        yield listening.getsockname()[1]


def test_downloads_a_file(tmp_path: Path) -> None:
    with serving({"/f": DATA}) as server:
        fetch(server.url + "/f", tmp_path / "new" / "f", size=len(DATA))
    assert (tmp_path / "new" / "f").read_bytes() == DATA
    assert left_in(tmp_path / "new") == ["f"]


def test_follows_redirects_also_relative_ones_and_to_other_hosts(tmp_path: Path) -> None:
    with serving({"/f": DATA}) as other, serving() as server:
        server.script("/a", Redirect("/b?token=1"))
        server.script("/b", Redirect(f"{other.url}/f", 307))
        fetch(server.url + "/a", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == DATA


def test_gives_up_on_a_circle_of_redirects(tmp_path: Path) -> None:
    with serving() as server:
        server.script("/a", *[Redirect("/a")] * 50)
        with pytest.raises(FetchError, match="more than 10 redirects"):
            fetch(server.url + "/a", tmp_path / "f")
    assert left_in(tmp_path) == []


def test_does_not_follow_a_redirect_to_a_local_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(DATA)
    with serving() as server:
        server.script("/a", Redirect(secret.as_uri()))
        with pytest.raises(FetchError, match="an address that is not http or https"):
            fetch(server.url + "/a", tmp_path / "f")


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_tries_again_after_a_passing_failure(tmp_path: Path, code: int) -> None:
    with serving({"/f": DATA}) as server:
        server.script("/f", Status(code), Status(code))
        fetch(server.url + "/f", tmp_path / "f")
        assert server.count("/f") == 3
    assert (tmp_path / "f").read_bytes() == DATA


def test_obeys_retry_after(tmp_path: Path) -> None:
    with serving({"/f": DATA}) as server:
        server.script("/f", Status(503, {"Retry-After": "1"}))
        started = time.monotonic()
        fetch(server.url + "/f", tmp_path / "f")
    assert time.monotonic() - started >= 1.0


def test_failures_that_do_not_pass_are_reported_after_the_last_attempt(tmp_path: Path) -> None:
    with serving({"/f": DATA}) as server:
        server.script("/f", *[Status(503)] * 10)
        with pytest.raises(FetchError, match="the transfer failed 4 times") as caught:
            fetch(server.url + "/f", tmp_path / "f")
        assert server.count("/f") == 4
    assert ("found", "HTTP status 503 Service Unavailable") in caught.value.details
    assert left_in(tmp_path) == []


def test_a_missing_file_is_not_asked_for_again(tmp_path: Path) -> None:
    with serving() as server:
        with pytest.raises(NotFoundError, match="there is no such file"):
            fetch(server.url + "/f", tmp_path / "f")
        assert server.count() == 1
    assert left_in(tmp_path) == []


def test_a_refusal_says_where_credentials_go(tmp_path: Path) -> None:
    with serving() as server:
        server.script("/f", Status(401))
        with pytest.raises(FetchError, match="netrc"):
            fetch(server.url + "/f", tmp_path / "f")


def test_other_bytes_are_refused_and_removed(tmp_path: Path) -> None:
    with serving({"/f": DATA[:-1] + b"x"}) as server:
        with pytest.raises(IntegrityError, match=SHA256):
            fetch(server.url + "/f", tmp_path / "f")
        assert server.count() == 1
    assert left_in(tmp_path) == []


def test_a_file_longer_than_expected_is_not_read_to_its_end(tmp_path: Path) -> None:
    with serving({"/f": DATA}) as server, pytest.raises(IntegrityError, match="longer"):
        fetch(server.url + "/f", tmp_path / "f", size=1_000_000)
    assert left_in(tmp_path) == []


def test_a_broken_transfer_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with serving({"/f": DATA}) as server:
        server.script("/f", CutAfter(1_000_000), CutAfter(500_000))
        fetch(server.url + "/f", tmp_path / "f")
        asked = [request.headers.get("range") for request in server.requests]
        assert asked == [None, "bytes=1000000-", "bytes=1500000-"]
        assert server.bytes_sent == len(DATA)
    assert (tmp_path / "f").read_bytes() == DATA


def test_a_broken_transfer_starts_again_where_the_server_knows_no_ranges(tmp_path: Path) -> None:
    with serving({"/f": DATA}, ranges=False) as server:
        server.script("/f", CutAfter(1_000_000))
        fetch(server.url + "/f", tmp_path / "f")
        assert server.bytes_sent == len(DATA) + 1_000_000
    assert (tmp_path / "f").read_bytes() == DATA


def test_a_transfer_that_breaks_often_ends_as_long_as_it_gets_on(tmp_path: Path) -> None:
    data = DATA * 4
    with serving({"/f": data}) as server:
        server.script("/f", *[CutAfter(1 << 20)] * 11)
        fetch(server.url + "/f", tmp_path / "f", sha256=hashlib.sha256(data).hexdigest())
    assert (tmp_path / "f").read_bytes() == data


def test_a_transfer_that_falls_silent_is_tried_again(tmp_path: Path) -> None:
    with serving({"/f": DATA, "/g": b"g"}) as server:
        read_bytes(server.url + "/g")
        server.script("/f", Hang())
        fetch(server.url + "/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == DATA


def test_goes_on_from_what_a_killed_process_left(tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(DATA[:2_000_000])
    with serving({"/f": DATA}) as server:
        fetch(server.url + "/f", tmp_path / "f")
        assert server.bytes_sent == 1_000_000
    assert (tmp_path / "f").read_bytes() == DATA
    assert left_in(tmp_path) == ["f"]


@pytest.mark.parametrize("left", [b"of another file", DATA + b"more", DATA], ids=len)
def test_what_a_killed_process_left_is_not_trusted(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "f.part").write_bytes(left)
    with serving({"/f": DATA}) as server:
        fetch(server.url + "/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == DATA


def test_without_a_hash_nothing_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(b"of another file")
    with serving({"/f": DATA}) as server:
        fetch(server.url + "/f", tmp_path / "f", sha256=None)
    assert (tmp_path / "f").read_bytes() == DATA


def test_a_failure_leaves_the_former_file_alone(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"former")
    with serving({"/f": b"wrong"}) as server, pytest.raises(IntegrityError):
        fetch(server.url + "/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"former"


def test_two_processes_download_a_file_once(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from stackbuild.transport.transfer import download\n"
        "from stackbuild.cli.console import Console\n"
        "download(sys.argv[1], pathlib.Path(sys.argv[2]), sha256=sys.argv[3], "
        "messages=Console(quiet=False))\n"
    )
    with serving({"/f": DATA}) as server:
        server.script("/f", Hang(1.5))
        words = [sys.executable, "-c", program, server.url + "/f", str(tmp_path / "f"), SHA256]
        first = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        while not server.count():
            time.sleep(0.01)
        second = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
        _, first_messages = first.communicate()
        assert (first.returncode, second.returncode) == (0, 0), (first_messages, second.stderr)
        assert "waiting for another process that downloads f" in second.stderr
        assert server.bytes_sent == len(DATA)
    assert (tmp_path / "f").read_bytes() == DATA
    assert left_in(tmp_path) == ["f"]


def test_a_closed_port_is_given_up_at_once(tmp_path: Path) -> None:
    with closed_port() as port, pytest.raises(UnreachableError) as caught:
        fetch(f"http://127.0.0.1:{port}/f", tmp_path / "f")
    assert caught.value.host == "127.0.0.1"
    assert caught.value.message == "127.0.0.1 cannot be reached"
    assert ("found", os.strerror(errno.ECONNREFUSED)) in caught.value.details
    assert left_in(tmp_path) == []


def test_a_host_that_never_answers_is_given_up_in_time(tmp_path: Path) -> None:
    with silent_port() as port:
        started = time.monotonic()
        with pytest.raises(UnreachableError, match="no answer within 1 seconds"):
            fetch(f"http://127.0.0.1:{port}/f", tmp_path / "f", patience=replace(QUICK, reach=1.0))
    assert time.monotonic() - started < QUICK.reach
    assert left_in(tmp_path) == []


def test_a_name_that_cannot_be_resolved_is_given_up(tmp_path: Path) -> None:
    # RFC 6761 reserves .invalid: no resolver knows a name below it.
    with pytest.raises(UnreachableError) as caught:
        fetch("http://nowhere.invalid/f", tmp_path / "f")
    assert caught.value.host == "nowhere.invalid"


def test_the_real_patience_is_within_ten_seconds() -> None:
    assert Patience().reach <= 10.0


def test_credentials_are_sent_to_their_host_only_and_never_shown(tmp_path: Path) -> None:
    with serving() as other, serving() as server:
        server.script("/a", Redirect("/b"))
        server.script("/b", Redirect(other.url.replace("127.0.0.1", "localhost") + "/f"))
        url = server.url.replace("//", "//ann:s%20cret@")
        with pytest.raises(StackbuildError) as caught:
            fetch(f"{url}/a?key=s%20cret", tmp_path / "f")
        assert [request.headers.get("authorization") for request in server.requests] == [
            "Basic YW5uOnMgY3JldA=="
        ] * 2
        assert [request.headers.get("authorization") for request in other.requests] == [None]
    assert "cret" not in str(caught.value)
    assert "ann" not in str(caught.value)


def test_credentials_of_the_netrc_file_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving({"/f": b"x"}) as server:
        assert read_bytes(server.url + "/f") == b"x"
        assert server.requests[0].headers["authorization"] == "Basic YW5uOnNlY3JldA=="


def test_a_damaged_netrc_file_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine machine what\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving({"/f": b"x"}) as server:
        assert read_bytes(server.url + "/f") == b"x"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ann:secret@example.org/f", "https://example.org/f"),
        ("https://example.org:8080/f?signature=1#x", "https://example.org:8080/f?…"),
        ("file:///srv/f", "file:///srv/f"),
        ("file:wheels/x.whl", "file:wheels/x.whl"),
    ],
)
def test_redact(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize(
    ("start", "stop"), [(0, None), (0, 10), (5, 3_000_000), (2_999_999, None), (1, 2)]
)
@pytest.mark.parametrize("ranges", [True, False])
def test_read_range(start: int, stop: int | None, ranges: bool) -> None:
    with serving({"/f": DATA}, ranges=ranges) as server:
        assert b"".join(read_range(server.url + "/f", start, stop)) == DATA[start:stop]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize(
    "spans",
    [
        [(0, 10), (10, 20), (500_000, 500_001)],
        [(5, 900_000), (900_001, 1_000_000), (1_500_000, None)],
        [(1, 2)],
    ],
)
def test_read_spans(spans: list[tuple[int, int | None]], ranges: bool) -> None:
    with serving({"/f": DATA}, ranges=ranges) as server:
        got = b"".join(read_spans(server.url + "/f", spans))
        assert got == b"".join(DATA[start:stop] for start, stop in spans)
        # Without ranges the file is sent once for all of them.
        assert server.count("/f") == (len(spans) if ranges else 1)


def test_read_spans_goes_on_after_a_break_without_ranges() -> None:
    with serving({"/f": DATA}, ranges=False) as server:
        server.script("/f", CutAfter(700_000))
        spans = [(10, 100_000), (600_000, 800_000), (900_000, 900_001)]
        got = b"".join(read_spans(server.url + "/f", spans, patience=QUICK))
        assert got == b"".join(DATA[start:stop] for start, stop in spans)
        assert server.count("/f") == 2


def test_a_server_that_refuses_ranges_sends_the_whole_file() -> None:
    refusals = (Status(416), Status(416, {"Content-Range": f"bytes */{len(DATA)}"}))
    with serving({"/f": DATA}, ranges=False) as server:
        for refusal in refusals:
            server.script("/f", refusal)
            url = f"{server.url}/f"
            assert b"".join(read_spans(url, [(5, 9)], patience=QUICK)) == DATA[5:9]
        server.script("/f", *refusals)
        with pytest.raises(FetchError, match="the server refuses the request"):
            list(read_spans(url, [(5, 9)], patience=QUICK))


def test_read_spans_beyond_the_end() -> None:
    with (
        serving({"/f": DATA}, ranges=False) as server,
        pytest.raises(FetchError, match="the file ends at byte"),
    ):
        list(read_spans(server.url + "/f", [(0, 5), (len(DATA), len(DATA) + 1)], patience=QUICK))


def test_read_range_goes_on_after_a_break() -> None:
    with serving({"/f": DATA}) as server:
        server.script("/f", CutAfter(100_000))
        pieces = read_range(server.url + "/f", 1_000_000, 2_000_000, patience=QUICK)
        assert b"".join(pieces) == DATA[1_000_000:2_000_000]
        assert server.requests[1].headers["range"] == "bytes=1100000-1999999"


def test_read_range_in_pieces_of_limited_size_over_one_connection() -> None:
    with serving({"/f": DATA}) as server:
        for _ in range(3):
            pieces = list(read_range(server.url + "/f", 10, 500_000, chunk=65536))
            assert max(map(len, pieces)) <= 65536


def test_read_range_past_the_end_is_an_error() -> None:
    with serving({"/f": DATA}) as server, pytest.raises(FetchError, match="the file ends at byte"):
        list(read_range(server.url + "/f", 2_999_000, 3_000_001, patience=QUICK))


def test_read_bytes_has_a_limit() -> None:
    with serving({"/f": DATA}) as server, pytest.raises(FetchError, match="too large"):
        read_bytes(server.url + "/f", 1_000_000)


def test_content_length() -> None:
    with serving({"/f": DATA}) as server:
        assert content_length(server.url + "/f") == len(DATA)
        assert server.count(method="GET") == 0
        server.script("/f", Status(405))
        assert content_length(server.url + "/f") == len(DATA)
        server.script("/f", Status(503))
        assert content_length(server.url + "/f", patience=QUICK) == len(DATA)
        with pytest.raises(NotFoundError):
            content_length(server.url + "/g")


def test_file_addresses(tmp_path: Path) -> None:
    source = tmp_path / "with space é"
    source.write_bytes(DATA)
    fetch(source.as_uri(), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == DATA
    assert b"".join(read_range(source.as_uri(), 5, 9)) == DATA[5:9]
    assert content_length(source.as_uri()) == len(DATA)
    with pytest.raises(NotFoundError, match="there is no such file"):
        fetch((tmp_path / "none").as_uri(), tmp_path / "g")


@pytest.mark.parametrize("url", ["", "ftp://example.org/f", "http:///f", "file://host/f", "C:\\f"])
def test_other_addresses_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(FetchError, match="this is not the address of a file"):
        fetch(url, tmp_path / "f")
    assert left_in(tmp_path) == []


def test_a_file_that_changes_between_two_halves_is_noticed(tmp_path: Path) -> None:
    with serving({"/f": DATA}) as server:
        server.script("/f", CutAfter(1_000_000), Send(b"x" * len(DATA)))
        with pytest.raises(IntegrityError):
            fetch(server.url + "/f", tmp_path / "f")
    assert left_in(tmp_path) == []
