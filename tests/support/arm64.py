"""A Linux for arm64 in tests: Debian's CPython and stackbuild's own wheels, run with QEMU.

It is kept in `.fresh/arm64`. debootstrap, proot and QEMU come from Debian's packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parents[2]
KEPT = PROJECT / ".fresh" / "arm64"
SUITE, MINOR = "bookworm", "3.11"
PROGRAMS = {
    "debootstrap": "debootstrap",
    "proot": "proot",
    "qemu-aarch64-static": "qemu-user-static",
}
"""What runs it, and the Debian packages they are in."""
_MANYLINUX = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64")


@dataclass(frozen=True)
class Arm64:
    """A Debian for arm64, and the directories of this machine that it sees."""

    system: Path
    packages: Path
    """stackbuild's dependencies."""
    shared: Path
    """A directory for the files of a test, at the same place in both systems."""

    def start(self, program: str | Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program for arm64."""
        binds = ("/proc", "/dev", PROJECT, self.shared)
        return subprocess.run(
            [
                *("proot", "-q", "qemu-aarch64-static", "-r", self.system, "-w", "/"),
                *(word for bind in binds for word in ("-b", bind)),
                *(program, *words),
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.shared / "home"),
                "LC_ALL": "C.UTF-8",
                "PYTHONPATH": f"{PROJECT / 'src'}:{self.packages}",
                "PYTHONDONTWRITEBYTECODE": "1",
                "STACKBUILD_CACHE_DIR": str(self.shared / "cache-arm64"),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def run(self, program: str | Path, *words: str | Path) -> str:
        """What a program prints; it must succeed."""
        done = self.start(program, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stackbuild(self, *words: str | Path) -> str:
        """What `stackbuild WORDS…` prints there; it must succeed."""
        return self.run(f"/usr/bin/python{MINOR}", "-m", "stackbuild", *words)


def bring_arm64(shared: Path) -> Arm64:
    """The system; what is missing is installed. Skips the test where that fails."""
    if sys.platform != "linux":
        pytest.skip("Debian for arm64 is only set up on Linux")
    missing = [package for name, package in PROGRAMS.items() if not shutil.which(name)]
    if missing:
        if not shutil.which("apt-get") or os.geteuid() != 0:
            pytest.skip(f"install Debian's packages {' '.join(missing)}")
        _run("apt-get", "--quiet", "update")
        _run("apt-get", "--quiet", "install", "--yes", "--no-install-recommends", *missing)
    system, packages = KEPT / SUITE, KEPT / "packages"
    KEPT.mkdir(parents=True, exist_ok=True)
    if not system.is_dir():
        if os.geteuid() != 0:
            pytest.skip("debootstrap makes a system as root only")
        _make_system(system)
    if not packages.is_dir():
        _bring_packages(packages)
    (shared / "home").mkdir()
    return Arm64(system, packages, shared)


def _run(*words: str | Path) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"`{' '.join(map(str, words))}` failed: {done.stderr[-500:]}")


def _make_system(to: Path) -> None:
    """Unpack Debian's packages; nothing has to be configured to run Python."""
    work = to.with_name(f"{SUITE}.partial")
    shutil.rmtree(work, ignore_errors=True)
    _run("debootstrap", "--arch=arm64", "--foreign", "--variant=minbase", "--include=python3",
         SUITE, work)  # fmt: skip
    for package in sorted((work / "var/cache/apt/archives").glob("*.deb")):
        _run("dpkg-deb", "--extract", package, work)
    work.rename(to)


def _bring_packages(to: Path) -> None:
    """Install stackbuild's dependencies, from wheels for arm64. uv does not run under QEMU."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    work = to.with_name("packages.partial")
    shutil.rmtree(work, ignore_errors=True)
    names = [f"{one.name}{one.specifier}" for one in wanted if one.name != "uv"]
    pip("install", "--target", work, *names)
    work.rename(to)


def pip(command: str, *words: str | Path) -> None:
    """`pip COMMAND` with wheels for arm64."""
    tools = PROJECT / ".pdm-tools" / "bin" / "python"
    platforms = (word for name in _MANYLINUX for word in ("--platform", name))
    _run(tools, "-m", "pip", "--quiet", "--disable-pip-version-check", command,
         *platforms, "--python-version", MINOR, "--only-binary", ":all:", *words)  # fmt: skip
