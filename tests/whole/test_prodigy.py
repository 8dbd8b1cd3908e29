"""The application of this repository's stack that has a distribution built from source."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tools.standin import interpreter_archive

from stackbuild.errors import ComposeError, FetchError
from stackbuild.lock.files import lock_path, read_lock
from stackbuild.platforms import Platform, host_platform
from stackbuild.runtimes.interpreters import unpacked_interpreter
from tests.support.stack import copy_for_tests, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.index,
    pytest.mark.skipif(
        host_platform() != Platform.LINUX_X64, reason="prodigy is made for linux-x64"
    ),
]


def test_freesasa_is_built_and_used(tmp_path: Path) -> None:
    stack = copy_for_tests(tmp_path)
    archive = interpreter_archive(stack.workspace)
    assert archive
    python = unpacked_interpreter(archive, stack.workspace).executable
    if not list(python.parents[1].glob("include/*/Python.h")):
        pytest.skip(f"the headers of CPython {archive.version} are not installed")
    # A wheelhouse of its own, in which nothing is built yet.
    (stack.directory / "wheelhouse").unlink()
    only = ("--layer", "prodigy", "--platform", "host")
    # The compiler of this machine may make other bytes than that of the committed lock.
    locked = stack.run("lock", *only, "--upgrade-package", "freesasa", check=False)
    if locked.returncode == FetchError.exit_code:
        pytest.skip(f"the package index cannot be reached: {locked.stderr}")
    assert locked.returncode == 0, locked.stderr
    assert "building freesasa 2.2.1 for prodigy on linux-x64" in locked.stderr
    lock = read_lock(lock_path(stack.workspace, "prodigy", Platform.LINUX_X64))
    item = next(item for item in lock.distributions if item.name == "freesasa")
    assert re.fullmatch(
        r"freesasa-2\.2\.1-0_[0-9a-f]{8}-cp\d+-cp\d+-manylinux_2_17_x86_64\.whl", item.wheel.name
    )
    published = stack.run("publish", *only, check=False)
    if published.returncode in {FetchError.exit_code, ComposeError.exit_code}:
        pytest.skip(published.stderr)
    assert published.returncode == 0, published.stderr
    root = tmp_path / "root"
    stack.run("install", "prodigy", "--from", stack.exports, "--root", root)
    printed = run(root / "prodigy" / "bin" / "python", "-m", "prodigy").stdout
    assert re.search(r"^charged, charged +3$", printed, re.MULTILINE)
    assert re.search(r"^covered +330\.0$", printed, re.MULTILINE)
    script = root / "prodigy" / "bin" / "prodigy"
    assert "usage: prodigy" in run(script, "--help").stdout
