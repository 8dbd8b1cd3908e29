"""An interpreter of this machine, packed, moved, and run where the original is out of reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stackbuild.files import sha256_file
from stackbuild.messages import Silent
from stackbuild.processes import clean_environment
from stackbuild.runtimes.contents import SITE_FILE
from stackbuild.runtimes.elf import read_elf
from stackbuild.runtimes.pack import pack
from stackbuild.runtimes.probe import probe
from stackbuild.runtimes.tarball import unpack_tarball
from tests.support.interpreters import MINORS, Listener, interpreters, packable, without

if TYPE_CHECKING:
    from stackbuild.runtimes.probe import Facts

MODULES = (
    *("ssl", "sqlite3", "ctypes", "hashlib", "multiprocessing", "venv", "lzma", "bz2", "readline"),
    *("zlib", "json", "asyncio", "curses", "decimal", "uuid", "sysconfig"),
)
CHECK = """
import importlib, json, sys
failed = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed.append(name)
maps = sorted({line.split()[-1] for line in open("/proc/self/maps") if "/" in line})
print(json.dumps({"failed": failed, "prefix": sys.prefix, "path": sys.path, "maps": maps}))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="packs the host's interpreter")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """An interpreter with a prefix of its own, so that it can be put out of reach."""
    facts = packable()
    if not facts.is_system:
        return facts
    # The operating system's own, packed and unpacked, is one.
    directory = tmp_path_factory.mktemp("of-the-system")
    unpack_tarball(pack(facts.executable, directory / "mirror", Silent()).path, directory)
    copy = probe(directory / "python/bin/python3")
    assert copy is not None
    return copy


@pytest.fixture(scope="module")
def mirror(original: Facts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("mirror")
    pack(original.prefix, directory, Silent())
    return directory


@pytest.fixture(scope="module")
def archive(mirror: Path) -> Path:
    (found,) = mirror.glob("*/*.tar.gz")
    return found


@pytest.fixture(scope="module")
def moved(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prefix, unpacked and moved to a path with spaces and other letters."""
    directory = tmp_path_factory.mktemp("unpacked")
    unpack_tarball(archive, directory)
    return (directory / "python").rename(directory / "mové d")


def imported(interpreter: Path, *, masked: Path | None = None) -> dict[str, object]:
    import json

    words: list[str | Path] = [interpreter, "-I", "-B", "-c", CHECK, *MODULES]
    if masked is None:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, env=clean_environment()
        )
    else:
        done = without(masked, words)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_it_is_named_as_the_releases_page_names_it(original: Facts, archive: Path) -> None:
    assert archive.parent.name.isdecimal()
    assert len(archive.parent.name) == 8
    assert archive.name.startswith(f"cpython-{original.version}+{archive.parent.name}-")
    assert archive.name.endswith("-unknown-linux-gnu-install_only.tar.gz")


def test_the_sha256_file_is_one_that_sha256sum_reads(archive: Path) -> None:
    beside = archive.with_name(f"{archive.name}.sha256")
    done = subprocess.run(
        ["sha256sum", "--check", beside.name], cwd=archive.parent, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert beside.read_text() == f"{sha256_file(archive)}  {archive.name}\n"


def test_the_original_does_not_run_where_it_is_out_of_reach(original: Facts) -> None:
    """The control: if this one ran, the tests below would prove nothing."""
    assert without(original.prefix, [original.executable, "-c", "1"]).returncode != 0


def test_an_unchanged_copy_would_need_the_original(original: Facts, tmp_path: Path) -> None:
    elf = read_elf(original.executable.resolve())
    if elf is None or not any(name.startswith("libpython") for name in elf.needed):
        pytest.skip("this interpreter has no shared libpython")
    copy = tmp_path / "bin/python"
    copy.parent.mkdir()
    shutil.copy(original.executable, copy)
    assert without(original.prefix, [copy, "-c", "1"]).returncode != 0


def test_it_runs_where_the_original_is_out_of_reach(original: Facts, moved: Path) -> None:
    expected = imported(original.executable)["failed"]
    answer = imported(moved / "bin/python3", masked=original.prefix)
    assert answer["failed"] == expected
    assert answer["prefix"] == str(moved)


def test_it_maps_no_file_of_the_original(original: Facts, moved: Path) -> None:
    answer = imported(moved / f"bin/python{original.minor}")
    maps, path = answer["maps"], answer["path"]
    assert isinstance(maps, list)
    assert isinstance(path, list)
    assert [item for item in maps + path if item.startswith(f"{original.prefix}/")] == []
    # The same question about the original has an answer, so it can fail.
    maps = imported(original.executable)["maps"]
    assert isinstance(maps, list)
    assert [item for item in maps if item.startswith(f"{original.prefix}/")]


@pytest.mark.parametrize("options", [["--without-pip"], []], ids=["without pip", "with pip"])
def test_it_makes_virtual_environments(
    original: Facts, moved: Path, tmp_path: Path, options: list[str]
) -> None:
    environment = tmp_path / "environment"
    words: list[str | Path] = [moved / "bin/python3", "-m", "venv", *options, environment]
    done = without(original.prefix, words)
    assert done.returncode == 0, done.stderr
    program = "import sys, sqlite3, json; print(sys.prefix)"
    done = without(original.prefix, [environment / "bin/python", "-I", "-c", program])
    assert done.stdout == f"{environment}\n"
    done = without(original.prefix, [environment / "bin/python", "-m", "pip", "--version"])
    assert (done.returncode == 0) == (not options)


def test_its_scripts_find_it(original: Facts, moved: Path, tmp_path: Path) -> None:
    link = tmp_path / "pydoc"
    link.symlink_to(moved / "bin/pydoc3")
    done = without(original.prefix, [link, "json.decoder.JSONDecoder"])
    assert "Simple JSON" in done.stdout, done.stderr


def test_its_config_script_tells_where_it_is(original: Facts, moved: Path, tmp_path: Path) -> None:
    if not (original.prefix / "bin/python3-config").exists():
        pytest.skip("this interpreter has no python3-config")
    # CPython's script cannot stand in a directory with a space.
    script = tmp_path / "bin/python3-config"
    script.parent.mkdir()
    shutil.copy(moved / "bin/python3-config", script)
    done = without(original.prefix, [script, "--includes", "--ldflags", "--embed"])
    assert f"-I{tmp_path}/include/python{original.minor}" in done.stdout, done.stderr
    assert str(original.prefix) not in done.stdout


def test_multiprocessing_with_spawn(original: Facts, moved: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing as m\n"
        "if __name__ == '__main__':\n"
        "    with m.get_context('spawn').Pool(2) as pool:\n"
        "        print(pool.map(abs, [-1, -2]))\n"
    )
    done = without(original.prefix, [moved / "bin/python3", program])
    assert done.stdout == "[1, 2]\n", done.stderr


def test_texts_name_neither_prefix_nor_build_directory(original: Facts, moved: Path) -> None:
    # Of the system's own: in the packed one that stands for it the directory is replaced already.
    executable = packable().executable if packable().is_system else original.executable
    variables = subprocess.run(
        [executable, "-I", "-S", "-c", "import sysconfig as s; "
         "print(s.get_config_var('abs_builddir') or '/none')"],
        capture_output=True, text=True, check=True, env=clean_environment(),
    )  # fmt: skip
    build = variables.stdout.strip().encode()
    texts = [
        *moved.glob("lib/python*/*.py"),
        *moved.glob("lib/python*/*.json"),
        *moved.glob("lib/python*/config-*/*"),
        *moved.glob("lib/pkgconfig/*"),
        *(path for path in moved.glob("bin/*") if path.read_bytes()[:2] == b"#!"),
    ]
    expected = {"Makefile", "python-config.py", "python3.pc", "pydoc3"}
    if packable().is_system:
        expected = {"pydoc3"}  # Debian has the others elsewhere, or in python3-dev
    assert expected <= {path.name for path in texts}
    for path in texts:
        assert str(original.prefix).encode() not in path.read_bytes(), path
        assert build not in path.read_bytes(), path


def test_source_builds_get_a_plain_compiler(moved: Path) -> None:
    program = "import sysconfig as s; print([s.get_config_var(v).split()[0] for v in "
    program += "('CC', 'CXX', 'LDSHARED')])"
    done = subprocess.run(
        [moved / "bin/python3", "-I", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
    )
    assert done.stdout == "['gcc', 'g++', 'gcc']\n"


def test_what_is_in_it(original: Facts, archive: Path) -> None:
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert names == sorted(set(names))
    library = f"python/lib/python{original.minor}"
    assert {f"python/bin/python{original.minor}", f"{library}/os.py"} <= set(names)
    own = f"python/{SITE_FILE.format(original.minor)}"
    unwanted = [name for name in names if name.endswith((".a", ".pyc", ".pth"))]
    assert unwanted in ([], [own]), "only where the operating system's Python was packed"
    assert [name for name in names if name.startswith(f"{library}/test/")] == []
    assert [name for name in names if name.startswith(f"{library}/site-packages/")] == []
    for member in members:
        assert member.isfile() or member.issym()
        assert not member.linkname.startswith("/")
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert member.mode == (0o777 if member.issym() else 0o755 if member.mode & 1 else 0o644)
        assert member.mtime == 315532800


def test_it_says_which_libraries_of_the_host_it_needs(moved: Path, tmp_path: Path) -> None:
    listener = Listener()
    pack(moved, tmp_path, listener)
    needed = {
        name
        for path in [*moved.glob("bin/*"), *moved.rglob("*.so*")]
        if path.is_file() and (elf := read_elf(path))
        for name in elf.needed
    }
    (note,) = listener.notes
    named = set(note.partition(": ")[2].split(", "))
    assert named <= needed
    assert {name for name in needed - named if not name.startswith("libpython")} <= {
        *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1"),
        *("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"),
    }


PACK = """
import os, sys, time
from pathlib import Path
os.umask(int(sys.argv[3], 8))
from stackbuild.messages import Silent
from stackbuild.runtimes.pack import pack
print(pack(Path(sys.argv[1]), Path(sys.argv[2]), Silent()).path)
"""


def test_the_same_bytes_for_everybody(original: Facts, archive: Path, tmp_path: Path) -> None:
    """Another user, umask, place, zone, locale and time; files that are somebody else's."""
    theirs = tmp_path / "theirs"
    shutil.copytree(
        original.prefix,
        theirs,
        symlinks=True,
        ignore=shutil.ignore_patterns("test", "*.a", "__pycache__", "site-packages"),
    )
    if os.getuid() == 0:
        for path in theirs.rglob("*"):
            os.chown(path, 12345, 12345, follow_symlinks=False)
    done = subprocess.run(
        [sys.executable, "-c", PACK, theirs, tmp_path / "mirror", "077"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=clean_environment()
        | {"TZ": "Asia/Kathmandu", "LC_ALL": "tr_TR", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert sha256_file(Path(done.stdout.strip())) == sha256_file(archive)


def test_a_packed_interpreter_can_be_packed(moved: Path, archive: Path, tmp_path: Path) -> None:
    again = pack(moved / "bin/python3", tmp_path, Silent()).path
    assert again.name == archive.name
    assert sha256_file(again) == sha256_file(archive)


@pytest.mark.slow
@pytest.mark.parametrize("minor", MINORS)
def test_every_version_of_this_machine(minor: str, tmp_path: Path) -> None:
    if not interpreters(minor):
        pytest.skip(f"there is no CPython {minor}")
    facts = packable(minor)
    if facts.is_system:
        pytest.skip(f"the only CPython {minor} is the operating system's")
    unpack_tarball(pack(facts.executable, tmp_path / "mirror", Silent()).path, tmp_path)
    expected = imported(facts.executable)["failed"]
    answer = imported(tmp_path / f"python/bin/python{minor}", masked=facts.prefix)
    assert answer["failed"] == expected
    moved = probe(tmp_path / "python/bin/python")
    assert moved is not None
    assert moved.version == facts.version
