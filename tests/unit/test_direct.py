"""Requirements with an address: which counts, and which file it names."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.errors import LockError
from stackbuild.lock.model import LockedFile
from stackbuild.reading import ReadError
from stackbuild.resolve.direct import addresses_of, found_at, plain_requirement

if TYPE_CHECKING:
    from pathlib import Path

LINUX = {"sys_platform": "linux"}
ONE, TWO = canonicalize_name("one"), canonicalize_name("two-more")
WHEEL = "one-1.0-py3-none-any.whl"
URL = f"https://files.example/{WHEEL}"


def test_addresses_of_requirements_and_sources() -> None:
    requirements = [
        "first",
        "Two_More[fast] @ https://h/two_more-1.tar.gz ; sys_platform == 'linux'",
        "one>=1",
        "two-more @ https://h/two_more-2.tar.gz ; sys_platform == 'win32'",
        "two-more",
        "absent @ https://h/absent-1.tar.gz ; sys_platform == 'win32'",
        "plain",
    ]
    two = {TWO: "https://h/two_more-1.tar.gz"}
    assert addresses_of(requirements, LINUX, {}) == two
    assert addresses_of(requirements, LINUX, {ONE: URL}) == {**two, ONE: URL}
    assert addresses_of(reversed(requirements), LINUX, {TWO: two[TWO]}) == two
    assert addresses_of(requirements, {"sys_platform": "win32"}, {}) == {
        TWO: "https://h/two_more-2.tar.gz",
        "absent": "https://h/absent-1.tar.gz",
    }


def test_two_addresses_of_one_distribution() -> None:
    texts = ["one @ https://u:secret@h/one-1.tar.gz", "one @ https://u:secret@h/one-2.tar.gz"]
    with pytest.raises(LockError) as caught:
        addresses_of(texts, LINUX, {})
    assert str(caught.value).splitlines() == [
        "one distribution has two addresses",
        "  distribution: one",
        "  expected: one of https://h/one-1.tar.gz",
        "  found: https://h/one-2.tar.gz",
    ]
    with pytest.raises(LockError, match="two addresses"):
        addresses_of(["one @ https://h/one-1.tar.gz"] * 2 + ["one"], LINUX, {ONE: URL, TWO: URL})


def test_a_requirement_without_its_address() -> None:
    marker = 'sys_platform == "linux"'
    assert plain_requirement(f"one[a] @ {URL} ; {marker}") == f"one[a]; {marker}"
    assert plain_requirement("one  >= 1") == "one  >= 1"


def test_the_digest_of_a_file_at_an_address() -> None:
    kept = LockedFile(name=WHEEL, size=7, sha256="ab" * 32)
    plain = found_at(ONE, WHEEL, URL, None)
    assert (plain.name, plain.version, plain.file, plain.url) == (ONE, Version("1.0"), WHEEL, URL)
    assert (plain.sha256, plain.size) == (None, None)
    for url in (URL, f"{URL}#sha256={'ab' * 32}", f"{URL}#sha256={'AB' * 32}"):
        found = found_at(ONE, WHEEL, url, kept)
        assert (found.url, found.sha256, found.size) == (URL, "ab" * 32, 7)
    # The file in the lock is not the one that the address demands.
    found = found_at(ONE, WHEEL, f"{URL}#sha256={'CD' * 32}", kept)
    assert (found.url, found.sha256, found.size) == (URL, "cd" * 32, None)


def test_a_local_file_at_an_address(tmp_path: Path) -> None:
    path = tmp_path / "with space" / WHEEL
    path.parent.mkdir()
    path.write_bytes(b"abc")
    kept = LockedFile(name=WHEEL, size=7, sha256="ab" * 32)
    found = found_at(ONE, WHEEL, path.as_uri(), kept)
    assert (found.url, found.size) == (path.as_uri(), 3)
    assert found.sha256 == hashlib.sha256(b"abc").hexdigest()


def test_a_file_of_another_distribution() -> None:
    with pytest.raises(ReadError) as caught:
        found_at(TWO, WHEEL, URL, None)
    assert caught.value.message == "a file of another distribution, one"
    assert caught.value.place == ""
