"""The stack of this repository, published, installed and moved once for all tests.

The wheels stay in the repository's own wheelhouse, so that only the first run downloads them;
everything that is made of them is made again in each run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from tools.standin import (
    PROJECT,
    copy_stack,
    copy_stack_for_another_python,
    interpreter_archive,
)

from stackbuild.errors import FetchError
from stackbuild.platforms import Platform, host_platform
from stackbuild.workspace import CACHE_VARIABLE, open_workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stackbuild.workspace import Workspace

APPLICATION = "atls"
PROGRAM = Path(sys.executable).with_name("stackbuild")

# What a session has that decides what Python, uv or a shell do; tests start without it.
_HOST_SETTINGS = ("PYTHON", "PIP_", "UV_", "VIRTUAL_ENV", "CONDA", "PYTEST")


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without settings of Python and its tools, and with `more`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_HOST_SETTINGS)}
    return kept | dict(more)


@dataclass(frozen=True, slots=True, kw_only=True)
class RealStack:
    """A directory with the stack and its locks, and a cache of its own."""

    directory: Path
    cache: Path

    @property
    def exports(self) -> Path:
        return self.directory / "exports"

    @property
    def workspace(self) -> Workspace:
        return open_workspace(self.directory, cache=self.cache)

    @property
    def runtime(self) -> str:
        """The runtime's name, which says its minor version."""
        return next(path.parent.name for path in self.directory.glob("layers/*/runtime.toml"))

    def run(
        self,
        *arguments: str | Path,
        check: bool = True,
        before: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `stackbuild` in the stack's directory, `before` being words before it."""
        return run(
            *before,
            PROGRAM,
            *arguments,
            directory=self.directory,
            check=check,
            environment={CACHE_VARIABLE: str(self.cache)} | dict(environment or {}),
        )

    def published(self) -> list[Path]:
        """The archives and manifests, by name."""
        return sorted(path for path in self.exports.glob("*/*") if path.is_file())

    def host_libraries(self) -> list[str]:
        """The libraries that the published runtime needs of its host."""
        runtime: Any = self.manifests()[self.runtime]["provenance"]
        return list(runtime["runtime"].get("host_libraries", []))

    def manifests(self) -> dict[str, dict[str, object]]:
        """The manifests by layer."""
        found = [json.loads(path.read_bytes()) for path in self.exports.glob("*/*.json")]
        return {manifest["layer"]: manifest for manifest in found}


def run(
    *command: str | Path,
    directory: Path | None = None,
    check: bool = True,
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a clean environment; where `check` is set, a failure shows its output."""
    result = subprocess.run(
        [os.fspath(word) for word in command],
        cwd=directory,
        env=clean_environment(environment or {}),
        input=text,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if check and result.returncode:
        words = " ".join(str(word) for word in command)
        raise AssertionError(
            f"{words}\nexit code {result.returncode}\n{result.stdout}\n{result.stderr}"
        )
    return result


def out_of_reach(*directories: Path) -> list[str] | None:
    """Words before a command that must not see `directories`; None where there is no way.

    The command runs in a mount namespace of its own, with an empty file system over each.
    """
    if sys.platform != "linux" or not shutil.which("unshare"):
        return None
    words = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*words, "mount", "-t", "tmpfs", "none", "/mnt"], check=False).returncode:
        return None
    # One directory may stand in another, which hides it too.
    script = """
        while [ "$1" != -- ]; do
            if [ -d "$1" ]; then mount -t tmpfs none "$1" || exit; fi
            shift
        done
        shift
        exec "$@"
    """
    return [*words, "sh", "-c", script, "sh", *map(str, directories), "--"]


def copy_for_tests(to: Path) -> RealStack:
    """A copy of the stack with locks and wheels; its runtime is there or has a stand-in.

    Skips the test where the wheels are not available.
    """
    stack = _with_wheelhouse(RealStack(directory=copy_stack(to / "stack"), cache=to / "cache"))
    if not interpreter_archive(stack.workspace):
        directory, _ = copy_stack_for_another_python(to / "stack-for-another-python")
        stack = _with_wheelhouse(RealStack(directory=directory, cache=to / "cache"))
        stack.run("lock", "--layer", APPLICATION, "--platform", "host")
    fetched = stack.run("fetch", "--layer", APPLICATION, "--platform", "host", check=False)
    if fetched.returncode == FetchError.exit_code:
        pytest.skip(f"the package index cannot be reached: {fetched.stderr}")
    assert fetched.returncode == 0, fetched.stderr
    return stack


def _with_wheelhouse(stack: RealStack) -> RealStack:
    wheelhouse = PROJECT / "wheelhouse"
    wheelhouse.mkdir(exist_ok=True)
    (stack.directory / "wheelhouse").symlink_to(wheelhouse)
    return stack


def _needs_the_application() -> None:
    if host_platform() not in {Platform.LINUX_X64, Platform.MACOSX_AARCH64}:
        pytest.skip(f"{APPLICATION} is not made for {host_platform()}")


def _once(factory: pytest.TempPathFactory, name: str) -> tuple[Path, FileLock]:
    """A directory that all worker processes of this run share, and its lock."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    return base / name, FileLock(base / f"{name}.lock")


@pytest.fixture(scope="session")
def real_stack(tmp_path_factory: pytest.TempPathFactory) -> RealStack:
    """The stack, published for this platform. Tests must not change it."""
    _needs_the_application()
    directory, lock = _once(tmp_path_factory, "real-stack")
    state = directory / "state.json"
    with lock:
        if not state.exists():
            shutil.rmtree(directory, ignore_errors=True)
            stack = copy_for_tests(directory)
            stack.run("publish", "--layer", APPLICATION, "--platform", "host")
            state.write_text(json.dumps([str(stack.directory), str(stack.cache)]))
    place, cache = map(Path, json.loads(state.read_text()))
    return RealStack(directory=place, cache=cache)


@pytest.fixture(scope="session")
def moved_root(tmp_path_factory: pytest.TempPathFactory, real_stack: RealStack) -> Path:
    """A root with `atls` that was moved after it was installed. Tests must not change it."""
    directory, lock = _once(tmp_path_factory, "real-root")
    moved = directory / "wohin? là-bas, 那里"
    with lock:
        if not moved.exists():
            shutil.rmtree(directory, ignore_errors=True)
            installed = directory / "installed"
            real_stack.run(
                "install", APPLICATION, "--from", real_stack.exports, "--root", installed
            )
            installed.rename(moved)
    return moved
