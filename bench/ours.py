"""stackbuild, the commands as a user types them."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.inputs import APPLICATION, Spec, beside_python, clean_environment
from bench.measure import Place, Run, run

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT_BYTECODE = ("--spec", "without-bytecode.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """stackbuild at work on the stack in `project`, with a cache of its own."""

    directory: Path
    spec: Spec

    @property
    def project(self) -> Path:
        """Where its copy of the stack is."""
        return self.directory / "project"

    @property
    def cache(self) -> Path:
        """What it keeps from one command to the next."""
        return self.directory / "cache"

    @property
    def exports(self) -> Path:
        """Where it puts what it publishes."""
        return self.project / "exports"

    @property
    def place(self) -> Place:
        """Where its commands run."""
        return Place(
            directory=self.project,
            environment=clean_environment() | {"STACKBUILD_CACHE_DIR": str(self.cache)},
            log=self.directory / "log.txt",
        )

    @property
    def program(self) -> Path:
        """The console script that `make demo` installs."""
        return beside_python("stackbuild")

    def _run(self, *words: str | Path, watch: bool = False) -> Run:
        return run([self.program, *words], self.place, watch=watch)

    def lock(self) -> Run:
        """Lock all layers for all platforms."""
        return self._run("lock")

    def fetch(self) -> Run:
        """Fill the wheelhouse."""
        return self._run("fetch", "--platform", "host")

    def build(self) -> Run:
        """Compose all layers and install them into the local root."""
        return self._run("build", "--platform", "host")

    def publish(self, *words: str) -> Run:
        """Publish all layers for this platform."""
        return self._run("publish", "--platform", "host", *words, watch=True)

    def forget_locks(self) -> None:
        """So that every layer is resolved again; the cache of uv stays."""
        shutil.rmtree(self.project / "layers", ignore_errors=True)

    def forget_uv(self) -> None:
        """So that uv asks the index for every page and every wheel's metadata."""
        for name in ("uv", "addresses"):
            shutil.rmtree(self.cache / name, ignore_errors=True)

    def forget_exports(self) -> None:
        """So that everything is published again, from the frame cache."""
        shutil.rmtree(self.exports, ignore_errors=True)

    def forget_frames(self) -> None:
        """So that every frame is made again; wheels and interpreters stay."""
        self.forget_exports()
        shutil.rmtree(self.cache / "frames", ignore_errors=True)

    def archives(self) -> list[Path]:
        """All archives it published."""
        return sorted(self.exports.glob("*/*.tar.zst"))

    def size(self) -> int:
        """Their bytes."""
        return sum(path.stat().st_size for path in self.archives())

    def chain(self) -> list[Path]:
        """The archives of the application's chain, lowest first."""
        names = (self.spec.runtime, *self.spec.frameworks, APPLICATION)
        return [next(p for p in self.archives() if p.name.startswith(f"{n}-")) for n in names]

    def install(self, root: Path, *words: str | Path, source: str | Path | None = None) -> Run:
        """Install the application with its chain from `source`, or the exports, into `root`."""
        place = ("--from", source or self.exports)
        return self._run("install", APPLICATION, *place, "--root", root, *words, watch=True)

    def uninstall(self, root: Path) -> Run:
        """Remove the application with its chain from `root`, in a new generation."""
        return self._run("uninstall", APPLICATION, "--root", root)

    def rollback(self, root: Path, generation: int) -> Run:
        """Make `generation` of `root` the one in use."""
        return self._run("rollback", str(generation), "--root", root)

    def bundle(self, layer: str, path: Path) -> Run:
        """Write a layer with its chain to one executable file."""
        return self._run("bundle", layer, "--from", self.exports, "--output", path, watch=True)

    def image(self, layer: str, base: Path, to: Path) -> Run:
        """Make a container image of a layer with its chain, in an OCI layout."""
        words = ("--from", self.exports, "--base", f"oci-layout:{base}", "--to", f"oci-layout:{to}")
        return self._run("image", layer, *words, watch=True)

    def forget_images(self) -> None:
        """So that every layer of an image is made again."""
        shutil.rmtree(self.cache / "images", ignore_errors=True)

    def interpreter(self, root: Path) -> Path:
        """The application's `python` in `root`."""
        return root / APPLICATION / "bin/python"

    def verify(self, root: Path) -> Run:
        """Check the application with its chain in `root`."""
        return self._run("verify", APPLICATION, "--root", root)

    def left_out_of_verify(self, root: Path) -> set[str]:
        """The native modules that `verify` does not import, by their full names."""
        words: list[str | Path] = [self.program, "verify", APPLICATION, "--root", root, "--json"]
        place = self.place
        done = subprocess.run(
            words, cwd=place.directory, env=dict(place.environment), check=True, capture_output=True
        )
        return set(json.loads(done.stdout)["left_out"])
