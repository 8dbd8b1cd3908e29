"""The generations of a root: list them, return to one, find those that processes run in."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.durable import sync_to_disk
from stackbuild.errors import InstallError, UsageError, quoted
from stackbuild.install.change import adjust_in_place
from stackbuild.install.contents import installed_layers, new_layers
from stackbuild.install.report import Generation, InstallReport
from stackbuild.install.root import Root
from stackbuild.install.state import read_state, state_or_none

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackbuild.install.state import State
    from stackbuild.messages import Messages

_PROC = Path("/proc")


def history(root: Path) -> tuple[Generation, ...]:
    """The generations of `root`, newest first; see `api.history`."""
    where = Root(root)
    current, running = where.number(), processes(where)
    if not current:
        raise where.nothing_installed()
    found = []
    for number in reversed(where.numbers()):
        state = state_or_none(where.generation(number))
        found.append(
            Generation(
                number=number,
                created=None if state is None else state.created,
                current=number == current,
                processes=None if running is None else tuple(running.get(number, ())),
                layers=None if state is None else installed_layers(state),
            )
        )
    return tuple(found)


def rollback(root: Path, number: int | None, messages: Messages) -> InstallReport:
    """Make an earlier generation of `root` the one in use; see `api.rollback`."""
    where = Root(root)
    if where.current() is None:
        raise where.nothing_installed()
    where.check_free(())
    with where.explained(), where.locked(messages):
        current = where.generation(where.number())
        if where.is_plain:
            raise InstallError(
                "a root for Windows keeps only the generation in use",
                file=where.path,
                remedy="install the earlier versions: stackbuild install LAYER@VERSION "
                f"--root {quoted(where.path)}",
            )
        chosen = where.generation(_number(where, int(current.name), number))
        after = read_state(chosen)
        # The state in use may be damaged; that is a reason to return to another one.
        before = state_or_none(current) or replace(after, layers={})
        _check_complete(chosen, after)
        where.check_free(after.layers)
        if chosen != current:
            adjust_in_place(where, after, messages, chosen)
            unsynced = where.is_unsynced
            where.begin_switch()
            where.switch(chosen, after)
            where.settle(sync_to_disk, trees=unsynced)
    return InstallReport(
        root=where.path,
        platform=after.platform,
        generation=int(chosen.name),
        layers=installed_layers(after),
        added=new_layers(before, after),
        removed=tuple(name for name in before.layers if name not in after.layers),
        changed=chosen != current,
    )


def _number(where: Root, current: int, asked: int | None) -> int:
    """The number of the generation to return to. Raises InstallError, UsageError."""
    numbers = where.numbers()
    earlier = [number for number in numbers if number < current]
    if asked is None and not earlier:
        raise InstallError(
            f"there is no generation before {current}",
            file=where.path,
            remedy="to install another version: stackbuild install LAYER@VERSION --from PLACE "
            f"--root {quoted(where.path)}",
        )
    if asked is not None and asked not in numbers:
        raise UsageError(
            f"there is no generation {asked}",
            file=where.path,
            expected=f"one of {', '.join(map(str, numbers))}",
            remedy=f"stackbuild history {quoted(where.path)}",
        )
    return earlier[-1] if asked is None else asked


def _check_complete(generation: Path, state: State) -> None:
    missing = [name for name in state.layers if not (generation / name).is_dir()]
    if missing:
        raise InstallError(
            f"generation {generation.name} is not complete",
            layer=state.layers[missing[0]].layer,
            file=generation / missing[0],
            remedy="choose another generation, or install the layers of this one again",
        )


def processes(root: Root) -> dict[int, list[int]] | None:
    """The processes that run in each generation of `root`, by its number.

    They execute, or have mapped into memory, files of the generation, or it contains their working
    directory. Processes of other accounts are found only by the superuser. None if the system does
    not tell; Linux does in /proc (proc(5)).
    """
    if not (_PROC / "self" / "maps").exists():
        return None
    place = re.escape(os.path.realpath(root.generations).encode(errors="surrogateescape"))
    pattern = re.compile(place + rb"/([0-9]+)(?=/|\n|\Z)")
    found: dict[int, list[int]] = {}
    for process in sorted(int(path.name) for path in _PROC.iterdir() if path.name.isdecimal()):
        for number in {int(match) for text in _files(process) for match in pattern.findall(text)}:
            found.setdefault(number, []).append(process)
    return found


def _files(process: int) -> Iterator[bytes]:
    """The program of a process, its working directory, and the table of its mapped files."""
    about = _PROC / str(process)
    for link in ("exe", "cwd"):
        try:
            yield os.fsencode((about / link).readlink())
        except OSError:
            continue  # It has ended, or belongs to another account.
    try:
        yield (about / "maps").read_bytes()
    except OSError:
        return
