"""The operating system's own Python, packed, moved, and made into layers.

Its standard library is out of reach while it runs; the loader's directories cannot be. What
virtual environments below it do is what Debian changes, so that is looked at one by one.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from stackbuild.files import sha256_file
from stackbuild.messages import Silent
from stackbuild.platforms import host_platform
from stackbuild.processes import clean_environment
from stackbuild.runtimes.pack import pack
from stackbuild.runtimes.probe import candidates, find_interpreters, objection
from stackbuild.runtimes.tarball import unpack_tarball
from stackbuild.workspace import CACHE_VARIABLE
from tests.support.interpreters import MINORS
from tests.support.roots import stackbuild
from tests.support.smallstack import SmallStack
from tests.support.stack import out_of_reach
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.runtimes.probe import Facts

MODULES = (
    *("ssl", "sqlite3", "ctypes", "hashlib", "multiprocessing", "venv", "lzma", "bz2", "zlib"),
    *("asyncio", "decimal", "uuid", "sysconfig", "xml.etree.ElementTree"),
)
SEEN = f"""
import importlib, json, site, sys, sysconfig, zoneinfo
modules = [importlib.import_module(name) for name in {MODULES!r}]
print(json.dumps({{
    "files": [one.__file__ for one in modules if hasattr(one, "__file__")], "path": sys.path,
    "prefix": sys.prefix, "base": sys.base_prefix, "purelib": sysconfig.get_path("purelib"),
    "tz": zoneinfo.TZPATH,
}}))
"""


@pytest.fixture(scope="module")
def system() -> Facts:
    listed = candidates()
    for minor in MINORS:
        for facts in find_interpreters(minor, listed):
            if facts.is_system and objection(facts, host_platform()) is None:
                return facts
    pytest.skip("the operating system has no Python that can be packed")


@pytest.fixture(scope="module")
def hidden(system: Facts) -> list[str]:
    """Words before a command that must not see what the archive was packed from."""
    prefix = system.prefix
    shared = [prefix / "lib/python3", prefix / "share/python-wheels", prefix / "local/lib"]
    words = out_of_reach(system.stdlib, *shared)
    if words is None:
        pytest.skip("this machine allows no mount namespaces")
    return words


@pytest.fixture(scope="module")
def archive(system: Facts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(system.executable, tmp_path_factory.mktemp("mirror"), Silent()).path


@pytest.fixture(scope="module")
def moved(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("unpacked")
    unpack_tarball(archive, directory)
    return (directory / "python").rename(directory / "mové d")


def run(hidden: list[str], *words: str | Path) -> str:
    done = subprocess.run(
        [*hidden, *words],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
        cwd="/",
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def has_pip(moved: Path) -> None:
    if not list(moved.glob("lib/*/ensurepip")):
        pytest.skip("the system's package python3-venv is not installed")


def below(paths: object, *directories: Path) -> bool:
    assert isinstance(paths, list)
    assert paths
    return all(any(path.startswith(f"{one}/") for one in directories) for path in paths)


def test_the_original_does_not_run_where_it_is_out_of_reach(
    system: Facts, hidden: list[str]
) -> None:
    """The control: if this one ran, the tests below would prove nothing."""
    done = subprocess.run(
        [*hidden, system.executable, "-c", "import json"], capture_output=True, check=False
    )
    assert done.returncode != 0


def test_what_is_in_it(system: Facts, archive: Path) -> None:
    with tarfile.open(archive) as tar:
        names = [member.name for member in tar]
        links = {member.name: member.linkname for member in tar if not member.isfile()}
    stdlib = f"python/lib/python{system.minor}"
    packages = [name for name in names if "-packages" in name]
    assert packages == [f"{stdlib}/dist-packages/stackbuild.pth"]
    assert {f"python/bin/python{system.minor}", f"{stdlib}/os.py", f"{stdlib}/ssl.py"} <= {*names}
    # Everything else that is in /usr.
    others = ("python/bin/", stdlib, f"python/include/python{system.minor}")
    assert [name for name in names if not name.startswith((*others, "python/lib/lib"))] == []
    programs = {name.rpartition("/")[2] for name in names if name.startswith("python/bin/")}
    kinds = {
        name.rstrip(".0123456789").removesuffix("-config").rstrip(".0123456789")
        for name in programs
    }
    assert kinds <= {"python", "pydoc", "idle", "2to3-", "2to"}
    assert [link for link in links.values() if link.startswith("/")] == []
    theirs = {"sitecustomize.py", "EXTERNALLY-MANAGED", "_distutils_system_mod.py"}
    assert theirs.isdisjoint(name.rpartition("/")[2] for name in names)


def test_the_same_bytes_when_it_is_packed_again(archive: Path, moved: Path, tmp_path: Path) -> None:
    assert sha256_file(pack(moved, tmp_path, Silent()).path) == sha256_file(archive)


@pytest.mark.parametrize("options", [[], ["-I"]], ids=["plain", "isolated"])
def test_it_sees_nothing_of_the_system(
    system: Facts, moved: Path, hidden: list[str], options: list[str]
) -> None:
    seen = json.loads(run(hidden, moved / "bin/python3", *options, "-c", SEEN))
    assert seen["prefix"] == seen["base"] == str(moved)
    assert below([path for path in seen["path"] if path] + seen["files"], moved)
    assert seen["purelib"] == str(moved / f"lib/python{system.minor}/site-packages")
    # The time zones are the host's, as with any other interpreter.
    assert "/usr/share/zoneinfo" in seen["tz"]


def test_multiprocessing_with_spawn(moved: Path, hidden: list[str], tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing as m\n"
        "if __name__ == '__main__':\n"
        "    with m.get_context('spawn').Pool(2) as pool:\n"
        "        print(pool.map(abs, [-1, -2]))\n"
    )
    assert run(hidden, moved / "bin/python3", program) == "[1, 2]"


@pytest.mark.parametrize("options", [["--without-pip"], []], ids=["without pip", "with pip"])
def test_it_makes_virtual_environments(
    system: Facts, moved: Path, hidden: list[str], tmp_path: Path, options: list[str]
) -> None:
    if not options:
        has_pip(moved)
    environment = tmp_path / "environment"
    run(hidden, moved / "bin/python3", "-m", "venv", *options, environment)
    seen = json.loads(run(hidden, environment / "bin/python", "-c", SEEN))
    assert (seen["prefix"], seen["base"]) == (str(environment), str(moved))
    assert below([path for path in seen["path"] if path] + seen["files"], environment, moved)
    if not options:
        installs(environment, system, hidden, tmp_path)


def installs(environment: Path, system: Facts, hidden: list[str], tmp_path: Path) -> None:
    """A wheel goes into the environment's site-packages, and is found there."""
    wheel = make_wheel(tmp_path, "thing", "1.0", {"thing.py": "word = 'found'\n"})
    install = ("-m", "pip", "--isolated", "install", "--no-index", wheel)
    run(hidden, environment / "bin/python", *install)
    site = environment / f"lib/python{system.minor}/site-packages"
    assert (site / "thing.py").is_file()
    program = "import thing; print(thing.word)"
    assert run(hidden, environment / "bin/python", "-c", program) == "found"


@pytest.fixture(scope="module")
def root(system: Facts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with layers on the packed interpreter, the runtime holding a distribution, too."""
    directory = tmp_path_factory.mktemp("stack")
    more = f"path = {json.dumps(str(system.executable))}"
    stack = SmallStack(
        directory / "project", directory / "cache", str(system.version), bytecode=True, more=more
    )
    lines = {"below.py": "word = 'below'\n", "below.pth": "import sys; sys.of_runtime = 1\n"}
    stack.wheel("cpython", "below", "1.0", lines)
    stack.lock()
    published = stackbuild(
        *("publish", "--spec", str(stack.spec), "--platform", "host"),
        env={CACHE_VARIABLE: str(stack.cache)},
    )
    assert published.returncode == 0, published.stderr
    words = ("app", "--from", str(stack.exports), "--root", str(directory / "root"))
    installed = stackbuild("install", *words)
    assert installed.returncode == 0, installed.stderr
    return (directory / "root").rename(directory / "rött")


def test_layers_run_on_it(root: Path, hidden: list[str]) -> None:
    assert run(hidden, root / "app/bin/python", "-I", "-m", "app") == "app helps"
    layer = (root / "app").resolve()
    assert run(hidden, root / "app/bin/lib-tool") == f"lib {layer}"
    seen = json.loads(run(hidden, root / "app/bin/python", "-I", "-c", SEEN))
    assert below(seen["path"] + seen["files"], root.resolve())
    assert (seen["prefix"], seen["base"]) == (str(layer), str((root / "cpython").resolve()))
    program = "import below, lib, sys; print(below.word, sys.of_runtime)"
    assert run(hidden, root / "app/bin/python", "-c", program) == "below 1"


def test_a_runtime_finds_its_distributions_when_it_is_started_itself(
    root: Path, hidden: list[str]
) -> None:
    program = "import below, sys; print(below.word, sys.of_runtime)"
    assert run(hidden, root / "cpython/bin/python3", "-I", "-c", program) == "below 1"


def test_a_layer_makes_virtual_environments(
    system: Facts, root: Path, moved: Path, hidden: list[str], tmp_path: Path
) -> None:
    has_pip(moved)
    environment = tmp_path / "environment"
    run(hidden, root / "app/bin/python", "-m", "venv", environment)
    installs(environment, system, hidden, tmp_path)
    seen = json.loads(run(hidden, environment / "bin/python", "-I", "-c", SEEN))
    assert below(seen["path"] + seen["files"], environment, root.resolve())
