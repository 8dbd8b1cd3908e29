"""venvstacks, in an environment of its own: the peer for everything that makes layers.

Its runtime step asks pbs-installer for an interpreter. Two things make it take the
same archive as stackbuild does, and nothing of its own code is touched:

- `PBS_INSTALLER_BASE_URL` points at a server on the loopback interface. Only the file
  name of the table is used with it.
- pbs-installer compares the download with the sha256 in its table, the data file
  `pbs_installer/versions.json`. A local archive is not in there, so in the peer's own
  environment the entry for this platform and version is given the archive's name and
  sha256. Everything else (the download, the check, unpacking) is done as ever.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.inputs import APPLICATION, Archive, Spec, beside_python, clean_environment
from bench.measure import BenchError, Place, Run, in_turn, run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

REQUIREMENTS = (
    "venvstacks>=0.8.0b0",  # the newest, pre-releases included
    # venvstacks asks for hishel below 1.0 and so gets a pdm that hands httpx clients
    # about; unearth made a hard turn to httpx2 with 0.19, and that pdm fails with it.
    "unearth<0.19",
    "pbs-installer[download]",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """venvstacks at work on the stack in `project`."""

    directory: Path
    mirror: str
    spec: Spec

    @property
    def project(self) -> Path:
        """Where its copy of the stack is."""
        return self.directory / "project"

    @property
    def version(self) -> str:
        """Its name and version, as its own environment has it."""
        (found,) = self.directory.glob("venv/lib/python*/site-packages/venvstacks-*.dist-info")
        return found.stem.replace("-", " ")

    @property
    def artifacts(self) -> Path:
        """Where it puts what it publishes."""
        return self.project / "_artifacts"

    @property
    def built(self) -> list[Path]:
        """The trees of its layers, all of those that it publishes."""
        ends = ("_resolve",)
        build = self.project / "_build"
        return [p for p in sorted(build.iterdir()) if p.is_dir() and not p.name.endswith(ends)]

    @property
    def chain(self) -> tuple[str, ...]:
        """The directories of the application's chain, lowest first, as it names them."""
        frameworks = (f"framework-{name}" for name in self.spec.frameworks)
        return (self.spec.runtime, *frameworks, f"app-{APPLICATION}")

    @property
    def uv_cache(self) -> Path:
        """The cache of the uv that it runs."""
        return self.directory / "uv-cache"

    @property
    def place(self) -> Place:
        """Where its commands run; its caches are its own, as stackbuild's are."""
        settings = {
            "PBS_INSTALLER_BASE_URL": self.mirror,
            "UV_CACHE_DIR": str(self.uv_cache),
            "UV_SYSTEM_CERTS": "1",
            "XDG_CACHE_HOME": str(self.directory / "cache"),
        }
        return Place(
            directory=self.project,
            environment=clean_environment() | settings,
            log=self.directory / "log.txt",
        )

    def _run(self, *words: str) -> Run:
        return run([self.directory / "venv/bin/venvstacks", *words, "venvstacks.toml"], self.place)

    def lock(self, *words: str) -> Run:
        """Lock all layers; venvstacks resolves for all platforms of a layer in one go."""
        return self._run("lock", *words)

    def forget_uv(self) -> None:
        """So that uv asks the index for every page and every wheel's metadata."""
        shutil.rmtree(self.uv_cache, ignore_errors=True)

    def build(self) -> Run:
        """Install the locked distributions into its build environments."""
        return self._run("build")

    def publish(self) -> Run:
        """Pack its build environments as tar.xz, one after the other."""
        return self._run("publish")

    def build_and_publish(self) -> Run:
        """Both in one command: what is published is what the locks say."""
        return self._run("build", "--publish")

    def size(self) -> int:
        """The bytes of all archives it published."""
        return sum(path.stat().st_size for path in self.artifacts.glob("*.tar.xz"))

    def unpack_and_run_postinstall(self, to: Path) -> Run:
        """What a consumer of the application does with what venvstacks publishes."""
        place = Place(directory=to, environment=clean_environment(), log=self.place.log)
        untar: list[list[str | Path]] = [
            ["tar", "-xf", self.artifacts / f"{name}.tar.xz"] for name in self.chain
        ]
        python = to / self.spec.runtime / "bin/python3"
        finish: list[list[str | Path]] = [
            [python, "-X", "utf8", "-I", to / name / "postinstall.py"] for name in self.chain
        ]
        return in_turn([run(command, place) for command in untar + finish])

    def interpreter(self, root: Path) -> Path:
        """The application's `python` in a root that a consumer made."""
        return root / f"app-{APPLICATION}" / "bin/python"


def prepare_peer(peer: Peer, archive: Archive) -> None:
    """Make the peer's environment, once, and put `archive` into its table."""
    venv = peer.directory / "venv"
    peer.project.mkdir(parents=True, exist_ok=True)
    if not (venv / "bin/venvstacks").exists():
        shutil.rmtree(venv, ignore_errors=True)
        uv = beside_python("uv")
        # The caller's index settings hold for this one step, which is not measured.
        settings = dict(os.environ) | {"UV_SYSTEM_CERTS": "1"}
        place = Place(directory=peer.directory, environment=settings, log=peer.place.log)
        run([uv, "venv", "--quiet", "--python", beside_python("python"), venv], place)
        python = venv / "bin/python"
        run([uv, "pip", "install", "--quiet", "--python", python, *REQUIREMENTS], place)
    tables = list(venv.glob("lib/python*/site-packages/pbs_installer/versions.json"))
    if not tables:
        raise BenchError(f"{venv}: pbs-installer keeps its table elsewhere than it used to")
    if put_in_table(tables[0], archive):
        shutil.rmtree(peer.project / "_build", ignore_errors=True)


def put_in_table(table: Path, archive: Archive) -> bool:
    """Give the entry of this platform and the archive's version its name and sha256.

    Says whether it had others before. Raises BenchError where python-build-standalone
    never had that version.
    """
    versions = json.loads(table.read_text())
    wanted = ["cpython", *map(int, archive.version.split("."))]
    entries = [
        file
        for version in versions
        if _numbers(version["python_version"]) == wanted
        for file in version["files"]
        if (file["platform"], file["arch"], file["install_only"])
        == ("linux", platform.machine(), True)
    ]
    if not entries:
        raise BenchError(f"CPython {archive.version} is not in {table}, pack another one")
    told = {"filename": archive.path.name, "sha256": archive.sha256}
    if all(entry | told == entry for entry in entries):
        return False
    for entry in entries:
        entry.update(told)
    # uv links files from its cache: write a new one, do not change the shared one.
    changed = table.with_suffix(".changed")
    changed.write_text(json.dumps(versions))
    changed.replace(table)
    return True


def _numbers(version: dict[str, object]) -> Sequence[object]:
    if version["freethreaded"]:
        return []
    return [version[key] for key in ("implementation", "major", "minor", "micro")]
