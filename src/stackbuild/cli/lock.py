"""`stackbuild lock`: choose the distributions of each layer and write its locks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import LockError, Project, UsageError
from stackbuild.cli.console import Console
from stackbuild.cli.options import add_flag, add_shared, add_value
from stackbuild.cli.output import print_answer

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from stackbuild.api.types import Change, LayerLock, LeftOut, LockReport

EXAMPLES = """\
Locked versions are kept, unless an option or the spec requires others. Layers
that did not change are not resolved again. Locks name files by sha256, so they
are valid with any mirror. A line is printed for each layer. `stackbuild -q lock`
prints only the distributions that a layer omits.

Examples:
  stackbuild lock
  stackbuild lock --layer atls --platform linux-x64
  stackbuild lock --upgrade-package numpy
  stackbuild lock --from-venvstacks  start from the versions in requirements/
  stackbuild lock --check            for CI: exit code 4 if a lock is stale
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `lock`."""
    parser.description = "Choose the distributions of each layer and write its locks."
    parser.epilog = EXAMPLES
    add_shared(parser, "--spec", "--layer", "--platform")
    text = "take the newest allowed versions; with --layer, in that layer only"
    add_flag(parser, "--upgrade", text)
    text = "take the newest version of this distribution; may be given several times"
    add_value(parser, "--upgrade-package", "NAME", text, action="append", default=[])
    text = "start locks that do not exist yet from the versions that venvstacks 0.8 locked"
    add_flag(parser, "--from-venvstacks", text)
    text = "first add the wheels in this directory, as `stackbuild wheel add` does; may be given"
    add_value(parser, "--local-wheels", "DIR", f"{text} several times", action="append", default=[])
    add_flag(parser, "--check", "change nothing; exit with 4 if a lock is stale")
    add_shared(parser, "--json")


def run(arguments: argparse.Namespace) -> int:
    """Lock or check, and print what changed or is stale."""
    if arguments.check and (arguments.upgrade or arguments.upgrade_package):
        raise UsageError(
            "--check changes nothing, so there is nothing to upgrade",
            remedy="leave out --check or the options to upgrade",
        )
    if arguments.check and arguments.local_wheels:
        raise UsageError(
            "--check changes nothing, so no wheels are added",
            remedy="leave out --check or --local-wheels",
        )
    if arguments.check and arguments.from_venvstacks:
        raise UsageError(
            "--check changes nothing, so nothing starts from venvstacks",
            remedy="leave out --check or --from-venvstacks",
        )
    console = Console(quiet=arguments.quiet)
    project = Project.load(arguments.spec, messages=console)
    if arguments.local_wheels:
        project.add_wheels([path for name in arguments.local_wheels for path in _wheels(name)])
    if arguments.check:
        report = project.check_locks(arguments.layer, arguments.platform)
    else:
        report = project.lock(
            arguments.layer,
            arguments.platform,
            upgrade=arguments.upgrade,
            upgrade_packages=arguments.upgrade_package,
            from_venvstacks=arguments.from_venvstacks,
        )
    for warning in report.warnings:
        console.warn(warning)
    lines = (_checked if arguments.check else _result)(report, quiet=arguments.quiet)
    print_answer(as_json(report), lines, as_json=arguments.json)
    return LockError.exit_code if report.stale or (arguments.check and report.leftovers) else 0


def _wheels(directory: Path) -> list[Path]:
    """The wheels in `directory`. Raises UsageError if there are none."""
    if found := sorted(directory.glob("*.whl")):
        return found
    raise UsageError(
        "there are no wheels in the directory of local wheels",
        file=directory,
        remedy="build them into it, such as with `uv build --wheel --out-dir DIR`",
    )


def as_json(report: LockReport) -> dict[str, object]:
    """The report as plain values."""
    return {
        "changes": report.changes,
        "stale": report.stale,
        "skipped": _left_out_json((lock, lock.skipped) for lock in report.locks),
        "omitted": _left_out_json((lock, lock.omitted) for lock in report.locks),
        "leftovers": report.leftovers,
        "warnings": report.warnings,
        "from_venvstacks": report.from_venvstacks,
    }


def _left_out_json(
    locks: Iterable[tuple[LayerLock, tuple[LeftOut, ...]]],
) -> list[dict[str, str]]:
    return [
        {
            "layer": lock.layer,
            "platform": str(lock.platform),
            "name": item.name,
            "reason": item.reason,
        }
        for lock, items in locks
        for item in items
    ]


def _checked(report: LockReport, *, quiet: bool) -> Iterator[str]:
    yield from _grouped((item.layer, item.platform, item.reason) for item in report.stale)
    yield from (f"{path}: not in the spec" for path in report.leftovers)
    if report.stale and not quiet:
        yield "to update them: stackbuild lock"
    if not (report.stale or report.leftovers or quiet):
        yield "all locks are current"


def _result(report: LockReport, *, quiet: bool) -> Iterator[str]:
    """The summary, without it for `quiet`; then the distributions that layers lack, in any case."""
    if not quiet:
        yield from summary(report)
    for line in _left_out((lock, lock.omitted) for lock in report.locks):
        yield f"omitted {line}"


def summary(report: LockReport) -> Iterator[str]:
    """A line for each layer, and how many locks changed."""
    changes = report.changes
    layers: dict[str, dict[str, list[Change]]] = {}
    for change in changes:
        layers.setdefault(change.layer, {}).setdefault(_state(change), []).append(change)
    width = max(map(len, layers), default=0)
    for layer, states in layers.items():
        one = len(states) == 1
        parts = (text if one else _on(text, group) for text, group in states.items())
        yield f"{layer:<{width}}  {'; '.join(parts)}"
    moved = {(item.layer, item.platform) for item in changes if item.state != "current"}
    new = [lock for lock in report.locks if (lock.layer, lock.platform) in moved]
    for line in _left_out((lock, lock.skipped) for lock in new):
        yield f"skipped {line}"
    for path in report.leftovers:
        yield f"removed {path}, which is not in the spec"
    counts = [
        f"{count} {state}"
        for state in ("new", "changed", "renewed", "current")
        if (count := sum(change.state == state for change in changes))
    ]
    yield f"{len(changes)} locks: {', '.join(counts)}"
    yield from _from_venvstacks(report)


def _on(text: str, changes: Iterable[Change]) -> str:
    """The state `text`, with the platforms of `changes` after its first word."""
    state, colon, rest = text.partition(":")
    return f"{state} on {', '.join(change.platform for change in changes)}{colon}{rest}"


def _state(change: Change) -> str:
    """The state of a lock, and the differences from the former one."""
    if change.state == "new":
        count = len(change.added)
        return f"new: {count} distribution{'s' * (count != 1)}"
    text = ", ".join(_differences(change))
    return f"{change.state}: {text}" if text else change.state


def _from_venvstacks(report: LockReport) -> Iterator[str]:
    if use := report.from_venvstacks:
        parts = {
            state: [layer for layer, one in use.items() if one == state]
            for state in ("missing", "not needed")
        }
        read = (
            f"locks of venvstacks: read for {list(use.values()).count('read')} of {len(use)} layers"
        )
        missing = f"; none for {', '.join(parts['missing'])}" if parts["missing"] else ""
        kept = parts["not needed"]
        again = " (to start from venvstacks, first remove their layers/*/pylock.*.toml)"
        yield read + missing + (f"; already locked: {', '.join(kept)}{again}" if kept else "")


def _left_out(locks: Iterable[tuple[LayerLock, tuple[LeftOut, ...]]]) -> Iterator[str]:
    return _grouped(
        (f"{item.name} in {lock.layer}", lock.platform, item.reason)
        for lock, items in locks
        for item in items
    )


def _grouped(items: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """`subject on its platforms: reason`, a line for each subject and reason."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for subject, platform, reason in items:
        grouped.setdefault((subject, reason), []).append(platform)
    for (subject, reason), platforms in grouped.items():
        yield f"{subject} on {', '.join(platforms)}: {reason}"


def _differences(change: Change) -> Iterator[str]:
    if change.interpreter:
        yield "a different archive of the interpreter"
    if change.own:
        yield f"modules, overlays or a version below (now version {change.version})"
    for word, items in (("upgraded", change.upgraded), ("downgraded", change.downgraded)):
        if items:
            yield f"{word} {', '.join(f'{name} {old} -> {new}' for name, old, new in items)}"
    same = (("added", change.added), ("removed", change.removed), ("other file of", change.refiled))
    for word, pairs in same:
        if pairs:
            yield f"{word} {', '.join(map(' '.join, pairs))}"
