"""The side of a project up to its locks and the files that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from stackbuild.errors import refuse_text
from stackbuild.messages import SILENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackbuild.api.values import LayerDescription
    from stackbuild.compose.sizes import LayerSizes
    from stackbuild.lock.model import WheelAddition
    from stackbuild.messages import Messages
    from stackbuild.planning.model import Suggestion
    from stackbuild.platforms import Platform
    from stackbuild.resolve.lock_stack import LockReport
    from stackbuild.spec.model import Layer, Settings, Stack
    from stackbuild.workspace import Workspace


class LockedProject:
    """The methods of `Project` that make no layers: its spec, its locks and its wheelhouse."""

    def __init__(self, stack: Stack, messages: Messages) -> None:
        self._stack = stack
        self._messages = messages

    @classmethod
    def load(cls, spec: str | Path = "venvstacks.toml", *, messages: Messages = SILENT) -> Self:
        """Read and check the spec file at `spec`. Raises SpecError with all its problems."""
        from stackbuild.spec.reader import load_stack

        return cls(load_stack(Path(spec)), messages)

    @property
    def spec(self) -> Path:
        """The absolute path of the spec file."""
        return self._stack.path

    @property
    def directory(self) -> Path:
        """The directory of the spec file."""
        return self._stack.directory

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """The platforms of the stack."""
        return self._stack.platforms

    @property
    def wheelhouse(self) -> Path:
        """The directory of the files that the locks name."""
        return self._workspace(read_only=True).wheelhouse

    @property
    def exports(self) -> Path:
        """The directory that `publish` writes to by default."""
        return self._workspace(read_only=True).exports

    def describe(self, layers: Sequence[str] = ()) -> tuple[LayerDescription, ...]:
        """`layers` and those below them, lower layers first, with the states of their locks.

        Raises UsageError for an unknown layer.
        """
        refuse_text(layers=layers)
        from stackbuild.api.describe import describe

        return describe(self._stack, self._workspace(read_only=True), layers)

    def settings(self, layer: str, platform: str = "host") -> Settings:
        """The effective settings of `layer` on `platform`: shared ones merged in, with places.

        Raises UsageError for an unknown layer, for a pattern that matches several, and for a
        platform that the layer is not made for.
        """
        from stackbuild.spec.policy import on_platform

        ((one, on),) = self._pair(layer, platform)
        return on_platform(one.settings, on)

    def _pair(self, layer: str, platform: str) -> Sequence[tuple[Layer, Platform]]:
        """The one layer that `layer` names, on `platform`."""
        from stackbuild.spec.select import check_single, find_layers, select

        check_single(layer, [one.name for one in find_layers(self._stack, layer)], self.spec)
        return select(self._stack, [layer], [platform], with_chain=False)

    def sizes(self, layer: str, platform: str = "host") -> LayerSizes:
        """What the bytes of the distributions of `layer` on `platform` are.

        Raises UsageError as `settings` does, LockError if the layer is not locked, FetchError if a
        wheel is not fetched yet, IntegrityError for a damaged wheel.
        """
        from stackbuild.compose.sizes import layer_sizes
        from stackbuild.lock.current import load_locks

        ((one, on),) = self._pair(layer, platform)
        workspace = self._workspace(read_only=True)
        lock = load_locks(self._stack, workspace, [(one, on)])[one.name, on]
        return layer_sizes(one, lock, workspace)

    def lock(
        self,
        layers: Sequence[str] = (),
        platforms: Sequence[str] = (),
        *,
        upgrade: bool = False,
        upgrade_packages: Sequence[str] = (),
        from_venvstacks: bool = False,
    ) -> LockReport:
        """Choose the distributions of each layer and write its locks.

        Locked versions are kept where the spec allows them, except those of the distributions
        `upgrade_packages`, or all with `upgrade`; where `layers` are named, only these are
        upgraded. With `from_venvstacks`, locks that do not exist yet start from
        ``requirements/`` of venvstacks 0.8: they prefer its versions, and the numbers of versioned
        layers go on.

        If a layer cannot be locked on one of its platforms, its locks and those of the layers above
        it stay as they are. The locks of the others are written before the error is raised.

        Raises LockError for layers that cannot be resolved and for damaged locks, FetchError where
        the package index does not answer, UsageError for unknown names.
        """
        refuse_text(layers=layers, platforms=platforms, upgrade_packages=upgrade_packages)
        from stackbuild.builds import wheel_builder
        from stackbuild.resolve.lock_stack import lock_stack

        for text in self._stack.warnings:
            self._messages.warn(text)
        if ignored := self._stack.without_effect:
            self._messages.note(f"settings without effect in stackbuild: {', '.join(ignored)}")
        workspace = self._workspace()
        return lock_stack(
            self._stack,
            workspace,
            self._messages,
            layers=layers,
            platforms=platforms,
            upgrade=upgrade,
            upgrade_packages=upgrade_packages,
            from_venvstacks=from_venvstacks,
            builder=wheel_builder(self._stack, workspace, self._messages),
        )

    def check_locks(self, layers: Sequence[str] = (), platforms: Sequence[str] = ()) -> LockReport:
        """Report which locks are missing or stale. Nothing is changed, and no index is asked.

        Raises LockError for a damaged lock, UsageError for unknown names.
        """
        refuse_text(layers=layers, platforms=platforms)
        from stackbuild.resolve.lock_stack import lock_stack

        return lock_stack(
            self._stack,
            self._workspace(),
            self._messages,
            layers=layers,
            platforms=platforms,
            check=True,
        )

    def fetch(
        self,
        layers: Sequence[str] = (),
        platforms: Sequence[str] = (),
        *,
        index: str | None = None,
    ) -> dict[str, Path]:
        """Fill the wheelhouse with the files that the locks name; they are returned by sha256.

        `index` is the address of a package index that is asked instead of the default one.
        Raises LockError where a lock is missing or stale, FetchError, IntegrityError.
        """
        refuse_text(layers=layers, platforms=platforms)
        from stackbuild.builds import wheel_rebuilder
        from stackbuild.lock.current import load_locks
        from stackbuild.lock.wheelhouse import fetch
        from stackbuild.spec.select import select

        workspace = self._workspace()
        locks = load_locks(self._stack, workspace, select(self._stack, layers, platforms))
        rebuild = wheel_rebuilder(self._stack, workspace, self._messages, index=index)
        return fetch(
            self._stack, workspace, locks.values(), self._messages, index=index, rebuild=rebuild
        )

    def export_wheels(
        self, layers: Sequence[str], directory: str | Path, *, platform: str = "host"
    ) -> tuple[Path, ...]:
        """Copy the wheels of `layers`, and of the layers below them, to `directory`.

        ``pip install --no-index --find-links`` then installs from it. Their paths there are
        returned, sorted. Wheels are hard links to those of the wheelhouse, where the file system
        allows that; those that an earlier call left there are removed.

        Raises as `fetch` does, and ComposeError for a directory with other files and for the
        wheelhouse.
        """
        from stackbuild.lock.export_wheels import export_wheels

        wheels = self.fetch(layers, [platform])
        return export_wheels(wheels, Path(directory), self._workspace(), self._messages)

    def add_wheels(self, files: Sequence[str | Path]) -> list[WheelAddition]:
        """Check wheels that were built elsewhere and copy them into the wheelhouse, all or none.

        Raises IntegrityError for a wheel that its RECORD, name or tags contradict, UsageError
        for one that no platform of the stack can use.
        """
        refuse_text(files=files)
        from stackbuild.builds.add import add_wheels

        return add_wheels(self._stack, self._workspace(), self._messages, list(map(Path, files)))

    def suggest(self, layers: Sequence[str] = ()) -> Suggestion:
        """The new frameworks that minimise the total download of all applications, or of `layers`.

        The frameworks of the stack stay. Versions and sizes are those of the locks. Raises
        LockError where a lock is missing or stale, FetchError where the metadata of a wheel is
        not available, UsageError for a stack without applications.
        """
        refuse_text(layers=layers)
        from stackbuild.planning.suggest import suggest

        return suggest(self._stack, self._workspace(), self._messages, layers)

    def apply_suggestion(self, suggestion: Suggestion) -> bool:
        """Write the frameworks of `suggestion` into the spec; load it again afterwards.

        Comments and formatting are kept. False means that the suggestion saves nothing, so that
        the spec was not changed. Raises UsageError for a spec that cannot be changed this way.
        """
        from stackbuild.planning.apply import apply

        return apply(self._stack, suggestion)

    def _workspace(self, *, read_only: bool = False) -> Workspace:
        from stackbuild.workspace import open_workspace

        return open_workspace(self.directory, read_only=read_only)
