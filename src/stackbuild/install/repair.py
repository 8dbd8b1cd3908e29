"""Repair a root whose state or files are damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.durable import sync_to_disk
from stackbuild.errors import InstallError, quoted
from stackbuild.install.change import adjust_in_place, apply
from stackbuild.install.plan import plan_install
from stackbuild.install.report import RepairReport
from stackbuild.install.root import Root
from stackbuild.install.state import (
    State,
    clear_damaged,
    damaged,
    layers_in,
    recovered_state,
    state_or_none,
    write_state,
)
from stackbuild.install.verify import verify_installed
from stackbuild.messages import Silent
from stackbuild.platforms import host_platform
from stackbuild.registry.find import Published

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.install.report import FilesReport
    from stackbuild.messages import Messages
    from stackbuild.registry.base import Registry


def repair(root: Path, registry: Registry | None, messages: Messages) -> RepairReport:
    """Repair the state, the links and the files of `root`.

    An unreadable state is recreated from the manifests of the generation in use. If these are
    damaged too, the current versions of the layers are installed from `registry`; without a
    registry, the newest intact older generation is used. Then every file is compared, and damaged
    files are linked or fetched again. Raises InstallError, with a command to run, for what cannot
    be repaired; FetchError, IntegrityError.
    """
    where = Root(root)
    if not (where.private.is_dir() or where.linked()):
        raise where.nothing_installed()
    where.check_free(())
    with where.explained(), where.locked(messages):
        done: list[str] = []
        state = _readable(where, registry, done, messages)
        where.link_layers(state.layers)
        if adjusted := adjust_in_place(where, state, Silent()):
            done.append(f"{', '.join(adjusted)}: adjusted to {where.path}")
        report = verify_installed((), root, messages)
        if report.differences:
            _bring(where, state, registry, report, done, messages)
        where.begin_switch()
        where.settle(sync_to_disk)
    return RepairReport(
        root=where.path,
        generation=where.number(),
        layers=tuple(state.layers),
        done=tuple(done),
    )


def _readable(where: Root, registry: Registry | None, done: list[str], messages: Messages) -> State:
    """Read the state of the generation in use; repair it first if necessary."""
    candidates = _candidates(where)
    current = where.in_use()
    # Use another generation only if there is no registry.
    looked_at = candidates if registry is None else candidates[:1]
    found = ((path, recovered_state(path)) for path in looked_at)
    generation, state = next((one for one in found if one[1] is not None), (None, None))
    if generation is None or state is None:
        return _from_registry(where, candidates, registry, done, messages)
    if state_or_none(generation) is None:
        write_state(state, generation)
        done.append(f"the state of generation {generation.name} was recreated from its manifests")
    _drop_unreadable_marks(generation)
    if generation != current:
        where.begin_switch()
        where.switch(generation, state)
        done.append(f"switched to generation {generation.name}")
    return state


def _candidates(where: Root) -> list[Path]:
    """The generation in use first, then the others, newest first."""
    current = where.in_use()
    others = [where.generations / str(number) for number in reversed(where.numbers())]
    first = [] if current is None else [current]
    return [*first, *(path for path in others if path != current)]


def _drop_unreadable_marks(generation: Path) -> None:
    """Remove unreadable damage marks; all files are compared again later."""
    try:
        damaged(generation)
    except InstallError:
        clear_damaged(generation)


def _from_registry(
    where: Root,
    candidates: list[Path],
    registry: Registry | None,
    done: list[str],
    messages: Messages,
) -> State:
    """Install the layers that the root had, in their current version."""
    names = _names(where, candidates)
    if registry is None or not names:
        command = "repair" if names else "install LAYER"
        where_to = f"--root {quoted(where.path)}" if not names else quoted(where.path)
        raise InstallError(
            "no generation of the root has readable manifests",
            file=where.path,
            found=f"directories or links of {', '.join(names)}" if names else "no layers",
            remedy=f"stackbuild {command} {where_to} --from PLACE",
        )
    known = next((state for path in candidates if (state := recovered_state(path))), None)
    platform = known.platform if known is not None else host_platform()
    published = Published(registry, platform)
    found = published.find(names)
    below = {link.layer for manifest in found for link in manifest.chain}
    asked = [manifest for manifest in found if manifest.layer not in below]
    for path in candidates:
        _drop_unreadable_marks(path)
    empty = State(platform=platform, asked=(), store=known.store if known is not None else None)
    plan = plan_install(asked, empty, published, where.path)
    report = apply(where, empty, plan.state, published, sync_to_disk, messages)
    done.append(
        f"{', '.join(one.layer for one in found)} were installed again from {registry.location} "
        f"(generation {report.generation})"
    )
    return plan.state


def _names(where: Root, candidates: list[Path]) -> list[str]:
    """The layers that the root had, by its links and by the directories of its generation."""
    directories = dict.fromkeys(where.linked())
    if candidates:
        directories |= dict.fromkeys(layers_in(candidates[0]))
    # The directory of a versioned layer is <name>@<version>.
    return list(dict.fromkeys(directory.partition("@")[0] for directory in directories))


def _bring(
    where: Root,
    state: State,
    registry: Registry | None,
    report: FilesReport,
    done: list[str],
    messages: Messages,
) -> None:
    """Link or fetch the files again that `verify_installed` has marked."""
    published = None if registry is None else Published(registry, state.platform)
    if published is not None:
        for manifest in state.layers.values():
            published.find_same(manifest)
    # Remaining damage is reported below.
    listener = Silent() if registry is None else messages
    apply(where, state, state, published, sync_to_disk, listener)
    left = verify_installed((), where.path, messages)
    repaired = sorted({d.layer for d in report.differences} - {d.layer for d in left.differences})
    if repaired:
        done.append(f"{', '.join(repaired)}: damaged files were replaced")
    if not left.differences:
        return
    names = [state.layers[d].layer for d in dict.fromkeys(d.layer for d in left.differences)]
    root = quoted(where.path)
    first, others = left.differences[0], len(left.differences) - 1
    raise InstallError(
        f"{', '.join(names)} cannot be repaired from the files in this root",
        layer=names[0],
        distribution=first.distribution,
        file=first.file,
        found=f"{first.kind}, and {others} more" if others else first.kind,
        expected=None if registry is None else "these versions in the registry",
        remedy=f"stackbuild repair {root} --from PLACE"
        if registry is None
        else f"stackbuild install {' '.join(names)} --from {quoted(registry.location)} "
        f"--root {root}",
    )
