"""What an upgrade of a root changes, roots that a file describes, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.api.roots import platform_named, registry_of, sync_function
from stackbuild.errors import refuse_text
from stackbuild.messages import SILENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackbuild.install.report import Generation, InstallReport, Upgrade
    from stackbuild.messages import Messages


def preview_install(
    layers: Sequence[str],
    root: str | Path,
    *,
    registry: str | Path | None = None,
    platform: str | None = None,
    store: str | Path | None = None,
    messages: Messages = SILENT,
) -> Upgrade:
    """What `install` with the same arguments would fetch and change.

    Nothing is changed, and no archive is read; damaged files are not looked for. Raises as
    `install` does.
    """
    refuse_text(layers=layers)
    from stackbuild.install.install import preview

    return preview(
        layers,
        registry_of(layers, root, registry, messages),
        Path(root),
        platform_named(platform),
        messages,
        store=None if store is None else Path(store),
    )


def diff(
    before: str | Path,
    after: str | Path,
    *,
    registry: str | Path | None = None,
    platform: str | None = None,
    messages: Messages = SILENT,
) -> Upgrade:
    """What changes from `before` to `after`: layers, their distributions, and what is fetched.

    Each is a word for a published layer, such as ``atls@6``, from `registry`, by default that of
    the root that it is compared with; a root, or a generation of one; a registry, whose layers are
    compared with those that a root was asked for, or with all of another one; a directory of locks,
    such as ``layers``, one of a git revision, such as ``v1.2:layers``, or one lock. `platform` is
    that of the root by default, or of this machine; locks are compared for all platforms.

    Raises UsageError for a word that stands for none of these and for locks that are compared with
    something else, InstallError, LockError, FetchError, IntegrityError.
    """
    from stackbuild.install.diff import diff as difference

    place = None if registry is None else str(registry)
    return difference(str(before), str(after), place, platform_named(platform), messages)


def sync(
    file: str | Path = "stackbuild.install.toml",
    *,
    root: str | Path | None = None,
    upgrade: bool = False,
    sync: bool = True,
    messages: Messages = SILENT,
) -> InstallReport:
    """Make a root equal to `file` and the lock beside it: install, replace and remove layers.

    Layers that the lock has are installed in exactly these versions; for others, or for all with
    `upgrade`, the current versions are chosen and locked. `root` replaces the one that `file`
    names; the parameter `sync` is as for `install`. If the registry cannot be reached, a root that
    has what the lock names is left as it is, with a warning.

    Raises SpecError for an invalid `file`, IntegrityError for a damaged lock, LockError if
    `trust = "lock"` forbids another version, FetchError for a version that is no longer published,
    and as `install` does.
    """
    from stackbuild.install.sync import sync as sync_root

    given = None if root is None else Path(root)
    return sync_root(Path(file), given, messages, upgrade=upgrade, sync=sync_function(sync))


def preview_sync(
    file: str | Path = "stackbuild.install.toml",
    *,
    root: str | Path | None = None,
    upgrade: bool = False,
    messages: Messages = SILENT,
) -> Upgrade:
    """What `sync` with the same arguments would fetch and change; nothing is changed."""
    from stackbuild.install.sync import preview

    given = None if root is None else Path(root)
    return preview(Path(file), given, messages, upgrade=upgrade)


def history(root: str | Path) -> tuple[Generation, ...]:
    """The generations of `root`, newest first. Raises InstallError for a directory without any."""
    from stackbuild.install.history import history as history_of

    return history_of(Path(root))


def rollback(
    root: str | Path, generation: int | None = None, *, messages: Messages = SILENT
) -> InstallReport:
    """Make an earlier generation of `root` the one in use, by default the one before it.

    Nothing is fetched or copied. Later generations stay, so that a number leads back to them.
    Raises UsageError for an unknown number, InstallError if there is no earlier generation, if it
    is damaged, and for a root for Windows, which keeps only the generation in use.
    """
    from stackbuild.install.history import rollback as roll_back

    return roll_back(Path(root), generation, messages)
