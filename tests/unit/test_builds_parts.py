"""The parts of building that need neither compiler nor index."""

from __future__ import annotations

import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from stackbuild.builds.audit import OLDEST, Audit, _level, audit
from stackbuild.builds.kept import Kept
from stackbuild.builds.source import read_backend, unpack_sdist
from stackbuild.builds.wheelfile import check_wheel, unpack_wheel, write_wheel
from stackbuild.errors import IntegrityError, LockError
from stackbuild.runtimes.elf import MANYLINUX
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("symbol", "level"),
    [
        ("GLIBC_2.2.5", (2, 2)),
        ("GLIBC_2.34", (2, 34)),
        ("GLIBCXX_3.4", (2, 17)),
        ("GLIBCXX_3.4.19", (2, 17)),
        ("GLIBCXX_3.4.20", (2, 28)),
        ("GLIBCXX_3.4.30", (2, 35)),
        ("GLIBCXX_3.4.99", (2, 40)),
        ("CXXABI_1.3.11", (2, 28)),
        ("GCC_3.0", (2, 17)),
        ("GCC_12.0.0", (2, 35)),
        ("ZLIB_1.2.9", OLDEST),
        ("GLIBC_PRIVATE", OLDEST),
    ],
)
def test_the_glibc_that_a_symbol_stands_for(symbol: str, level: tuple[int, int]) -> None:
    assert _level(symbol) == level


def test_the_tag_says_what_a_wheel_needs() -> None:
    assert Audit().tag("x86_64") == "manylinux_2_17_x86_64"
    assert Audit(glibc=(2, 34)).tag("aarch64") == "manylinux_2_34_aarch64"
    assert Audit(glibc=(2, 34), foreign={"libx.so": "a"}).tag("x86_64") == "linux_x86_64"


def test_damaged_libraries_are_refused(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(b"\x7fELF" + bytes(60))
    with pytest.raises(IntegrityError) as caught:
        audit(tmp_path, "x86_64")
    assert ("file", str(tmp_path / "lib.so")) in caught.value.details


def test_files_of_other_kinds_need_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("pass")
    assert audit(tmp_path, "x86_64") == Audit()
    assert "libc.so.6" in MANYLINUX
    assert "libssl.so.3" not in MANYLINUX


def test_a_canonical_wheel_is_true_and_the_same_each_time(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path, "tiny", "1.0", {"b.py": "1", "a/c.py": "2"}, data={"scripts/run": b"#!python\n"}
    )
    made = []
    for name, turned in (("one", False), ("two", True)):
        tree = tmp_path / name
        tree.mkdir()
        files = unpack_wheel(wheel, tree)
        files = dict(reversed(files.items())) if turned else files
        path = tree / "tiny-1.0-0_abc-py3-none-any.whl"
        tags = check_wheel(wheel).tags
        write_wheel(tree, files, path, build="0_abc", tags=tags)
        made.append(path.read_bytes())
        facts = check_wheel(path)
        assert (facts.name, str(facts.version), facts.tags) == ("tiny", "1.0", tags)
    assert made[0] == made[1]
    with zipfile.ZipFile(path) as archive:
        # Whatever the order was: sorted, .dist-info behind the rest, RECORD last.
        assert archive.namelist() == [
            "a/c.py",
            "b.py",
            "tiny-1.0.data/scripts/run",
            "tiny-1.0.dist-info/METADATA",
            "tiny-1.0.dist-info/WHEEL",
            "tiny-1.0.dist-info/RECORD",
        ]
        record = archive.read("tiny-1.0.dist-info/RECORD").decode().splitlines()
        assert [line.partition(",")[0] for line in record] == archive.namelist()
        modes = {item.filename: item.external_attr >> 16 for item in archive.infolist()}
    assert modes["tiny-1.0.data/scripts/run"] == 0o100755
    assert modes["b.py"] == 0o100644


def _tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            tar.addfile(member)
    return path


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "members",
    [
        [_member("a-1/x"), _member("../x")],
        [_member("a-1/x"), _member("a-1/../../x")],
        [_member("/x")],
        [_member("a-1/x", tarfile.SYMTYPE, "/etc")],
        [_member("a-1/x", tarfile.SYMTYPE, "../..")],
        [_member("a-1/x", tarfile.LNKTYPE, "../y")],
        [_member("a-1/x", tarfile.SYMTYPE, "."), _member("a-1/x/y")],
        [_member("a-1/x", tarfile.CHRTYPE)],
    ],
    ids=lambda members: members[-1].name,
)
def test_sources_stay_in_their_directory(
    tmp_path: Path, members: list[tarfile.TarInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = _tar(tmp_path / "a-1.tar.gz", *members)
    # Older versions of CPython have no filters; newer ones must not be what refuses these.
    if hasattr(tarfile, "data_filter"):
        monkeypatch.setattr(tarfile, "data_filter", tarfile.fully_trusted_filter)
    with pytest.raises(IntegrityError, match="the source distribution cannot be unpacked"):
        unpack_sdist(archive, tmp_path / "to" / "in")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-1.tar.gz", "to"]


def test_sources_are_unpacked(tmp_path: Path) -> None:
    link = _member("a-1/link", tarfile.SYMTYPE, "x")
    archive = _tar(tmp_path / "a-1.tar.gz", _member("./a-1/x"), link)
    tree = unpack_sdist(archive, tmp_path / "tar")
    assert (tree.name, sorted(path.name for path in tree.iterdir())) == ("a-1", ["link", "x"])
    with zipfile.ZipFile(tmp_path / "b-1.zip", "w") as file:
        file.writestr("b-1/x", b"")
    assert (unpack_sdist(tmp_path / "b-1.zip", tmp_path / "zip") / "x").is_file()
    with pytest.raises(IntegrityError, match="this is not a source distribution"):
        unpack_sdist(_tar(tmp_path / "c.tar.gz", _member("a/x"), _member("b/x")), tmp_path / "two")
    (tmp_path / "d.tar.gz").write_bytes(b"no archive")
    with pytest.raises(IntegrityError, match="cannot be unpacked"):
        unpack_sdist(tmp_path / "d.tar.gz", tmp_path / "none")


def test_the_backend_of_a_source(tmp_path: Path) -> None:
    assert read_backend(tmp_path).name == "setuptools.build_meta:__legacy__"
    file = tmp_path / "pyproject.toml"
    file.write_text("[project]\nname = 'a'\n")
    assert read_backend(tmp_path).requires == ("setuptools>=40.8.0",)
    file.write_text("[build-system]\nrequires = ['x']\nbuild-backend = 'y'\nbackend-path = ['.']\n")
    backend = read_backend(tmp_path)
    assert (backend.requires, backend.name, backend.path) == (("x",), "y", (".",))
    file.write_text("[build-system]\nbuild-backend = 'setuptools.build_meta'\n")
    backend = read_backend(tmp_path)
    assert (backend.requires, backend.name) == (("setuptools>=40.8.0",), "setuptools.build_meta")
    file.write_text("[build-system]\nrequires = []\nbuild-backend = 'y'\n")
    assert read_backend(tmp_path).requires == ()
    for text in ("[build-system]\nrequires = 1\n", "build-system = 1\n", "["):
        file.write_text(text)
        with pytest.raises(LockError, match="the source is damaged"):
            read_backend(tmp_path)


def test_a_kept_wheel_that_was_damaged_is_not_there(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "tiny", "1.0", {"a.py": "1"})
    kept = Kept(tmp_path / "builds")
    assert kept.get("key") is None
    put = kept.put("key", wheel, {"libx.so": "a.so"})
    found = kept.get("key")
    assert found == put
    assert put.foreign == {"libx.so": "a.so"}
    put.path.write_bytes(b"damaged")
    assert kept.get("key") is None
    (tmp_path / "builds" / "keys" / "key.json").write_text("[")
    assert kept.get("key") is None
    assert kept.requires("recipe") is None
    kept.remember_requires("recipe", ["setuptools"])
    assert kept.requires("recipe") == ["setuptools"]
