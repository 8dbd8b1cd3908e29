"""`make demo`, as a new user runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tools.standin import PROJECT, RUNTIME, other_versions

from stackbuild.workspace import CACHE_VARIABLE
from tests.support.stack import APPLICATION, RealStack, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.index


def copy_of_the_repository(to: Path) -> Path:
    """The files that are committed, or would be, and the wheelhouse."""
    names = run(
        "git", "ls-files", "--cached", "--others", "--exclude-standard", directory=PROJECT
    ).stdout.splitlines()
    for name in names:
        if (PROJECT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, to / name)
    (to / "wheelhouse").symlink_to(PROJECT / "wheelhouse")
    return to


def check(output: str) -> None:
    """Each step is told, the program of each kind runs before and after the move."""
    lines = [line for line in output.splitlines() if line.startswith("$ ")]
    verbs = ["show", "publish", "lock", "fetch", "publish", "install"]
    assert [line.split()[2] for line in lines if "bin/stackbuild" in line.split()[1]] == verbs
    assert lines.index("$ mv demo/root 'demo/déjà déplacé'") < len(lines) - 2
    assert output.count("SRWGGDGFYAMDY") == 2
    assert output.count("candidate_1\t") >= 4
    assert "openmm 8.3.1" in output
    assert "# Done." in output


def check_stand_in(output: str) -> None:
    """What the stack asks for is found to be missing in one line, before any command fails."""
    before, _, after = output.partition("# Neither can be done here: go on in demo/stack, a copy")
    assert [line.split()[2] for line in before.splitlines() if line.startswith("$ ")] == ["show"]
    lines = [line for line in after.splitlines() if line.startswith("$ cd demo/stack && ")]
    assert [line.split()[5] for line in lines] == ["lock", "fetch", "publish", "install"]
    assert output.count("SRWGGDGFYAMDY") == 2
    assert "# Done." in output


def test_demo(real_stack: RealStack, tmp_path: Path) -> None:
    project = copy_of_the_repository(tmp_path / "project")
    environment = {CACHE_VARIABLE: str(real_stack.cache)}
    result = run(sys.executable, "-m", "tools.demo", directory=project, environment=environment)
    assert "error:" not in result.stderr
    if real_stack.runtime == RUNTIME:
        check(result.stdout)
    else:
        check_stand_in(result.stdout)
        others = other_versions(project / "demo/stack", APPLICATION)
        assert ("# The nearest versions with wheels" in result.stdout) == bool(others)
    _, _, advice = result.stdout.partition("# To go on:\n")
    lines = [line.removeprefix("#   ") for line in advice.splitlines()]
    assert len(lines) == 5
    for line in lines:
        run("sh", "-c", line, directory=project, environment=environment)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
def test_make_demo_on_a_fresh_machine(tmp_path: Path) -> None:
    """A clone, an empty home but for what tools need to reach the index, and no setting."""
    clone = tmp_path / "clone"
    run("git", "clone", "--quiet", PROJECT, clone)
    environment = {key: os.environ[key] for key in ("HOME", "PATH")}
    environment[CACHE_VARIABLE] = str(tmp_path / "cache")
    result = subprocess.run(
        ["make", "demo"], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert "# Done." in result.stdout
    assert run(clone / ".venv/bin/stackbuild", "--version").stdout.startswith("stackbuild ")
    status = run("git", "status", "--porcelain", directory=clone).stdout
    assert status == "", "the demo leaves nothing that git would see"
    again = run("make", "--dry-run", "setup", directory=clone).stdout
    assert "pdm" not in again, "what is set up is not set up again"


@pytest.mark.slow
def test_demo_without_the_interpreter_that_the_stack_asks_for(tmp_path: Path) -> None:
    if sys.version_info[:2] == (3, 12):
        pytest.skip("this Python can stand in")
    project = copy_of_the_repository(tmp_path / "project")
    (tmp_path / "home").mkdir()
    environment = {
        CACHE_VARIABLE: str(tmp_path / "cache"),
        "HOME": str(tmp_path / "home"),
        "PYENV_ROOT": str(tmp_path / "none"),
        "PATH": "/usr/bin:/bin",
        # Nothing listens there.
        "PBS_INSTALLER_BASE_URL": "http://127.0.0.1:9/",
    }
    command = (sys.executable, "-m", "tools.demo")
    result = run(*command, directory=project, environment=environment, check=False)
    if "cannot be packed" in result.stderr:
        pytest.skip("the only Python here cannot be packed")
    assert result.returncode == 0, result.stderr
    if "Neither can be done here" not in result.stdout:
        pytest.skip("the system has a CPython 3.12")
    minor = "{}.{}".format(*sys.version_info[:2])
    check_stand_in(result.stdout)
    assert "error:" not in result.stderr
    assert (project / "demo/déjà déplacé/atls/bin" / f"python{minor}").exists()
