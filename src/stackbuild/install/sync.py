"""Make a root equal to its `stackbuild.install.toml` and the lock beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError, InstallError, LockError, UsageError, quoted
from stackbuild.install.change import apply
from stackbuild.install.install import (
    ELSEWHERE,
    chosen_store,
    platform_of,
    tell_doubts,
    tell_elsewhere,
)
from stackbuild.install.install import upgrade as upgrade_to
from stackbuild.install.plan import plan_install
from stackbuild.install.root import Root
from stackbuild.install.state import State
from stackbuild.install.wanted import Pin, read_pins, read_wanted, write_pins
from stackbuild.registry.find import Published, open_registry

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.compose.manifest import Manifest
    from stackbuild.durable import Sync
    from stackbuild.install.report import InstallReport, Upgrade
    from stackbuild.install.wanted import Wanted
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform


def sync(
    file: Path, root: Path | None, messages: Messages, *, upgrade: bool, sync: Sync
) -> InstallReport:
    """Install and remove layers of the root that `file` names; see `api.sync`."""
    wanted = read_wanted(file)
    where = _root(wanted, root)
    target = platform_of(wanted.platform, where.state(), where)
    try:
        published, after, pins = _plan(wanted, where, target, messages, upgrade=upgrade)
    except FetchError as error:
        before = where.state()
        if upgrade or before is None or not _is_locked(before, wanted):
            raise
        messages.warn(f"{where.path} has what the lock names, which was not compared: {error}")
        published, after, pins = None, before, ()
    with where.explained(ELSEWHERE):
        where.claim()
    with where.explained(ELSEWHERE), where.locked(messages):
        before = where.state() or State(platform=target, asked=())
        after = replace(after, store=chosen_store(wanted.store, before, where))
        where.check_free(after.layers)
        known = read_pins(wanted.lock_path)
        if pins and known.get(target) != pins:
            # Before the root, so that a killed sync goes on to the same versions.
            write_pins(wanted.lock_path, {**known, target: pins})
        report = apply(where, before, after, published, sync, messages)
    tell_elsewhere(report, after, messages)
    return report


def preview(file: Path, root: Path | None, messages: Messages, *, upgrade: bool) -> Upgrade:
    """What `sync` would change; see `api.preview_sync`."""
    wanted = read_wanted(file)
    where = _root(wanted, root)
    before = where.state()
    target = platform_of(wanted.platform, before, where)
    published, after, _ = _plan(wanted, where, target, messages, upgrade=upgrade)
    before = before or State(platform=target, asked=())
    after = replace(after, store=chosen_store(wanted.store, before, where))
    return upgrade_to(before, after, published, where)


def _root(wanted: Wanted, asked: Path | None) -> Root:
    root = asked or wanted.root
    if root is None:
        raise UsageError(
            "the file does not name the root",
            file=wanted.path,
            expected="a line such as root = 'envs', or --root DIR",
        )
    return Root(root)


def _plan(
    wanted: Wanted, where: Root, platform: Platform, messages: Messages, *, upgrade: bool
) -> tuple[Published, State, tuple[Pin, ...]]:
    """The state that the root is to have, and the lock for it."""
    pins = () if upgrade else read_pins(wanted.lock_path).get(platform, ())
    words = set(wanted.layers)
    kept = [pin for pin in pins if words & {*pin.words}]
    new = [word for word in wanted.layers if not any(word in pin.words for pin in kept)]
    if wanted.trust == "lock" and (new or upgrade):
        raise _not_locked(wanted, platform, new)
    published = Published(open_registry(wanted.place, messages), platform)
    meant: dict[str, list[str]] = {}
    named: dict[str, Manifest] = {}
    for pin in kept:
        manifest = _pinned(pin, published, wanted)
        named[manifest.digest] = manifest
        meant[manifest.digest] = [word for word in pin.words if word in words]
    below = {link.layer for manifest in named.values() for link in manifest.chain}
    exact = [_pinned(pin, published, wanted) for pin in pins if pin.layer in below]
    for word in new:
        for manifest in published.find([word]):
            named[manifest.digest] = manifest
            meant.setdefault(manifest.digest, []).append(word)
    tell_doubts([*named.values()], published, messages)
    empty = State(platform=platform, asked=())
    try:
        state = plan_install([*named.values()], empty, published, where.path, exact).state
    except InstallError as error:
        if not (kept and new):
            raise
        error.details = tuple(pair for pair in error.details if pair[0] != "to fix")
        raise error.with_remedy(
            f"choose all versions again: stackbuild sync {quoted(wanted.path)} --upgrade; or name "
            "versions that fit together in the file"
        ) from None
    return (
        published,
        state,
        tuple(
            Pin(
                layer=manifest.layer,
                words=tuple(sorted(meant.get(manifest.digest, ()))),
                version=state.versions[directory],
                digest=manifest.digest,
                sha256=published.entry(manifest).sha256,
            )
            for directory, manifest in state.layers.items()
        ),
    )


def _not_locked(wanted: Wanted, platform: Platform, new: list[str]) -> LockError:
    missing = f" has no version of {', '.join(new)} for {platform}" if new else ""
    return LockError(
        f"the lock{missing or ' is not changed'}, and trust = 'lock' allows no other versions",
        file=wanted.lock_path,
        remedy="where versions are chosen, run `stackbuild sync --upgrade` with trust = 'place'; "
        "then copy the lock",
    )


def _pinned(pin: Pin, published: Published, wanted: Wanted) -> Manifest:
    manifest = published.pinned(pin.layer, pin.sha256)
    if manifest is None:
        raise FetchError(
            f"the version of {pin.layer} that the lock names is not published",
            layer=pin.layer,
            platform=published.platform,
            file=published.location,
            expected=f"version {pin.version}, a manifest with sha256 {pin.sha256}",
            remedy="publish it there again; or choose the current versions: "
            f"stackbuild sync {quoted(wanted.path)} --upgrade",
        )
    return manifest


def _is_locked(state: State, wanted: Wanted) -> bool:
    """Whether a root has what the lock names, and the lock has all layers of the file."""
    pins = read_pins(wanted.lock_path).get(state.platform, ())
    words = {word for pin in pins for word in pin.words}
    digests = {manifest.digest for manifest in state.layers.values()}
    return words == {*wanted.layers} and digests == {pin.digest for pin in pins}
