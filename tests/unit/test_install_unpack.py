from __future__ import annotations

import io
import os
import stat
import zlib
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackbuild.errors import InstallError, IntegrityError
from stackbuild.files import remove_tree
from stackbuild.frames.keys import frame_length
from stackbuild.frames.model import Frame, FrameKind
from stackbuild.frames.tarformat import TarReader, header, padding
from stackbuild.install.store import Listing, Store, StoredFile
from stackbuild.install.unpack import unpack
from stackbuild.zstd import CompressionParameter, ZstdCompressor, ZstdReader, compressor
from tests.support.damage import damaged_fragments
from tests.support.zstd import compressed


def fragment(*entries: tuple[str, bytes | str, bool]) -> bytes:
    """Files (bytes), links (str) and whether they can be run."""
    data = b""
    for path, content, executable in entries:
        if isinstance(content, str):
            data += header(path, link=content)
        else:
            data += header(path, size=len(content), executable=executable)
            data += content + padding(len(content))
    return data


def count(content: bytes) -> int:
    """How many entries `content` has, as far as it can be read."""
    members = TarReader(io.BytesIO(content).read, siblings=("cpython",))
    found = 0
    with suppress(IntegrityError):
        for _ in members:
            found += 1
    return found


def made_frame(
    content: bytes, content_size: int | None = None, *, files: int | None = None
) -> tuple[io.BytesIO, Frame]:
    raw = compressed(content)
    frame = Frame(
        kind=FrameKind.DISTRIBUTION,
        subject="demo 1",
        sha256="0" * 64,
        size=len(raw),
        content_size=len(content) if content_size is None else content_size,
        files=count(content) if files is None else files,
    )
    return io.BytesIO(raw), frame


def changed(path: Path) -> int:
    return path.stat().st_mtime_ns


def test_files_are_read_only_and_listed(tmp_path: Path) -> None:
    content = fragment(
        ("a/b/data", b"x" * 1000, False), ("a/run", b"#!/bin/sh\n", True), ("z", "a/run", False)
    )
    data, frame = made_frame(content)
    tree = tmp_path / "tree"
    listing = unpack(data, frame, tree, ())
    assert (tree / "a/b/data").read_bytes() == b"x" * 1000
    assert stat.S_IMODE((tree / "a/b/data").stat().st_mode) == 0o444
    assert stat.S_IMODE((tree / "a/run").stat().st_mode) == 0o555
    assert (tree / "z").readlink() == Path("a/run")
    assert os.access(tree / "a", os.W_OK)
    assert listing == Listing(
        directories=("a", "a/b"),
        files=(
            StoredFile(
                "a/b/data", 1000, False, zlib.crc32(b"x" * 1000), changed(tree / "a/b/data")
            ),
            StoredFile("a/run", 10, True, zlib.crc32(b"#!/bin/sh\n"), changed(tree / "a/run")),
        ),
        links=(("z", "a/run"),),
    )


def test_a_layer_for_windows_has_no_links(tmp_path: Path) -> None:
    content = fragment(("a", b"x", False), ("z", "a", False))
    data, frame = made_frame(content)
    with pytest.raises(IntegrityError) as caught:
        unpack(data, frame, tmp_path / "tree", (), "windows")
    assert caught.value.message == "a layer for Windows contains a link"
    assert caught.value.details == (("file", "'z'"),)


@pytest.mark.parametrize("difference", [-512, -1, 1, 4096])
def test_another_size_than_promised_is_refused(tmp_path: Path, difference: int) -> None:
    content = fragment(("a", b"x" * 600, False))
    promised = len(content) + difference
    data, frame = made_frame(content, promised)
    with pytest.raises(IntegrityError) as caught:
        unpack(data, frame, tmp_path / "tree", ())
    assert caught.value.message == "the unpacked size of a frame does not match its manifest"
    assert caught.value.details == (
        ("distribution", "demo 1"),
        ("expected", f"{promised} bytes"),
        ("found", f"{len(content)} bytes" if difference > 0 else "more"),
        ("to fix", "publish the layer again"),
    )


def test_what_a_disk_does_not_take_at_once_is_written_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    data, frame = made_frame(fragment(("a", bytes(range(100)), False)))
    unpack(data, frame, tmp_path / "tree", ())
    assert (tmp_path / "tree/a").read_bytes() == bytes(range(100))


def test_a_bomb_is_stopped_at_its_promised_size(tmp_path: Path) -> None:
    content = fragment(("bomb", bytes(40 << 20), False))
    data, frame = made_frame(content, 4096)
    with pytest.raises(IntegrityError, match="the unpacked size of a frame"):
        unpack(data, frame, tmp_path / "tree", ())
    assert sum(file.stat().st_size for file in (tmp_path / "tree").iterdir()) <= 4096


def test_what_is_no_zstd_frame_is_refused(tmp_path: Path) -> None:
    _, frame = made_frame(b"")
    with pytest.raises(IntegrityError) as caught:
        unpack(io.BytesIO(b"no frame at all"), frame, tmp_path / "tree", ())
    assert caught.value.message.startswith("a frame cannot be decompressed: ")
    assert caught.value.message != "a frame cannot be decompressed: None"
    assert caught.value.details == (
        ("distribution", "demo 1"),
        ("to fix", "publish the layer again"),
    )


def test_a_frame_that_wants_too_much_memory_is_refused(tmp_path: Path) -> None:
    content = fragment(("a", b"x", False))
    raw = compressed(content, {CompressionParameter.window_log: 30})
    _, frame = made_frame(content)
    with pytest.raises(IntegrityError, match="cannot be decompressed"):
        unpack(io.BytesIO(raw), replace(frame, size=len(raw)), tmp_path / "tree", ())


@pytest.mark.parametrize("files", [0, 1, 3, 1 << 40])
def test_another_number_of_files_than_promised_is_refused(tmp_path: Path, files: int) -> None:
    content = fragment(("a", b"x", False), ("b", "a", False))
    data, frame = made_frame(content, files=files)
    with pytest.raises(IntegrityError) as caught:
        unpack(data, frame, tmp_path / "tree", ())
    assert caught.value.message == "the number of files in a frame does not match its manifest"
    assert caught.value.details == (
        ("distribution", "demo 1"),
        ("expected", str(files)),
        ("found", "2"),
        ("to fix", "publish the layer again"),
    )


def test_names_that_the_layer_s_system_cannot_have_are_refused(tmp_path: Path) -> None:
    content = fragment(("aux.py", b"", False))
    data, frame = made_frame(content)
    unpack(data, frame, tmp_path / "linux", (), "linux")
    data, frame = made_frame(content)
    with pytest.raises(IntegrityError, match="reserves for a device"):
        unpack(data, frame, tmp_path / "windows", (), "windows")


def test_directories_are_their_owner_s_whatever_the_umask(tmp_path: Path) -> None:
    data, frame = made_frame(fragment(("a/b/c", b"", False)))
    before = os.umask(0)
    try:
        unpack(data, frame, tmp_path / "tree", ())
    finally:
        os.umask(before)
    for name in ("", "a", "a/b"):
        assert stat.S_IMODE((tmp_path / "tree" / name).stat().st_mode) == 0o755


def test_the_sum_of_a_file_in_several_pieces(tmp_path: Path) -> None:
    content = bytes(range(256)) * 12_000
    data, frame = made_frame(fragment(("a", content, False)))
    (file,) = unpack(data, frame, tmp_path / "tree", ()).files
    assert (file.size, file.crc32) == (len(content), zlib.crc32(content))


def test_a_file_system_that_takes_two_names_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = os.open
    base = str(tmp_path)

    def as_without_case(path: str, flags: int, mode: int = 0o777) -> int:
        return create(base + path.removeprefix(base).lower(), flags, mode)

    monkeypatch.setattr(os, "open", as_without_case)
    data, frame = made_frame(fragment(("d/File", b"", False), ("d/file", b"", False)))
    with pytest.raises(InstallError) as caught:
        unpack(data, frame, tmp_path / "tree", ())
    assert caught.value.message == "this file system treats two paths of a frame as the same file"
    assert caught.value.details == (
        ("file", "d/file"),
        ("to fix", "install into a case-sensitive file system"),
    )


SKIPPABLE = bytes.fromhex("5a2a4d1804000000") + b"evil"


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b"", SKIPPABLE),
        (b"", compressed(b"")),
        (b"", b"\0"),
        (compressed(b""), b""),
    ],
)
def test_more_than_one_zstd_frame_is_refused(tmp_path: Path, before: bytes, behind: bytes) -> None:
    data, frame = made_frame(fragment(("a", b"x", False)))
    raw = before + data.read() + behind
    with pytest.raises(IntegrityError, match="compressed size of a frame does not match"):
        unpack(io.BytesIO(raw), replace(frame, size=len(raw)), tmp_path / "tree", ())
    assert not (tmp_path / "tree").exists()


@given(st.binary(max_size=300), st.integers(1, 50))
def test_frames_are_read_one_or_all(data: bytes, size: int) -> None:
    raw = compressed(data) + compressed(b"") + compressed(b"second")
    for all_frames, content in ((False, data), (True, data + b"second")):
        reader = ZstdReader(io.BytesIO(raw), all_frames=all_frames)
        pieces = list(iter(partial(reader.read, size), b""))
        assert b"".join(pieces) == content
        assert max(map(len, pieces), default=0) <= size
    assert ZstdReader(io.BytesIO(raw[:3])).read(size) == b""


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(1, 9), st.booleans())
def test_the_length_of_a_frame(data: bytes, repeats: int, level: int, checksum: bool) -> None:
    content = data * repeats
    options: dict[int, int] = {
        CompressionParameter.compression_level: level,
        CompressionParameter.checksum_flag: int(checksum),
    }
    whole = ZstdCompressor(options=options).compress(content, ZstdCompressor.FLUSH_FRAME)
    for raw in (whole, compressed(content, options)):
        file = io.BytesIO(b"before" + raw + b"behind")
        file.seek(6)
        assert frame_length(file) == len(raw)
        assert file.tell() == 6


def raw_header(path: str) -> bytes:
    """A header that the writer would refuse to make."""
    safe = header("x" * len(path), size=0)
    block = bytearray(safe)
    block[: len(path)] = path.encode()
    total = sum(block) - sum(block[148:156]) + 8 * 0x20
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


@pytest.mark.parametrize("path", ["../evil", "/evil", "a/../../evil", "./x"])
def test_a_path_that_leaves_is_refused(tmp_path: Path, path: str) -> None:
    data, frame = made_frame(raw_header(path))
    with pytest.raises(IntegrityError, match="is absolute, or has an empty"):
        unpack(data, frame, tmp_path / "tree", ())
    assert [entry.name for entry in tmp_path.iterdir()] == ["tree"]


@pytest.mark.parametrize("link", ["/etc/passwd", "../../etc", "../other/x", "a/../../x"])
def test_a_link_that_leaves_is_refused(tmp_path: Path, link: str) -> None:
    data, frame = made_frame(fragment(("link", link, False)))
    with pytest.raises(IntegrityError, match=r"^the target '.*' of a link "):
        unpack(data, frame, tmp_path / "tree", ("framework",))


def test_a_link_into_a_layer_of_the_chain_is_fine(tmp_path: Path) -> None:
    data, frame = made_frame(fragment(("bin/python", "../../cpython/bin/python", False)))
    listing = unpack(data, frame, tmp_path / "tree", ("cpython",))
    assert listing.links == (("bin/python", "../../cpython/bin/python"),)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damaged_fragments())
def test_of_a_damaged_fragment_nothing_is_written_elsewhere(tmp_path: Path, content: bytes) -> None:
    tree = tmp_path / "tree"
    remove_tree(tree)
    data, frame = made_frame(content)
    try:
        listing = unpack(data, frame, tree, ())
    except IntegrityError:
        pass
    else:
        written = {path.relative_to(tree).as_posix() for path in tree.rglob("*")}
        listed = {*listing.directories, *dict(listing.links), *(f.path for f in listing.files)}
        assert written == listed
    assert [entry.name for entry in tmp_path.iterdir()] == ["tree"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_frame_is_refused_or_means_the_same(tmp_path: Path, data: st.DataObject) -> None:
    content = fragment(("a", bytes(range(256)) * 3, False), ("b", b"#!/bin/sh\n", True))
    whole = compressor(3, len(content)).compress(content, ZstdCompressor.FLUSH_FRAME)
    raw = bytearray(whole)
    place = data.draw(st.integers(0, len(raw) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "drop", "repeat"]))
    if change == "flip":
        raw[place] ^= data.draw(st.integers(1, 255))
    elif change == "cut":
        del raw[place:]
    elif change == "drop":
        del raw[place]
    else:
        raw[place:place] = raw[place : place + data.draw(st.integers(1, 40))]
    tree = tmp_path / "tree"
    remove_tree(tree)
    _, frame = made_frame(content)
    try:
        unpack(io.BytesIO(raw), replace(frame, size=len(raw)), tree, ())
    except IntegrityError:
        return
    assert (tree / "a").read_bytes() == bytes(range(256)) * 3
    assert (tree / "b").read_bytes() == b"#!/bin/sh\n"


names = st.text(
    st.characters(exclude_characters="/\\\0", exclude_categories=["Cs", "Cc"]),
    min_size=1,
    max_size=12,
).filter(lambda name: name not in {".", ".."} and name[1:2] != ":")
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(paths, st.tuples(st.binary(max_size=2000), st.booleans()), max_size=8))
def test_whatever_is_framed_comes_out_again(
    tmp_path: Path, files: dict[str, tuple[bytes, bool]]
) -> None:
    kept = {
        path: item
        for path, item in files.items()
        if not any(other.startswith(f"{path}/") for other in files)
    }
    tree = tmp_path / "tree"
    remove_tree(tree)
    data, frame = made_frame(fragment(*((path, *item) for path, item in sorted(kept.items()))))
    listing = unpack(data, frame, tree, ())
    assert {file.path for file in listing.files} == kept.keys()
    for path, (content, executable) in kept.items():
        assert (tree / path).read_bytes() == content
        assert bool((tree / path).stat().st_mode & 0o111) == executable
    store = Store(tmp_path / "store")
    store.listing_path("a" * 64).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    store.tree("a" * 64).mkdir(mode=0o755, exist_ok=True)
    store.listing_path("a" * 64).write_text(listing.to_json())
    assert store.listing("a" * 64) == listing


@pytest.mark.parametrize("text", ["", "{}", '{"format": 99}', "[]", '{"format": 1, "files": 3}'])
def test_a_listing_that_cannot_be_read_counts_as_none(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    store.listing_path("a" * 64).parent.mkdir(mode=0o755)
    store.listing_path("a" * 64).write_text(text)
    assert store.listing("a" * 64) is None
