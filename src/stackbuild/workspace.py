"""Where stackbuild keeps what it can make again: caches, and the wheelhouse."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CACHE_VARIABLE = "STACKBUILD_CACHE_DIR"


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folders one command works in, and how many threads it may use."""

    project: Path
    """The directory of the spec file."""
    cache: Path
    """Shared by projects; everything below it is made again when it is missing."""
    jobs: int

    @property
    def layers(self) -> Path:
        """The committed locks."""
        return self.project / "layers"

    @property
    def overlays(self) -> Path:
        """The committed overlays."""
        return self.project / "overlays"

    @property
    def wheelhouse(self) -> Path:
        """The wheels that the locks point to."""
        return self.project / "wheelhouse"

    @property
    def exports(self) -> Path:
        """What is published unless told otherwise."""
        return self.project / "exports"

    @property
    def build(self) -> Path:
        """The local roots that `stackbuild build` makes, one for each platform."""
        return self.project / "build"

    @property
    def build_exports(self) -> Path:
        """What `stackbuild build` installs its roots from."""
        return self.build / ".published"

    @property
    def frames(self) -> Path:
        """The frame cache."""
        return self.cache / "frames"

    @property
    def runtimes(self) -> Path:
        """Downloaded, packed and unpacked interpreters."""
        return self.cache / "runtimes"

    @property
    def builds(self) -> Path:
        """Wheels built from source, and the logs of building them."""
        return self.cache / "builds"

    @property
    def addresses(self) -> Path:
        """Where files were found, by sha256."""
        return self.cache / "addresses"

    @property
    def uv(self) -> Path:
        """The cache of uv itself."""
        return self.cache / "uv"


def default_cache() -> Path:
    """`$STACKBUILD_CACHE_DIR`, or the user's cache directory of this system."""
    if configured := os.environ.get(CACHE_VARIABLE):
        return Path(configured).absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("stackbuild", appauthor=False))


def open_workspace(project: Path) -> Workspace:
    """The workspace of the project in `project`."""
    return Workspace(project=project, cache=default_cache(), jobs=os.cpu_count() or 1)
