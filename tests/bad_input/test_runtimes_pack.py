"""What `stackbuild runtime pack` says to paths it cannot take."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from stackbuild.cli.main import main
from stackbuild.errors import ComposeError
from stackbuild.messages import Silent
from stackbuild.runtimes.pack import pack
from stackbuild.runtimes.system import check_moved
from stackbuild.runtimes.tarball import unpack_tarball
from tests.support.interpreters import packable

if TYPE_CHECKING:
    from pathlib import Path


def refusal(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    code = main(["runtime", "pack", *map(str, words)])
    captured = capsys.readouterr()
    assert captured.out == ""
    return code, captured.err


@pytest.mark.parametrize("kind", ["missing", "empty directory", "text", "program"])
def test_a_path_without_an_interpreter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / "path"
    if kind == "empty directory":
        path.mkdir()
    elif kind == "text":
        path.write_text("x")
    elif kind == "program":
        path.symlink_to(shutil.which("true") or "/bin/true")
    code, err = refusal(capsys, path, "--to", tmp_path / "mirror")
    assert code == 2
    assert err == (
        "error: this is neither a working interpreter nor a prefix with one\n"
        f"  file: {path}\n"
        "  expected: a CPython, or the directory it is installed in\n"
    )
    assert not (tmp_path / "mirror").exists()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(packable().prefix, tmp_path_factory.mktemp("mirror"), Silent()).path


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has one that can be packed")
@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ("modules", "packed, it still searches for modules in /usr/local/lib/site-packages"),
        ("start", "packed, it does not start: no"),
        ("site", "packed, it does not search for distributions in its site-packages"),
    ],
)
def test_a_python_of_the_operating_system_that_is_changed_in_another_way(
    packed: Path, tmp_path: Path, changed: str, found: str
) -> None:
    """Distributions of Linux are many; here any Python stands for one that nobody has seen yet."""
    original = packable()
    unpack_tarball(packed, tmp_path)
    library = tmp_path / f"python/lib/python{original.minor}"
    # The check imports this module first.
    lines = {
        "modules": "import sys; sys.path.append('/usr/local/lib/site-packages')\n",
        "start": "raise SystemExit('no')\n",
        "site": "import sysconfig; sysconfig.get_path = lambda name: sysconfig.__file__\n",
    }
    (library / "ctypes/__init__.py").write_text(lines[changed])
    changed_archive = tmp_path / "changed.tar.gz"
    with tarfile.open(changed_archive, "w:gz", compresslevel=1) as tar:
        tar.add(tmp_path / "python", "python")
    with pytest.raises(ComposeError) as caught:
        check_moved(changed_archive, original, tmp_path / "moved")
    assert dict(caught.value.details)["found"] == found


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_another_implementation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # An interpreter in every respect but for what it calls itself.
    program = tmp_path / "pypy"
    program.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" "$@" | sed s/cpython/pypy/\n'.replace("exec ", "")
    )
    program.chmod(0o755)
    code, err = refusal(capsys, program, "--to", tmp_path / "mirror")
    assert code == 7
    assert "  found: it is pypy, not CPython\n" in err


def test_a_mirror_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.support.interpreters import packable

    blocked = tmp_path / "file"
    blocked.write_text("x")
    code, err = refusal(capsys, packable().prefix, "--to", blocked)
    assert code == 1
    assert err.startswith("error: Not a directory: ")
    assert "Traceback" not in err


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    from tests.support.interpreters import packable

    facts = packable()
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
    program = limit + "from stackbuild.cli.main import main; sys.exit(main(sys.argv[1:]))"
    if sys.platform == "win32":
        pytest.skip("file size limits are those of POSIX")
    words = ["runtime", "pack", str(facts.prefix), "--to", str(tmp_path / "mirror")]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode in {1, 7}, done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert [path for path in (tmp_path / "mirror").rglob("*") if path.is_file()] == []
