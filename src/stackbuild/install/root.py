"""A root: the directory that layers are installed into.

<root>/.stackbuild.tag       the mark (`stackbuild.mark`)
<root>/<layer>               -> current/<layer>
<root>/current               -> generations/7
<root>/generations/7/        a whole state: its layers side by side
<root>/.stackbuild/lock      held while the root is changed
<root>/.stackbuild/staging/  a generation that is being made
<root>/.stackbuild/unsynced  exists while the last switch may not be on the disk
<root>/.stackbuild/store/    the store, unless another one is named
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.durable import no_sync
from stackbuild.errors import InstallError, in_the_way, quoted, system_errors
from stackbuild.files import WORK_SUFFIX, locked, remove_tree, work_path
from stackbuild.install.state import State, read_state
from stackbuild.mark import Kind, check_mark, claim
from stackbuild.workspace import expanded

if TYPE_CHECKING:
    from collections.abc import Collection
    from contextlib import AbstractContextManager

    from stackbuild.durable import Sync
    from stackbuild.errors import StackbuildError
    from stackbuild.mark import Mark
    from stackbuild.messages import Messages

_GENERATION = re.compile(r"generations/[0-9]+")
_OUR_TARGET = re.compile(rf"current/[^/]+|{_GENERATION.pattern}")


class Root:
    """The paths of a root, and the steps that change it. Changes need its lock."""

    def __init__(self, path: Path) -> None:
        # Not resolved: a root that is reached through a link keeps the name of the link.
        self.path = Path(os.path.abspath(expanded(path)))  # noqa: PTH100 - removes `..`

    @property
    def private(self) -> Path:
        """The directory for stackbuild's own files."""
        return self.path / ".stackbuild"

    @property
    def generations(self) -> Path:
        """The directory of generations, which are named by number."""
        return self.path / "generations"

    @property
    def current_link(self) -> Path:
        """The link to the generation in use."""
        return self.path / "current"

    @property
    def staging(self) -> Path:
        """The directory in which a generation is created."""
        return self.private / "staging"

    @property
    def own_store(self) -> Path:
        """The default store."""
        return self.private / "store"

    @property
    def _unsynced(self) -> Path:
        return self.private / "unsynced"

    def locked(self, messages: Messages) -> AbstractContextManager[None]:
        """Lock the root against changes by other processes; creates missing directories."""
        return locked(self.private / "lock", messages)

    def claim(self) -> Mark:
        """The mark of the root; it is created if the directory is missing or empty.

        Raises InstallError for a directory with other files.
        """
        return claim(self.path, Kind.ROOT)

    def current(self) -> Path | None:
        """The directory of the generation in use, None before the first.

        Raises InstallError for a dangling, foreign or missing link.
        """
        generation = self._named()
        if (generation is None and not self._lacks_link()) or (generation and generation.is_dir()):
            return generation
        if not (self.numbers() or self.linked()):
            return None  # Only the link is left.
        raise InstallError(
            "the generation in use is missing",
            file=self.current_link,
            expected="a link to a generation",
            found="no link" if generation is None else f"a link to {_target_of(self.current_link)}",
            remedy=f"stackbuild repair {quoted(self.path)}",
        )

    def _lacks_link(self) -> bool:
        """Whether `current` was removed.

        False after a killed first install: it left no links for layers, or its `unsynced` file.
        """
        return bool(self.numbers() and self.linked() and not self._unsynced.exists())

    def in_use(self) -> Path | None:
        """The directory of the generation in use; None if it or its link is missing.

        Raises InstallError for a link that stackbuild did not make.
        """
        generation = self._named()
        return generation if generation is not None and generation.is_dir() else None

    def linked(self) -> list[str]:
        """The directories of layers that the root has links for."""
        if not self.path.is_dir():
            return []
        return sorted(path.name for path in self.path.iterdir() if self._is_ours(path))

    def state(self) -> State | None:
        """The state in use; None before the first generation. Raises InstallError."""
        generation = self.current()
        return None if generation is None else read_state(generation)

    def installed(self) -> tuple[Path, State]:
        """The generation in use and its state. Raises InstallError if nothing is installed."""
        generation = self.current()
        if generation is None:
            raise self.nothing_installed()
        return generation, read_state(generation)

    def installed_state(self) -> State:
        """The state in use. Raises InstallError if nothing is installed."""
        return self.installed()[1]

    def number(self) -> int:
        """The number of the generation in use, 0 before the first."""
        generation = self.current()
        return 0 if generation is None else int(generation.name)

    def numbers(self) -> list[int]:
        """The numbers of all generations, oldest first."""
        if not self.generations.is_dir():
            return []
        return sorted(int(p.name) for p in self.generations.iterdir() if p.name.isdecimal())

    def check_free(self, directories: Collection[str]) -> None:
        """Check that the directory is a root and that no other files use the needed names.

        Changes nothing. Raises InstallError.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InstallError(
                f"{self.path} is a file, so it cannot be a root",
                remedy="choose another root directory",
            )
        check_mark(self.path, Kind.ROOT)
        if os.path.lexists(self.current_link) and not self.current_link.is_symlink():
            raise self.in_the_way(self.current_link)
        for directory in directories:
            path = self.path / directory
            if os.path.lexists(path) and not self._is_ours(path):
                raise self.in_the_way(path)

    def sweep(self) -> None:
        """Remove leftovers of killed processes."""
        remove_tree(self.staging)
        for path in self.path.glob(f".*{WORK_SUFFIX}"):
            # Only links of `_replace_link`; the user may have files with similar names.
            if path.is_symlink() and _OUR_TARGET.fullmatch(_target_of(path)):
                path.unlink()

    def switch(self, generation: Path, directories: Collection[str]) -> None:
        """Make `generation` the one in use.

        Links of new layers are created first and dangle until `current` is renamed; links of
        removed layers are deleted afterwards.
        """
        self.link_layers(directories)
        target = f"{self.generations.name}/{generation.name}"
        _replace_link(self.current_link, target)
        for path in self.path.iterdir():
            if path.name not in directories and self._is_ours(path):
                path.unlink()

    def begin_switch(self) -> None:
        """Record that a switch follows; `settle` removes the record."""
        self._unsynced.touch()

    def settle(self, sync: Sync) -> None:
        """Write the last switch to the disk, also that of a killed process. Raises OSError."""
        if not self._unsynced.exists():
            return
        current = self.current()
        sync(trees=() if current is None else (current,), directories=(self.path,))
        if sync is not no_sync:
            self._unsynced.unlink()

    def ours(self) -> list[Path]:
        """Everything in the root that stackbuild made, apart from the mark."""
        links = [path for path in self.path.iterdir() if self._is_ours(path)]
        return [*links, self.current_link, self.generations, self.private]

    def link_layers(self, directories: Collection[str]) -> None:
        """Create the missing links of `directories`."""
        for directory in directories:
            path = self.path / directory
            if not self._is_ours(path):
                _replace_link(path, self._target(directory))

    def nothing_installed(self) -> InstallError:
        """The error for a directory that is not a root or is an empty root."""
        return InstallError(
            f"nothing is installed in {self.path}",
            remedy="name the directory of a root, or install layers into this one: "
            f"stackbuild install LAYER --from PLACE --root {quoted(self.path)}",
        )

    def in_the_way(self, path: Path) -> StackbuildError:
        """The error for a file at `path`, which the root needs for itself."""
        return in_the_way(InstallError, path, "choose another root directory")

    def explained(self, elsewhere: str = "") -> AbstractContextManager[None]:
        """Raise system errors as InstallError (`errors.system_errors`)."""
        return system_errors(
            InstallError,
            self.path,
            elsewhere=elsewhere,
            also="; what was installed before is unchanged",
        )

    def _named(self) -> Path | None:
        """The target of the link `current`, which may be missing; None without the link."""
        try:
            target = _target_of(self.current_link)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self.in_the_way(self.current_link) from error
        if not _GENERATION.fullmatch(target):
            raise self.in_the_way(self.current_link)
        return self.path / target

    def _is_ours(self, path: Path) -> bool:
        return path.is_symlink() and _target_of(path) == self._target(path.name)

    def _target(self, directory: str) -> str:
        return f"{self.current_link.name}/{directory}"


def _target_of(link: Path) -> str:
    return os.readlink(link).replace("\\", "/")  # noqa: PTH115 - the text of the link


def _replace_link(path: Path, target: str) -> None:
    work = work_path(path)
    try:
        work.symlink_to(target, target_is_directory=True)
        work.replace(path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise
