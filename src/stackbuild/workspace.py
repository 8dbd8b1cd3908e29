"""The directories of a project and of the caches."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.errors import StackbuildError, UsageError
from stackbuild.mark import Kind, claim, read_mark, write_mark

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE_VARIABLE = "STACKBUILD_CACHE_DIR"
INSTALL_FILE = "stackbuild.install.toml"
"""What a root is to contain (`install.wanted`)."""

_LINKED = (
    "addresses/*/*.json",
    "published/*.json",
    "runtimes/*.json",
    "runtimes/downloads/*/*",
    "runtimes/local/*.json",
    "runtimes/local/*/*",
    "runtimes/unpacked/*",
)
"""What `temporary` links in the cache."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """The directories of a command, and its number of threads."""

    project: Path
    """The directory of the spec file."""
    cache: Path
    """Shared by projects; everything in it can be recreated."""
    jobs: int
    original: Workspace | None = None
    """What a temporary workspace stands for; see `temporary`."""

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
        return (self.cache if self.original else self.project) / "wheelhouse"

    @property
    def exports(self) -> Path:
        """The default directory to publish to."""
        return self.project / "exports"

    @property
    def build(self) -> Path:
        """The local roots that `stackbuild build` makes, one for each platform."""
        return self.project / "build"

    @property
    def build_exports(self) -> Path:
        """The layers that `stackbuild build` installs in its roots."""
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
        """Addresses of files, by sha256."""
        return self.cache / "addresses"

    @property
    def metadata(self) -> Path:
        """The metadata of wheels, by sha256."""
        return self.cache / "metadata"

    @property
    def images(self) -> Path:
        """Layers of container images."""
        return self.cache / "images"

    @property
    def uv(self) -> Path:
        """The cache of uv itself."""
        return self.cache / "uv"


def prepare_cache(directory: Path) -> None:
    """Create `directory`, a part of the cache. Raises StackbuildError if it is not writable."""
    found = None
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = error.strerror
    if found or not os.access(directory, os.W_OK | os.X_OK):
        raise StackbuildError(
            "the cache is not writable",
            file=directory,
            found=found,
            remedy=f"make it writable, or set {CACHE_VARIABLE} to another directory",
        )


def _own_cache(project: Path) -> Path:
    """The default cache, in the user's cache directory of this system.

    For a user without a home directory it is in `.stackbuild` in the project.
    """
    import platformdirs

    try:
        found = Path(platformdirs.user_cache_dir("stackbuild", appauthor=False))
    except RuntimeError:
        found = None
    if found is None or not found.is_absolute():
        return project / ".stackbuild" / "cache"
    return found


def open_workspace(
    project: Path, *, cache: Path | None = None, read_only: bool = False
) -> Workspace:
    """The workspace of the project in `project`.

    The cache is `cache`, `$STACKBUILD_CACHE_DIR` or the default cache. It is marked, unless
    `read_only`. Raises UsageError if it contains other files.
    """
    configured = os.environ.get(CACHE_VARIABLE)
    given = cache or (Path(configured).absolute() if configured else None)
    place = given or _own_cache(project)
    if not read_only:
        # If it is not writable, later writes report it.
        with suppress(OSError):
            if given:
                claim(place, Kind.CACHE)
            elif not read_mark(place, Kind.CACHE):
                # The default cache belongs to stackbuild by its name; older versions created it
                # without a mark.
                write_mark(place, Kind.CACHE)
    return Workspace(project=project, cache=place, jobs=os.cpu_count() or 1)


@contextmanager
def temporary(workspace: Workspace) -> Iterator[Workspace]:
    """A workspace with a cache and a wheelhouse that are removed when the block ends.

    The cache has links to the files of `workspace`, which can be replaced there without any effect
    on `workspace`. Its frames and wheels are read through `original`.
    """
    from tempfile import mkdtemp

    from stackbuild.files import remove_tree

    cache = Path(mkdtemp(prefix="stackbuild-dry-run-"))
    try:
        for pattern in _LINKED:
            for path in workspace.cache.glob(pattern):
                _link(path, cache / path.relative_to(workspace.cache))
        yield replace(workspace, cache=cache, original=workspace)
    finally:
        remove_tree(cache)


def _link(path: Path, place: Path) -> None:
    # Unfinished downloads would be continued in place.
    if ".part" in path.suffixes[-2:]:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    path = path.absolute()
    with suppress(OSError):
        place.symlink_to(path, target_is_directory=path.is_dir())
        return
    # Windows needs a privilege for links. Directories of the cache are made again.
    if path.is_file():
        try:
            place.hardlink_to(path)
        except OSError:
            shutil.copy2(path, place)


def expanded(path: Path) -> Path:
    """`path` with a leading `~` expanded. Raises UsageError without a home directory."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise UsageError(
            f"{path} begins with ~, but there is no home directory",
            remedy="use a path without ~, or set HOME",
        ) from None


def home_directory() -> Path | None:
    """The user's home directory; None if HOME is not set and the user has no account."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home if home.is_absolute() else None
