"""A root: the directory that layers are installed into.

<root>/.stackbuild.tag       the mark (`stackbuild.mark`)
<root>/<layer>               -> current/<layer>
<root>/current               -> generations/7
<root>/generations/7/        a whole state: its layers side by side
<root>/.stackbuild/lock      held while the root is changed
<root>/.stackbuild/staging/  a generation that is being made
<root>/.stackbuild/unsynced  exists while the last switch may not be on the disk
<root>/.stackbuild/store/    the store, unless another one is named

Links need a privilege on Windows. A root for Windows is therefore *plain*: `<root>/<layer>` is the
layer itself, and `current` is a file with the text `generations/7`. A generation has its state, and
the layers that are still to be moved into the root: `Root.switch` writes `current` first, so that
the next command can finish what a killed one began.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild import windows
from stackbuild.durable import no_sync
from stackbuild.errors import InstallError, in_the_way, quoted, system_errors
from stackbuild.files import (
    WORK_SUFFIX,
    atomic_write,
    locked,
    read_regular,
    remove_tree,
    work_path,
)
from stackbuild.install.state import State, layers_in, read_state
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
_NAME_LIMIT = 100
"""Of the file `current` of a plain root, in bytes."""
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
    def is_plain(self) -> bool:
        """Whether the layers of the generation in use are in the root itself."""
        if os.path.lexists(self.current_link):
            return self.current_link.is_file() and not self.current_link.is_symlink()
        return any(
            not (self.generation(number) / name).is_dir()
            for number in self.numbers()
            for name in layers_in(self.generation(number))
        )

    def trees(self, generation: Path) -> Path:
        """The directory with the layers of `generation`, which is in use, side by side."""
        return self.path if self.is_plain else generation

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
        return bool(self.numbers() and self.linked() and not self.is_unsynced)

    def in_use(self) -> Path | None:
        """The directory of the generation in use; None if it or its link is missing.

        Raises InstallError for a link that stackbuild did not make.
        """
        generation = self._named()
        return generation if generation is not None and generation.is_dir() else None

    def linked(self) -> list[str]:
        """The directories of layers that the root has links for, or, if it is plain, has."""
        if not self.path.is_dir():
            return []
        if self.is_plain:
            return [name for name in self._placed() if (self.path / name).is_dir()]
        return sorted(path.name for path in self.path.iterdir() if self._is_link(path))

    def _placed(self) -> list[str]:
        """The layers that were moved from generations into a plain root, or were to be."""
        latest = self._named()
        generations = [
            self.generation(number)
            for number in self.numbers()
            if latest is None or number <= int(latest.name)
        ]
        return sorted({name for path in generations for name in layers_in(path)})

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

    def installed_layers(self) -> tuple[Path, State]:
        """The directory with the layers in use, and their state. Raises as `installed`."""
        generation, state = self.installed()
        return self.trees(generation), state

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
        if not self.current_link.is_symlink():
            self._named()
        ours = self.linked()
        for directory in directories:
            path = self.path / directory
            if os.path.lexists(path) and directory not in ours:
                raise self.in_the_way(path)

    def sweep(self) -> None:
        """Remove leftovers of killed processes."""
        remove_tree(self.staging)
        if self.is_plain and (latest := self._named()) is not None:
            # Later generations were never in use, so their layers are not in the root.
            for number in self.numbers():
                if number > int(latest.name):
                    remove_tree(self.generation(number))
        for path in self.path.glob(f".*{WORK_SUFFIX}"):
            # Only links of `_replace_link`; the user may have files with similar names.
            if path.is_symlink() and _OUR_TARGET.fullmatch(_target_of(path)):
                path.unlink()

    def switch(self, generation: Path, state: State) -> None:
        """Make `generation`, whose state is `state`, the one in use.

        Links of new layers are created first and dangle until `current` is renamed; links of
        removed layers are deleted afterwards. In a plain root the former generation is removed.
        Raises InstallError, with the former generation in use, if a layer cannot be replaced.
        """
        target = f"{self.generations.name}/{generation.name}"
        if state.platform.os == "windows":
            self._switch_plain(target, state)
            return
        self.link_layers(state.layers)
        _replace_link(self.current_link, target)
        for path in self.path.iterdir():
            if path.name not in state.layers and self._is_link(path):
                path.unlink()

    def _switch_plain(self, target: str, state: State) -> None:
        before = self._named()
        for path in self.path.iterdir():
            if self._is_link(path):
                path.unlink()  # of an earlier stackbuild
        atomic_write(self.current_link, f"{target}\n")
        try:
            self._place(self.path / target, state.layers)
        except InstallError:
            if before is None:
                self.current_link.unlink()
            else:
                atomic_write(self.current_link, f"{self.generations.name}/{before.name}\n")
            remove_tree(self.path / target)
            raise
        for number in self.numbers():
            if (other := self.generation(number)) != self.path / target:
                with suppress(OSError):
                    remove_tree(other)  # Otherwise `clean` removes it.

    def _place(self, generation: Path, directories: Collection[str]) -> None:
        """Move the layers of `generation` that are not in the plain root yet into it.

        Moves all back if one cannot be moved, then raises InstallError.
        """
        new = [name for name in directories if (generation / name).is_dir()]
        old = [name for name in self.linked() if name in new or name not in directories]
        if not (new or old):
            return
        away = self.staging / "replaced"
        away.mkdir(parents=True, exist_ok=True)
        moves = [(self.path / name, away / name) for name in old]
        moves += [(generation / name, self.path / name) for name in new]
        done: list[tuple[Path, Path]] = []
        try:
            for source, target in moves:
                windows.rename(source, target)
                done.append((source, target))
        except OSError as error:
            for source, target in reversed(done):
                windows.rename(target, source)
            remove_tree(self.staging)
            raise _in_use(moves[len(done)][0], error) from error
        with suppress(OSError):
            remove_tree(self.staging)  # Otherwise `sweep` removes it.

    def begin_switch(self) -> None:
        """Record that a switch follows; `settle` removes the record."""
        self._unsynced.touch()

    @property
    def is_unsynced(self) -> bool:
        """Whether the last switch may not be on the disk."""
        return self._unsynced.exists()

    def settle(self, sync: Sync, *, trees: bool = True) -> None:
        """Write the last switch to the disk, also that of a killed process. Raises OSError.

        Without `trees`, the layers are on the disk already.
        """
        if not self.is_unsynced:
            return
        current = self.current()
        layers = [self.path / name for name in self.linked()] if self.is_plain else []
        written = [] if current is None or not trees else [current, *layers]
        sync(trees=written, directories=(self.path,))
        if sync is not no_sync:
            self._unsynced.unlink()

    def ours(self) -> list[Path]:
        """Everything in the root that stackbuild made, apart from the mark."""
        layers = [self.path / name for name in self.linked()]
        return [*layers, self.current_link, self.generations, self.private]

    def link_layers(self, directories: Collection[str]) -> None:
        """Create the missing links of `directories`; in a plain root, finish a killed switch."""
        if self.is_plain:
            if (generation := self.current()) is not None:
                self._place(generation, directories)
            return
        for directory in directories:
            path = self.path / directory
            if not self._is_link(path):
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
        """The generation that `current` names, which may be missing; None without `current`.

        Raises InstallError for a link or file that stackbuild did not make.
        """
        try:
            if self.is_plain:
                text = read_regular(self.current_link, _NAME_LIMIT)
                target = text.decode("ascii", "replace").removesuffix("\n")
            else:
                target = _target_of(self.current_link)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self.in_the_way(self.current_link) from error
        if not _GENERATION.fullmatch(target):
            raise self.in_the_way(self.current_link)
        return self.path / target

    def generation(self, number: int) -> Path:
        """The directory of a generation."""
        return self.generations / str(number)

    def _is_link(self, path: Path) -> bool:
        return path.is_symlink() and _target_of(path) == self._target(path.name)

    def _target(self, directory: str) -> str:
        return f"{self.current_link.name}/{directory}"


def _target_of(link: Path) -> str:
    return os.readlink(link).replace("\\", "/")  # noqa: PTH115 - the text of the link


def _in_use(layer: Path, error: OSError) -> InstallError:
    return InstallError(
        "a layer cannot be moved, as when a process uses its files",
        layer=layer.name,
        file=error.filename and windows.shown(error.filename),
        found=error.strerror,
        remedy="end the programs that were started from this root, and run the command again; "
        "what was installed before is unchanged",
    )


def _replace_link(path: Path, target: str) -> None:
    work = work_path(path)
    try:
        work.symlink_to(target, target_is_directory=True)
        work.replace(path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise
