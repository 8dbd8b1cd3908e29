"""The stack of this repository: installed, moved, and used."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import findpython
import pytest
from packaging.version import Version
from tools.standin import PROJECT

from tests.support.archives import unpack_layer
from tests.support.publish import dateless
from tests.support.stack import APPLICATION, RealStack, out_of_reach, run

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.index,
    pytest.mark.skipif(sys.platform == "win32", reason="these are the POSIX ways to look inside"),
]

SEQUENCES = """\
>heavy
EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSRWGGDGF
YAMDYWGQGTLVTVSS
"""

USE_EVERYTHING = """
import ctypes, decimal, hashlib, lzma, sqlite3, ssl, zlib, zoneinfo
import multiprocessing
import numpy, pandas, scipy.linalg, scipy.sparse
import Bio.Align, openmm

def square(number):
    return float(numpy.square(number))

if __name__ == "__main__":
    import json, sys
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        squares = pool.map(square, [2, 3])
    maps = []
    if sys.platform == "linux":
        with open("/proc/self/maps") as file:
            maps = sorted({line[73:].rstrip() for line in file if line[73:].startswith("/")})
    print(json.dumps({
        "squares": squares,
        "solved": scipy.linalg.solve([[2.0]], [4.0]).tolist(),
        "prefix": sys.prefix,
        "path": sys.path,
        "maps": maps,
    }))
"""

SYSTEM_LIBRARIES = ("/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/", "/etc/", "/dev/", "/usr/share/")
"""Where the C library and the stand-in's host libraries are."""


def other_pythons() -> list[Path]:
    """The prefixes of all interpreters of this machine that are not the system's own."""
    prefixes = {Path(sys.base_prefix)}
    for found in findpython.find_all():
        prefixes.add(Path(found.executable).resolve().parent.parent)
    return sorted(prefix for prefix in prefixes if prefix not in {Path("/usr"), Path("/")})


@pytest.fixture(scope="module")
def alone(real_stack: RealStack) -> list[str]:
    """Words before a command from which everything the layers were made of is hidden.

    Hidden are the interpreters, the published archives, the caches and this environment; where
    there are no mount namespaces nothing is, and `/proc/self/maps` has to tell.
    """
    session = real_stack.directory.parent
    return out_of_reach(session, PROJECT, *other_pythons()) or []


def python_says(root: Path, *arguments: str | Path, before: list[str], **environment: str) -> Any:
    words = (*before, root / APPLICATION / "bin/python", *arguments)
    return json.loads(run(*words, environment=environment).stdout)


def test_everything_is_used_from_the_moved_root(
    moved_root: Path, alone: list[str], tmp_path: Path
) -> None:
    script = tmp_path / "use.py"
    script.write_text(USE_EVERYTHING)
    seen = python_says(moved_root, "-B", script, before=alone)
    assert seen["squares"] == [4.0, 9.0]
    assert seen["solved"] == [2.0]
    inside = str(moved_root.resolve())
    assert seen["prefix"].startswith(inside)
    assert all(path.startswith((inside, str(tmp_path))) for path in seen["path"])
    foreign = [path for path in seen["maps"] if not path.startswith((inside, *SYSTEM_LIBRARIES))]
    assert foreign == []
    if sys.platform == "linux":
        assert any("openmm" in path.lower() for path in seen["maps"]), "the maps were not read"


def published_version(stack: RealStack, layer: str, name: str) -> Version:
    """The version of a distribution; for another Python than the stack's it may be a newer one."""
    distributions: Any = stack.manifests()[layer]["distributions"]
    return Version(next(one["version"] for one in distributions if one["name"] == name))


def test_launch_module(real_stack: RealStack, moved_root: Path, alone: list[str]) -> None:
    result = run(*alone, moved_root / "atls/bin/python", "-m", "atls")
    lines = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line}
    assert "SRWGGDGFYAMDY" in result.stdout
    # It calls 8.4.0 just 8.4.
    openmm = published_version(real_stack, "atls", "openmm")
    assert Version(lines["openmm"][1]).release[:2] == openmm.release[:2]
    assert result.stderr == ""


def test_console_script_of_the_framework(
    real_stack: RealStack, moved_root: Path, alone: list[str]
) -> None:
    result = run(*alone, moved_root / "atls/bin/f2py", "-v")
    assert result.stdout == f"{published_version(real_stack, 'framework', 'numpy')}\n"
    # It is the application's interpreter that runs it, so it sees the application's distributions.
    script = moved_root / "atls/bin/numpy-config"
    include = run(*alone, script, "--cflags").stdout.strip().removeprefix("-I")
    assert Path(include).resolve().is_relative_to(moved_root.resolve())
    assert not (moved_root / "atls/bin/pip").exists()


def test_overlay_program(moved_root: Path, alone: list[str]) -> None:
    result = run(*alone, moved_root / "atls/bin/antibody-liabilities", text=SEQUENCES)
    header, *rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert header == ["id", "residues", "pI", "cdr3", "liability", "motif", "position", "where"]
    assert {(row[0], row[1], row[3]) for row in rows} == {("heavy", "120", "SRWGGDGFYAMDY")}
    found = {(row[4], row[5], row[6], row[7]) for row in rows}
    assert ("deamidation", "NG", "55", "elsewhere") in found
    assert ("isomerisation", "DG", "102", "CDR3") in found
    assert not any(row[4] == "free cysteine" for row in rows)


def test_overlay_program_refuses_what_is_no_protein(moved_root: Path, alone: list[str]) -> None:
    result = run(
        *alone, moved_root / "atls/bin/antibody-liabilities", text=">x\nACDXZ\n", check=False
    )
    assert result.returncode == 1
    assert result.stderr == "antibody-liabilities: x: 'XZ' is no amino acid\n"


def test_overlays_of_both_platforms_read_the_same_files(moved_root: Path, tmp_path: Path) -> None:
    plain, packed = tmp_path / "sequences.fasta", tmp_path / "sequences.fasta.gz"
    plain.write_text(SEQUENCES)
    packed.write_bytes(gzip.compress(SEQUENCES.encode()))
    program = moved_root / "atls/bin/antibody-liabilities"
    expected = run(program, text=SEQUENCES).stdout
    assert run(program, plain).stdout == run(program, packed).stdout == expected
    # The package of the other platform comes first on the path and is used instead.
    other = PROJECT / "overlays/atls/macosx-aarch64"
    words = (moved_root / "atls/bin/python", "-B", other / "bin/antibody-liabilities")
    environment = {"PYTHONPATH": str(other / "site-packages")}
    assert run(*words, plain, environment=environment).stdout == expected
    assert "clipboard" in run(*words, "--help", environment=environment).stdout


def test_overlay_program_through_a_link_elsewhere(moved_root: Path, tmp_path: Path) -> None:
    link = tmp_path / "liabilities"
    link.symlink_to(moved_root / "atls/bin/antibody-liabilities")
    assert "SRWGGDGFYAMDY" in run(link, text=SEQUENCES).stdout


def test_a_virtual_environment_made_with_the_layer(
    moved_root: Path, alone: list[str], tmp_path: Path
) -> None:
    made = tmp_path / "nested"
    run(*alone, moved_root / "atls/bin/python", "-m", "venv", "--without-pip", made)
    code = (
        "import sys, json, ssl, sqlite3, ctypes, importlib.util as u;"
        "print(json.dumps([sys.prefix, u.find_spec('numpy') is None, ssl.OPENSSL_VERSION]))"
    )
    prefix, bare, _ = json.loads(run(*alone, made / "bin/python", "-c", code).stdout)
    assert prefix == str(made)
    assert bare, "a new virtual environment sees nothing of the layer it was made with"


def test_isolated_mode(moved_root: Path, alone: list[str], tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("")
    code = (
        "import json, sys, pandas, importlib.util as u;"
        "print(json.dumps([sys.flags.isolated, u.find_spec('evil') is None]))"
    )
    seen = python_says(moved_root, "-I", "-c", code, before=alone, PYTHONPATH=str(tmp_path))
    assert seen == [1, True]


def test_neither_the_users_nor_the_hosts_site_packages(
    moved_root: Path, alone: list[str], tmp_path: Path, real_stack: RealStack
) -> None:
    minor = real_stack.runtime.removeprefix("cpython-")
    site = tmp_path / f".local/lib/python{minor}/site-packages"
    site.mkdir(parents=True)
    (site / "evil.py").write_text("")
    (site / "evil.pth").write_text("import evil\n")
    code = (
        "import json, site, sys, importlib.util as u;"
        "print(json.dumps([site.ENABLE_USER_SITE, 'evil' in sys.modules,"
        " u.find_spec('evil') is None, sys.path[1:], sorted(sys.modules)]))"
    )
    enabled, loaded, unseen, path, modules = python_says(
        moved_root, "-c", code, before=alone, HOME=str(tmp_path)
    )
    assert (enabled, loaded, unseen) == (False, False, True)
    assert all(entry.startswith(str(moved_root.resolve())) for entry in path)
    sites = [Path(entry) for entry in path if entry.endswith("site-packages")]
    assert [entry.parents[2].name for entry in sites[:2]] == ["atls", "framework"]
    # The interpreter brings nothing of what was installed where it was packed.
    assert all(list(entry.iterdir()) == [] for entry in sites[2:])
    assert not [name for name in modules if "sandbox" in name]
    # PYTHONPATH works as it does in any virtual environment.
    _, _, unseen, _, _ = python_says(
        moved_root, "-c", code, before=alone, PYTHONPATH=str(site), HOME=str(tmp_path)
    )
    assert not unseen


def _gnu_tar(archive: Path, to: Path) -> None:
    run("tar", "-xf", archive, "-C", to)


def _bsdtar(archive: Path, to: Path) -> None:
    run("bsdtar", "-xf", archive, "-C", to)


@pytest.fixture(params=[_gnu_tar, _bsdtar, unpack_layer], ids=["GNU tar", "bsdtar", "tarfile"])
def unpack(request: pytest.FixtureRequest) -> Callable[[Path, Path], None]:
    if request.param is _bsdtar and not shutil.which("bsdtar"):
        pytest.skip("no bsdtar here")
    if request.param is _gnu_tar and "GNU" not in run("tar", "--version").stdout:
        pytest.skip("no GNU tar here")
    function: Callable[[Path, Path], None] = request.param
    return function


def test_unpacked_side_by_side_and_nothing_else(
    real_stack: RealStack,
    unpack: Callable[[Path, Path], None],
    alone: list[str],
    tmp_path: Path,
) -> None:
    manifests = real_stack.manifests()
    assert set(manifests) == {"atls", "framework", real_stack.runtime}
    for manifest in manifests.values():
        directory = tmp_path / str(manifest["directory"])
        directory.mkdir()
        archive: Any = manifest["archive"]
        unpack(real_stack.exports / str(manifest["platform"]) / archive["name"], directory)
    result = run(*alone, tmp_path / "atls/bin/antibody-liabilities", text=SEQUENCES)
    assert "SRWGGDGFYAMDY" in result.stdout
    run(*alone, tmp_path / "atls/bin/python", "-c", "import pandas, openmm, scipy.optimize")


def test_two_builds_give_the_same_bytes(real_stack: RealStack, tmp_path: Path) -> None:
    """Another directory, cache, user, umask, time zone, locale, home and hash seed."""
    directory = tmp_path / "ein anderer Ort"
    shutil.copytree(
        real_stack.directory,
        directory,
        ignore=shutil.ignore_patterns("exports", "wheelhouse"),
    )
    (directory / "wheelhouse").symlink_to(PROJECT / "wheelhouse")
    other = RealStack(directory=directory, cache=tmp_path / "cache")
    before = ["sh", "-c", 'umask 077; exec "$@"', "sh"]
    as_another_user = ["unshare", "--user", "--map-user=4321", "--map-group=4321"]
    if shutil.which("unshare") and not run(*as_another_user, "true", check=False).returncode:
        before = [*as_another_user, *before]
    (tmp_path / "home").mkdir()
    environment = {
        "TZ": "Pacific/Chatham",
        "LC_ALL": "C",
        "HOME": str(tmp_path / "home"),
        # Where interpreters are found must not change with HOME.
        "PYENV_ROOT": os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv")),
        "PYTHONHASHSEED": "4321",
        "SOURCE_DATE_EPOCH": "1",
    }
    other.run(
        "publish", "--layer", APPLICATION, "--platform", "host",
        before=before, environment=environment,
    )  # fmt: skip
    names = [path.relative_to(real_stack.exports) for path in real_stack.published()]
    assert [path.relative_to(other.exports) for path in other.published()] == names
    assert len(names) == 6
    for name in names:
        same = (real_stack.exports / name).read_bytes() == (other.exports / name).read_bytes()
        assert same, f"{name} differs"
    ours, theirs = ((of.exports / "index.json").read_bytes() for of in (real_stack, other))
    assert dateless(ours) == dateless(theirs)
