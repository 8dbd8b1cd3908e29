"""Add wheels that were built elsewhere to the project's wheelhouse."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from stackbuild.builds.audit import OLDEST, audit
from stackbuild.builds.wheelfile import check_wheel, unpack_wheel
from stackbuild.errors import IntegrityError, StackbuildError, UsageError, quoted, raise_all
from stackbuild.files import atomic_copy, locked, sha256_file
from stackbuild.lock.added import AddedWheel, read_added, write_added
from stackbuild.lock.current import Locks
from stackbuild.lock.model import LockedFile, StaleLock, WheelAddition
from stackbuild.lock.targets import target_of
from stackbuild.platforms import Platform

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stackbuild.builds.wheelfile import WheelFacts
    from stackbuild.messages import Messages
    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace


def add_wheels(
    stack: Stack, workspace: Workspace, messages: Messages, files: Sequence[Path]
) -> list[WheelAddition]:
    """Check `files`, and copy all of them into the wheelhouse, or none; see `api.Project`."""
    checked: list[tuple[Path, WheelFacts, tuple[Platform, ...]]] = []
    errors: list[StackbuildError] = []
    for path in files:
        try:
            facts = _facts(path)
            platforms = _platforms(stack, facts, path)
            _audit(path, facts, platforms, messages)
            checked.append((path, facts, platforms))
        except StackbuildError as error:
            errors.append(error)
    raise_all(errors)
    added = []
    with locked(workspace.wheelhouse / ".lock", messages):
        known = {item.wheel.name: item for item in read_added(workspace.wheelhouse)}
        for path, facts, platforms in checked:
            file = LockedFile(name=path.name, size=path.stat().st_size, sha256=sha256_file(path))
            if path.resolve() != (workspace.wheelhouse / path.name).resolve():
                atomic_copy(path, workspace.wheelhouse / path.name)
            # The last added wheel is used, so an existing entry of the same name moves to the end.
            known.pop(path.name, None)
            known[path.name] = AddedWheel(
                wheel=file, dependencies=facts.dependencies, extras=facts.extras
            )
            stale = tuple(_stale(stack, workspace, facts, file, platforms))
            added.append(WheelAddition(wheel=file, platforms=platforms, stale=stale))
        write_added(workspace.wheelhouse, list(known.values()))
    return added


def _facts(path: Path) -> WheelFacts:
    if not path.is_file():
        problem, remedy = "there is no such file", None
        if path.is_dir():
            problem = "this is a directory"
            remedy = (
                f"name the wheels in it: stackbuild wheel add {quoted(path)}{os.sep}*.whl; or write"
                " the directory into `local-wheels` of [tool.stackbuild]"
            )
        raise UsageError(problem, file=path, expected="a wheel", remedy=remedy)
    return check_wheel(path)


def _audit(
    path: Path, facts: WheelFacts, platforms: Sequence[Platform], messages: Messages
) -> None:
    """Check that a wheel for Linux needs no more than its tags promise.

    Raises IntegrityError for files for another processor or a newer Linux.
    """
    machines = {item.machine for item in platforms if item.os == "linux"}
    if not machines or all(tag.platform == "any" for tag in facts.tags):
        return
    with TemporaryDirectory(prefix="stackbuild-") as directory:
        tree = Path(directory)
        unpack_wheel(path, tree)
        for machine in sorted(machines):
            found = audit(tree, machine)
            promised = _promised(facts)
            if promised and found.glibc > promised:
                raise IntegrityError(
                    "the wheel needs a newer Linux than its tags say",
                    file=path,
                    expected=f"files that run with glibc {promised[0]}.{promised[1]}",
                    found=found.because,
                )
            for library, file in found.foreign.items():
                messages.warn(
                    f"{path.name} needs {library} (for {file}), which not every Linux has"
                )


def _promised(facts: WheelFacts) -> tuple[int, int] | None:
    """The newest glibc version in the tags; None if there is none."""
    names = [tag.platform for tag in facts.tags]
    levels = [OLDEST for name in names if re.match(r"manylinux(1|2010|2014)_", name)]
    found = (re.fullmatch(r"manylinux_(\d+)_(\d+)_\w+", name) for name in names)
    levels += [(int(match[1]), int(match[2])) for match in found if match]
    return max(levels, default=None)


def _platforms(stack: Stack, facts: WheelFacts, path: Path) -> tuple[Platform, ...]:
    """The platforms on which a layer accepts the wheel. Raises UsageError if there are none."""
    targets = {
        target_of(layer, platform, stack.python_version(layer)) for layer, platform in stack.pairs()
    }
    fitting = {target.platform for target in targets if target.rank(facts.tags) is not None}
    if not fitting:
        raise UsageError(
            "the wheel fits no layer of the stack",
            file=path.name,
            expected="one for "
            + "; ".join(sorted({f"{it}, CPython {it.python}" for it in targets})),
            found=", ".join(sorted(map(str, facts.tags))),
        )
    return tuple(platform for platform in Platform if platform in fitting)


def _stale(
    stack: Stack,
    workspace: Workspace,
    facts: WheelFacts,
    file: LockedFile,
    platforms: Sequence[Platform],
) -> Iterator[StaleLock]:
    """The locks that omit the distribution, or name another built wheel."""
    locks = Locks(stack, workspace)
    for layer, platform in stack.pairs():
        lock = locks.get(layer.name, platform) if platform in platforms else None
        if lock and any(item.name == facts.name for item in lock.omitted):
            yield StaleLock(layer=layer.name, platform=platform, reason=f"omits {facts.name}")
        for item in lock.distributions if lock else ():
            same = (item.name, item.version) == (facts.name, facts.version)
            if same and item.source and item.wheel.sha256 != file.sha256:
                reason = f"names another wheel of {facts.name}"
                yield StaleLock(layer=layer.name, platform=platform, reason=reason)
