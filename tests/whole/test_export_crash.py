"""`stackbuild export` that is killed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.publish import publisher
from tests.support.roots import command, succeed, versions

if TYPE_CHECKING:
    from pathlib import Path

KILLED_AT_RENAME = """
import os, signal, sys
from stackbuild import windows
from stackbuild.cli.main import main

left, out = int(sys.argv[1]), sys.argv[2]

def counted(function):
    def call(source, target):
        global left
        left -= out in str(target)
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        function(source, target)
    return call

for name in ("rename", "replace"):
    setattr(windows, name, counted(getattr(windows, name)))
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills with a signal")
def test_a_kill_at_each_rename(tmp_path: Path) -> None:
    made, out = publisher(tmp_path), tmp_path / "out"
    made.stack("1")
    succeed("export", "atls", out, "--from", made.directory)
    made.stack("2")
    before, recovered = {"framework": "1", "atls": "1"}, {"framework": "2", "atls": "2"}
    found = []
    for count in range(20):
        copy = tmp_path / f"copy{count}"
        shutil.copytree(out, copy, symlinks=True)
        words = command("export", "atls", copy, "--from", made.directory)[3:]
        killed = [sys.executable, "-c", KILLED_AT_RENAME, str(count), str(copy), *words]
        if subprocess.run(killed, stdout=subprocess.DEVNULL, check=False).returncode == 0:
            assert versions(copy) == recovered
            break
        found.append((copy / ".stackbuild" / "ready").exists())
        # A run for another layer also completes what the killed one began.
        succeed("export", "cpython-3.12", copy, "--from", made.directory)
        assert versions(copy) == (recovered if found[-1] else before)
        names = sorted(path.name for path in (copy / ".stackbuild").iterdir())
        assert names == ["lock", "manifests"]
    assert found.count(True) > 5
    assert False in found
