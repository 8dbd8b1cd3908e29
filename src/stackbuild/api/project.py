"""A stack and what is made of it: locks, fetched wheels, published layers, local roots."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.errors import LockError, UsageError, refuse_text
from stackbuild.messages import SILENT
from stackbuild.platforms import parse_platform

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stackbuild.api.values import BuildReport, LayerDescription, LockState
    from stackbuild.compose.manifest import ArchiveFormat
    from stackbuild.compose.report import LayerFailure, PublishedLayer, PublishReport
    from stackbuild.compose.sizes import LayerSizes
    from stackbuild.install.report import ExportReport, InstallReport
    from stackbuild.lock.current import Locks
    from stackbuild.lock.model import LayerLock, WheelAddition
    from stackbuild.messages import Messages
    from stackbuild.planning.model import Suggestion
    from stackbuild.platforms import Platform
    from stackbuild.resolve.lock_stack import LockReport
    from stackbuild.spec.model import CopyFiles, Layer, Settings, Stack
    from stackbuild.verify.model import VerifyReport
    from stackbuild.workspace import Workspace


class Project:
    """A stack, as a `venvstacks.toml` defines it, in its project directory.

    Layers are chosen by name, by their name in venvstacks (``app-report``) or by a pattern
    (``app-*``), platforms by name, alias or ``host``; none named means all of the stack. A layer
    is taken with the layers below it. Messages and progress go to `messages`.

    Example::

        project = Project.load("venvstacks.toml")
        project.lock()
        project.publish(["report"], platforms=["host"])
    """

    def __init__(self, stack: Stack, messages: Messages) -> None:
        self._stack = stack
        self._messages = messages

    @classmethod
    def load(cls, spec: str | Path = "venvstacks.toml", *, messages: Messages = SILENT) -> Project:
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
        from stackbuild.lock.current import Locks
        from stackbuild.spec.select import find_layers

        found = (layer for word in layers for layer in find_layers(self._stack, word))
        wanted = {member.name for layer in found for member in self._stack.chain(layer)}
        locks = Locks(self._stack, self._workspace(read_only=True))
        return tuple(
            self._describe(layer, locks)
            for layer in self._stack.layers.values()
            if not layers or layer.name in wanted
        )

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

    def publish(  # noqa: PLR0913 - options of one command, all by name
        self,
        layers: Sequence[str] = (),
        platforms: Sequence[str] = (),
        *,
        to: str | Path | None = None,
        with_lower: bool = True,
        archive_format: ArchiveFormat = "tar.zst",
        level: int | None = None,
        check: bool = False,
        venvstacks_metadata: bool = False,
        allow_unresolved: bool = False,
        dry_run: bool = False,
    ) -> PublishReport:
        """Compose layers and write archives, manifests and the index to `to`.

        `to` is `exports` by default. Without `with_lower`, layers below those named are left out.
        `level` is zstd's, 1 to 22. With `check`, archives that are published already are read,
        and written again where they are damaged. With `venvstacks_metadata` the metadata of
        venvstacks 0.8 is written beside the archives of each platform; where it exists, it is
        renewed in any case. A layer that cannot be
        composed is in `failures` of the report, with the layers that need this version of it; the
        others are published. So is a layer that needs a shared library that neither its chain nor
        every host has; with `allow_unresolved`, a warning names the library. With `dry_run` nothing
        is written but temporary files: missing wheels are downloaded and frames made there, and
        the report has the archives that would be written. A wheel that must be built from source
        first is a failure then.

        Raises LockError where a lock is missing or stale, ComposeError where `to` cannot be
        written, IntegrityError for a damaged index.
        """
        refuse_text(layers=layers, platforms=platforms)
        from stackbuild.compose.export_directory import ExportDirectory, explained
        from stackbuild.compose.publish import PublishOptions, publish
        from stackbuild.compose.venvstacks_metadata import has_metadata, write_metadata
        from stackbuild.spec.select import select

        workspace = self._workspace(read_only=dry_run)
        place = workspace.exports if to is None else Path(to)
        with explained(place, workspace):
            report = publish(
                self._stack,
                workspace,
                self._messages,
                pairs=select(self._stack, layers, platforms, with_chain=with_lower),
                to=place,
                options=PublishOptions(
                    archive_format=archive_format,
                    level=level,
                    check=check,
                    allow_unresolved=allow_unresolved,
                    dry_run=dry_run,
                ),
            )
            if not dry_run:
                exports = ExportDirectory(place)
                done = dict.fromkeys(item.manifest.platform for item in report.layers)
                described = [
                    one for one in done if venvstacks_metadata or has_metadata(exports, one)
                ]
                write_metadata(exports, self._stack, described, self._messages)
        return report

    def build(
        self,
        layers: Sequence[str] = (),
        platforms: Sequence[str] = ("host",),
        *,
        allow_unresolved: bool = False,
        sync: bool = True,
    ) -> BuildReport:
        """Compose layers and install them into ``build/<platform>`` of the project.

        Nothing is installed where a layer fails. `allow_unresolved` is as for `publish`, and `sync`
        as for `install`. Raises as they do.
        """
        from stackbuild.api.values import BuildReport
        from stackbuild.compose.export_directory import ExportDirectory

        workspace = self._workspace()
        published = self.publish(
            layers, platforms, to=workspace.build_exports, allow_unresolved=allow_unresolved
        )
        if published.failures:
            return BuildReport(installed=(), failures=published.failures)
        installed = self._install(published.layers, workspace, sync=sync)
        ExportDirectory(workspace.build_exports).forget_older(self._messages)
        return BuildReport(installed=installed, failures=())

    def link_sources(self, layer: str) -> Path:
        """A directory with links to the sources of `layer` and those below it, for PYTHONPATH.

        These are launch and support modules, and the modules of projects of the repository that
        the locks name. If a project lacks files that its wheel has, such as compiled modules, a
        warning says so, and no link to it is made. The directory is in ``build/`` and is the same
        for each call. Raises UsageError for an unknown layer, LockError for a damaged lock,
        InstallError for a wheel that is not in the wheelhouse and if no link can be made.
        """
        from stackbuild.install.sources import link_sources

        return link_sources(self._stack, self._workspace(), layer, self._messages)

    def export(
        self,
        layers: Sequence[str],
        directory: str | Path,
        *,
        platform: str = "host",
        allow_unresolved: bool = False,
        sync: bool = True,
    ) -> ExportReport:
        """Build `layers`, and copy them and the layers below them to `directory`.

        As the function `export`, from this project instead of a registry. Nothing is copied where
        a layer fails. `allow_unresolved` is as for `publish`. Raises as `build` does, and
        InstallError for a directory with other files.
        """
        refuse_text(layers=layers)
        from stackbuild.api.roots import sync_function
        from stackbuild.install.export import export
        from stackbuild.spec.select import find_layers

        built = self.build(layers, [platform], allow_unresolved=allow_unresolved, sync=False)
        if built.failures:
            return _not_exported(directory, platform, built.failures)
        root, on = built.installed[0].root, built.installed[0].platform
        found = (layer for word in layers for layer in find_layers(self._stack, word))
        names = list(dict.fromkeys(layer.name for layer in found if on in layer.platforms))
        return export(names, root, Path(directory), self._messages, sync=sync_function(sync))

    def export_runenv(
        self,
        layer: str,
        directory: str | Path = ".",
        *,
        platform: str = "host",
        allow_unresolved: bool = False,
        sync: bool = True,
    ) -> ExportReport:
        """Build `layer`, and make ``pydist/<platform>`` in `directory` as runenv-python-3 does.

        It has the interpreter of the runtime, the overlays of the chain, and its wheels in
        ``packages/``. Parameters are as for `export`. Raises as it does, and InstallError for a
        runtime without pip.
        """
        from stackbuild.api.roots import sync_function
        from stackbuild.install.export_runenv import export_runenv
        from stackbuild.spec.select import check_single, find_layers

        found = [one.name for one in find_layers(self._stack, layer)]
        check_single(layer, found, self.spec)
        built = self.build(found, [platform], allow_unresolved=allow_unresolved, sync=False)
        if built.failures:
            return _not_exported(directory, platform, built.failures)
        return export_runenv(
            found[0],
            built.installed[0].root,
            self.fetch(found, [platform]),
            Path(directory),
            self._messages,
            sync=sync_function(sync),
        )

    def _install(
        self, layers: Sequence[PublishedLayer], workspace: Workspace, *, sync: bool
    ) -> tuple[InstallReport, ...]:
        from stackbuild.api.roots import install

        by_platform: dict[Platform, list[str]] = {}
        for item in layers:
            by_platform.setdefault(item.manifest.platform, []).append(item.manifest.layer)
        return tuple(
            install(
                names,
                workspace.build / platform,
                registry=workspace.build_exports,
                platform=platform,
                sync=sync,
                messages=self._messages,
            )
            for platform, names in by_platform.items()
        )

    def _workspace(self, *, read_only: bool = False) -> Workspace:
        from stackbuild.workspace import open_workspace

        return open_workspace(self.directory, read_only=read_only)

    def _describe(self, layer: Layer, locks: Locks) -> LayerDescription:
        from stackbuild.api.values import LayerDescription
        from stackbuild.resolve.lock_stack import describe_conflicts

        wanted = [platform for platform in layer.platforms if platform in self.platforms]
        readable = list(_readable(layer, wanted, locks))
        overlays: list[tuple[Platform | None, CopyFiles]] = [(None, it) for it in layer.copy_files]
        for platform, entries in layer.platform_copy_files.items():
            overlays += ((platform, entry) for entry in entries)
        return LayerDescription(
            name=layer.name,
            kind=layer.kind,
            python_version=str(self._stack.python_version(layer)),
            chain=tuple(member.name for member in self._stack.chain(layer)),
            platforms=layer.platforms,
            locks={platform: _lock_state(layer, platform, locks) for platform in wanted},
            requirements=tuple(map(str, layer.requirements)),
            platform_requirements={
                platform: tuple(map(str, own))
                for platform in layer.platforms
                if (own := layer.policy(platform).dependencies)
            },
            conflicts=tuple(describe_conflicts(readable)),
            overlays=tuple(overlays),
            environment={one: layer.policy(one).environment for one in layer.platforms},
            launch_module=layer.launch_module,
            support_modules=layer.support_modules,
            versioned=layer.versioned,
            versions={one.platform: one.version for one in readable} if layer.versioned else {},
            dynlib_exclude=layer.dynlib_exclude,
            linux_target=layer.linux_target,
            macosx_target=layer.macosx_target,
        )


def _not_exported(
    directory: str | Path, platform: str, failures: tuple[LayerFailure, ...]
) -> ExportReport:
    from stackbuild.install.report import ExportReport

    return ExportReport(
        directory=Path(directory),
        platform=parse_platform(platform),
        layers=(),
        copied_links=False,
        failures=failures,
    )


def _lock_state(layer: Layer, platform: Platform, locks: Locks) -> tuple[LockState, str | None]:
    try:
        if locks.get(layer.name, platform) is None:
            return "not locked", None
        reason = locks.staleness(layer, platform)
    except LockError as error:
        return "damaged", error.message
    return ("locked", None) if reason is None else ("stale", reason)


def _readable(layer: Layer, platforms: Sequence[Platform], locks: Locks) -> Iterator[LayerLock]:
    """The locks of `layer` that can be read."""
    for platform in platforms:
        with suppress(LockError):
            if lock := locks.get(layer.name, platform):
                yield lock


def build_root(directory: str | Path, platform: str = "host") -> Path:
    """The root that `Project.build` made for `platform` in the project `directory`.

    Raises UsageError where there is none.
    """
    from stackbuild.workspace import open_workspace

    name = parse_platform(platform)
    project = Path(directory).absolute()
    root = open_workspace(project, read_only=True).build / name
    if not root.is_dir():
        words = "" if platform == "host" else f" --platform {name}"
        raise UsageError(
            f"nothing was built for {name} in {project}",
            expected=f"a root in {root}",
            remedy=f"name another root, or make this one: stackbuild build{words}",
        )
    return root


def verify(
    root: str | Path,
    layers: Sequence[str] = (),
    *,
    project: Project | None = None,
    platform: str | None = None,
    messages: Messages = SILENT,
) -> VerifyReport:
    """Check that `layers` and those below them work; none named means all of `root`.

    Every native module is imported with the interpreter of the layer, where the layers run on
    this machine. Files are compared with their RECORD, requirements and shared libraries looked
    up. What `project` allows (`allow-import-errors`) is not among the findings. `platform` is
    the one that the root must be for.

    Raises UsageError for layers that are not installed, and for a root of another platform.
    """
    refuse_text(layers=layers)
    from stackbuild.verify.check import verify_root

    expected = None if platform is None else parse_platform(platform)
    stack = None if project is None else project._stack  # noqa: SLF001 - of this module
    return verify_root(Path(root), layers, stack, expected, messages)
