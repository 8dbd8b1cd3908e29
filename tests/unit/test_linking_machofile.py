"""Renaming libraries in Mach-O files, and their ad-hoc signature."""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import ComposeError
from stackbuild.frames.binaries import read_macho
from stackbuild.linking.machofile import renamed
from tests.support import images

if TYPE_CHECKING:
    from pathlib import Path

SIGNED = zlib.decompress(
    base64.b85decode(
        "c-"
        "rmUUu+ab90%~<ZD~E_+HSG5M*wLWG$83+TiVhJF$LQwk(58>0mWpxce~fSaDU3}o^TMLHZf{YLrovhL?wo(1W7bXVv"
        "MmZ8ecI!5R9=eC1Q*w4KbvxmO9g$ZRd^_A5HZ8Nv5;E-JRe4W@hgm_Mum&f4}1+@(@?TTLo`D#Y8WXE>6)Z-"
        "mdejjP36{u%GVIQ?+<ptTcf!$2#gP+*g>de`T((QDRL^yo~zQkTKiIgzP2ros;=|O04Gd%6z`Od@O3k`>gaL`96~Q)"
        "+_P7>&qmM#F8e9B_pXt@_i@sJ*C7NEsZfN$|7kaVJ$vie^q`y5f>@rmlH+Rd}3eE&gJRYzJEJ=Vs}?}E?c`?ANR(Bx"
        "JWkf!02=1ds9wco&TIqt*b=lQtSF<K96!iuCBgB?AE2t*AX|EolS&Nan|Rgm(1r?VzsXOD1Sc~GY!WmoTu_U73A|4<"
        "SVpF?iFLZc6L48*|F2z%aQzbcVoXy<|$aOT3&g*yia_#m-l}0J(A-@FV?7jB$x6Lxn_Ox`o@A-%-"
        "JvFa?y_xy`Ou2Xpj8N2V@f^mD0VR+n&+I*P%>)*TwfQn6cBrcq|k&vvE^i7kM|xS~O+m;Z)MjB&>A6PR*TtRDCA6Mw"
        "vIaMq&o5=Z@Xqq17_y^)~%t=Z($Y;n?}v>ang{qK?+Q&)Z!rvdq`UTX)uWtVCc(fY%udE&RUJFH&cFy3cT;Vw91zkM"
        "Mfsn6<Lrnkz(;1ONa400000{|7V2hcC<&(O?PD(9H4C4@ZjFHJ#{;K2SAC+PZ7?L=(E!J|&JD_;Eum4Ng2cd_h;v?;"
        "-L}&CXVfeB$lH8kt+|#k&ddPPK`0ZAiX<6vyKIjLt{;c&n7JYutA#o@4vSbMzsP?prtio@3W+PNh4EjxxQ&w^o10^S"
        "0LETc>xF(b!MeS^xk5000000000000000000000000000000000000000000000000000000000000_>cN#CDs4{00"
        "0000000000000000000000000000000000N~$NQA>M8f0)|MY}{nFlL@g<ENNP4+FNmk($vn3q<w^kE6#`;J&cM;i%"
        "=<}6-"
        "Cs)iAYOC86O)9v8ZK;agEHhQ!HvE&A3Ia%jo5PjdFkaaNf%JpCS2w2i_F1m&n_niy!38RO(w_5O3fu!n17KR&vNa7v"
        "TB&Wj<YuQDQeorIMq|lOL=3#rSe%d{)FteWwfJp4^-~?)byGSaaht-"
        "b!UZN3JGgPBfD|L@Yu<C(#!)vq`>!cHOa9FNFhP3Z_#jCm0AD;iwhlCxfYAxUIo#s&9;J+1%LF+S1ZyG(?&=o6SZ`Y"
        "jbmbQ+P`-"
        "97xe!o9ONyV};wqn7U7M1N+jk=MBeF)?<3iH^RF~T9{)cKPTpQgS2I0rkY&B1M)gQd8MXCTbS~_RrR<>;Z)MjB&>A6"
        "PLcnMQxE@Hb!hO%$g?&3Zojm%>eBSBir-HB_0{*~AAe9?F|zyS<+pB+ZH*l4J^JdEsk3if95^{We!jP9)7H<%zkL1R"
        "o%;`8Iye5_sk*WCpFcKnapP;1<zJ6Q?VdkQY%_kSyE$<A-"
        "E8fhPglIs*1ddk$K$7iKR?%f)n7MmKeOhOlP~=GZLI8XnM`B;"
    )
)
"""A library for arm64 that needs ``@rpath/libanswer.dylib``, as Zig 0.17 links and signs it:
`zig cc -target aarch64-macos -shared -Wl,-headerpad_max_install_names`."""

NEEDED = "@rpath/libanswer.dylib"
LONGER = "@loader_path/../../lib/libanswer.dylib"


def needed(path: Path, data: bytes, machine: str = "aarch64") -> tuple[str, ...]:
    path.write_bytes(data)
    found = read_macho(path, machine)
    assert found is not None
    return found.needed


def signature(data: bytes) -> tuple[int, int]:
    """Offset and size of the signature, from LC_CODE_SIGNATURE."""
    count, _ = struct.unpack_from("<II", data, 16)
    position = 32
    for _ in range(count):
        command, size = struct.unpack_from("<II", data, position)
        if command == 0x1D:
            start, length = struct.unpack_from("<II", data, position + 8)
            return start, length
        position += size
    raise AssertionError("the file is not signed")


def check_signature(data: bytes) -> None:
    """Compare the hash of each page with the signature, as the kernel of macOS does."""
    start, room = signature(data)
    magic, length, count, kind, offset = struct.unpack_from(">5I", data, start)
    assert (magic, count, kind) == (0xFADE0CC0, 1, 0)
    assert length <= room
    directory = start + offset
    fields = struct.unpack_from(">9I4B", data, directory)
    assert fields[0] == 0xFADE0C02
    assert fields[3] == 0x20002, "ad hoc, signed by a linker"
    hashes, slots, limit, page = fields[4], fields[7], fields[8], 1 << fields[12]
    assert limit == start
    assert slots == -(-start // page)
    for slot in range(slots):
        at = directory + hashes + 32 * slot
        of_page = data[slot * page : min((slot + 1) * page, limit)]
        assert data[at : at + 32] == hashlib.sha256(of_page).digest()


def test_a_signature_is_made_as_a_linker_makes_it() -> None:
    check_signature(SIGNED)
    assert renamed(SIGNED, {}) == SIGNED
    start, room = signature(SIGNED)
    damaged = SIGNED[: start + 150] + bytes(room - 150)
    assert renamed(damaged, {}) == SIGNED


@pytest.mark.parametrize("name", [LONGER, "@loader_path/libanswer.dylib", "@loader_path/x"])
def test_a_library_gets_a_new_name(tmp_path: Path, name: str) -> None:
    new = renamed(SIGNED, {NEEDED: name})
    assert needed(tmp_path / "new", new) == ("/usr/lib/libSystem.B.dylib", name)
    check_signature(new)
    # All offsets are the same, and back again it is the same file.
    assert len(new) == len(SIGNED)
    assert renamed(new, {name: NEEDED}) == SIGNED


def test_each_processor_of_a_universal_file_is_changed(tmp_path: Path) -> None:
    intel = images.macho("x86_64", [NEEDED], kind=images.BUNDLE) + bytes(4096)
    new = renamed(images.fat({"x86_64": intel, "aarch64": SIGNED}), {NEEDED: LONGER})
    assert needed(tmp_path / "new", new, "x86_64") == (LONGER,)
    assert needed(tmp_path / "new", new)[-1] == LONGER


SIGNATURE, _ = signature(SIGNED)
DIRECTORY = SIGNATURE + 20
SIGNATURE_COMMAND = 1392
"""The offset of LC_CODE_SIGNATURE in `SIGNED`."""


def patched(data: bytes, *changes: tuple[int, bytes]) -> bytes:
    """`data` with other bytes at some offsets."""
    result = bytearray(data)
    for offset, new in changes:
        result[offset : offset + len(new)] = new
    return bytes(result)


def roomy(*changes: tuple[int, bytes], room: int = 4096) -> bytes:
    """`SIGNED` with `room` bytes for its signature, as codesign leaves them."""
    room_field = (SIGNATURE_COMMAND + 12, struct.pack("<I", room))
    return patched(SIGNED[:SIGNATURE] + SIGNED[SIGNATURE:].ljust(room, b"\1"), room_field, *changes)


@pytest.mark.parametrize("page_log", [12, 14, 16])
def test_a_signature_keeps_its_size_of_pages_and_its_room(page_log: int) -> None:
    new = renamed(roomy((DIRECTORY + 39, bytes([page_log]))), {})
    check_signature(new)
    assert len(new) == SIGNATURE + 4096
    (length,) = struct.unpack_from(">I", new, SIGNATURE + 4)
    assert new[SIGNATURE + length :] == bytes(4096 - length)
    assert new[DIRECTORY + 39] == page_log
    assert new[DIRECTORY + 64 :].startswith(SIGNED[DIRECTORY + 64 : DIRECTORY + 100])


def test_an_older_signature_says_nothing_about_the_segment_with_the_code() -> None:
    new = renamed(roomy((DIRECTORY + 8, struct.pack(">I", 0x20200))), {})
    check_signature(new)
    name = SIGNED[DIRECTORY + 88 : DIRECTORY + 100]
    assert new[DIRECTORY + 64 :].startswith(bytes(24) + name)


def test_a_header_without_room_is_told() -> None:
    tight = images.macho(needed=[NEEDED])
    with pytest.raises(ComposeError) as caught:
        renamed(tight, {NEEDED: LONGER})
    assert str(caught.value) == (
        "the header of a library has no room for a longer name\n"
        "  expected: 16 bytes more\n"
        "  to fix: link it with `-Wl,-headerpad_max_install_names`, or give it an rpath in its own"
        " distribution, such as `@loader_path/../lib`"
    )
    assert len(renamed(tight + bytes(16), {NEEDED: LONGER})) == len(tight) + 16


@pytest.mark.parametrize("section", [0, 4])
def test_the_room_of_a_header_ends_at_the_first_section(section: int) -> None:
    # __TEXT is the first load command; its sections follow its 72 bytes, in 80 bytes each.
    field = 32 + 72 + 80 * section + 48
    end = 32 + struct.unpack_from("<I", SIGNED, 20)[0]
    with pytest.raises(ComposeError, match="expected: 8 bytes more"):
        renamed(patched(SIGNED, (field, struct.pack("<I", end + 8))), {NEEDED: LONGER})
    # A section without contents, such as __bss, has the offset 0.
    check_signature(renamed(patched(SIGNED, (field, bytes(4))), {NEEDED: LONGER}))


def test_what_is_not_to_be_renamed_stays_as_it_is() -> None:
    data = images.macho(needed=[NEEDED]).replace(b"answer", b"\xffnswer") + bytes(64)
    assert renamed(data, {NEEDED: LONGER}) == data
    # An unknown load command of the smallest size.
    head = struct.pack("<8I", 0xFEEDFACF, *images.CPU["aarch64"], images.LIBRARY, 1, 8, 0, 0)
    data = head + struct.pack("<II", 0x99, 8)
    assert renamed(data, {NEEDED: LONGER}) == data


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "it is not a 64-bit Mach-O file"),
        (b"\xce\xfa\xed\xfe" + bytes(60), "it is not a 64-bit Mach-O file"),
        (patched(SIGNED, (36, bytes(4))), "a load command of 0 bytes"),
        (patched(SIGNED, (36, struct.pack("<I", 1377))), "a load command of 1377 bytes"),
        # Signatures of other kinds.
        (patched(SIGNED, (SIGNATURE, bytes(4))), "it has an unknown signature"),
        (patched(SIGNED, (SIGNATURE + 8, bytes(4))), "it has an unknown signature"),
        (patched(SIGNED, (DIRECTORY, bytes(4))), "its signature has no code directory"),
        (roomy((DIRECTORY + 39, b"\x0b")), "its signature has an unknown size of pages"),
        (roomy((DIRECTORY + 39, b"\x11")), "its signature has an unknown size of pages"),
        (patched(SIGNED, (DIRECTORY + 39, b"\x0c")), "its signature has no room for sha256"),
        # Numbers that lead out of the file.
        (SIGNED[:40], None),
        (patched(SIGNED, (16, b"\xff" * 4)), None),
        (patched(SIGNED, (SIGNATURE_COMMAND + 8, struct.pack("<i", -248))), None),
    ],
)
def test_damaged_files_are_told(data: bytes, found: str | None) -> None:
    with pytest.raises(ComposeError) as caught:
        renamed(data, {NEEDED: LONGER})
    told = str(caught.value)
    assert told.startswith(f"a binary file is damaged\n  found: {found or ''}")
    assert found is None or told.endswith(found)
