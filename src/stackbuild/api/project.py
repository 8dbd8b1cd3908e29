"""A stack and what is made of it: locks, fetched wheels, published layers, local roots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.api.locking import LockedProject
from stackbuild.errors import UsageError, refuse_text
from stackbuild.messages import SILENT
from stackbuild.platforms import parse_platform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackbuild.api.values import BuildReport
    from stackbuild.compose.manifest import ArchiveFormat
    from stackbuild.compose.report import LayerFailure, PublishedLayer, PublishReport
    from stackbuild.images.image import ImageReport
    from stackbuild.install.report import ExportReport, InstallReport, PackedFormat, PackReport
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.verify.model import VerifyReport
    from stackbuild.workspace import Workspace


class Project(LockedProject):
    """A stack, as a `venvstacks.toml` defines it, in its project directory.

    Layers are chosen by name, by their name in venvstacks (``app-report``) or by a pattern
    (``app-*``), platforms by name, alias or ``host``; none named means all of the stack. A layer
    is taken with the layers below it. Messages and progress go to `messages`.

    Example::

        project = Project.load("venvstacks.toml")
        project.lock()
        project.publish(["report"], platforms=["host"])
    """

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

        `to` is `exports` by default, another directory, or the address of an object store or a
        container registry (``s3://bucket/prefix``, ``gs://``, ``az://``, ``oci://host/repository``).
        Layers are then composed in `exports`, and what is missing there is sent: archives or
        frames, then manifests, and the index last.

        Without `with_lower`, layers below those named are left out. `level` is zstd's, 1 to 22.
        With `check`, archives that are published already are read, and written again where they
        are damaged. With `venvstacks_metadata` the metadata of venvstacks 0.8 is written beside the
        archives of each platform, in a directory only; where it exists, it is renewed in any case.
        A layer that cannot be composed is in `failures` of the report, with the layers that need
        this version of it; the others are published. So is a layer that needs a shared library that
        neither its chain nor every host has; with `allow_unresolved`, a warning names the library.
        With `dry_run` nothing is written but temporary files: missing wheels are downloaded and
        frames made there, and the report has the archives that would be written. A wheel that must
        be built from source first is a failure then.

        Raises LockError where a lock is missing or stale, ComposeError where `to` cannot be
        written, IntegrityError for a damaged index, FetchError where a store cannot be reached or
        refuses; the next call then sends the rest.
        """
        refuse_text(layers=layers, platforms=platforms)
        from stackbuild.compose.export_directory import ExportDirectory, explained
        from stackbuild.compose.publish import PublishOptions, publish
        from stackbuild.compose.venvstacks_metadata import has_metadata, write_metadata
        from stackbuild.registry.find import is_address, open_place
        from stackbuild.registry.push import send_report
        from stackbuild.spec.select import select

        workspace = self._workspace(read_only=dry_run)
        address = str(to) if to is not None and is_address(str(to)) else None
        remote = None
        if address:
            remote = open_place(address, self._messages)
            # Before anything is composed, because it may be refused.
            remote.tagged_index()
        place = workspace.exports if to is None or address else Path(to)
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
        if remote and report.layers:
            return send_report(report, place, remote, self._messages, dry_run=dry_run)
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

    def export_archive(
        self,
        layers: Sequence[str],
        archive_format: PackedFormat,
        path: str | Path | None = None,
        *,
        platform: str = "host",
        allow_unresolved: bool = False,
    ) -> PackReport:
        """Compose `layers`, and write them and the layers below them to one archive.

        As the function `export_archive`, from this project instead of a registry. Nothing is
        written where a layer fails. `allow_unresolved` is as for `publish`. Raises as `build` does,
        and InstallError for a file of others at `path`.
        """
        refuse_text(layers=layers)
        from stackbuild.api.packing import export_archive

        def write(names: Sequence[str], registry: Path) -> PackReport:
            return export_archive(
                names,
                archive_format,
                path,
                registry=registry,
                platform=platform,
                messages=self._messages,
            )

        return self._pack(layers, platform, allow_unresolved, write)

    def bundle(
        self,
        layer: str,
        path: str | Path | None = None,
        *,
        platform: str = "host",
        allow_unresolved: bool = False,
    ) -> PackReport:
        """Compose `layer`, and write it and the layers below it to one executable file.

        As the function `bundle`, from this project instead of a registry. Nothing is written where
        a layer fails. `allow_unresolved` is as for `publish`. Raises as `export_archive` does, and
        UsageError for Windows and for a pattern that matches several layers.
        """
        from stackbuild.api.packing import bundle

        def write(names: Sequence[str], registry: Path) -> PackReport:
            return bundle(
                names[0], path, registry=registry, platform=platform, messages=self._messages
            )

        ((one, _),) = self._pair(layer, platform)
        return self._pack([one.name], platform, allow_unresolved, write)

    def _pack(
        self,
        layers: Sequence[str],
        platform: str,
        allow_unresolved: bool,
        write: Callable[[Sequence[str], Path], PackReport],
    ) -> PackReport:
        """Compose `layers`, and `write` them from the registry that they are published to."""
        from stackbuild.install.report import PackReport
        from stackbuild.spec.select import find_layers

        registry = self._workspace().build_exports
        published = self.publish(layers, [platform], to=registry, allow_unresolved=allow_unresolved)
        on = parse_platform(platform)
        if published.failures:
            return PackReport(path=None, platform=on, layers=(), failures=published.failures)
        found = (layer for word in layers for layer in find_layers(self._stack, word))
        return write([layer.name for layer in found if on in layer.platforms], registry)

    def image(
        self,
        layer: str,
        *,
        base: str,
        to: str | None = None,
        platform: str = "host",
        allow_unresolved: bool = False,
    ) -> ImageReport:
        """Compose `layer`, and make a container image of it and those below it.

        As the function `image`, from this project instead of a registry. `allow_unresolved` is as
        for `publish`. Raises as `build` does, and as `image`.
        """
        from stackbuild.api.roots import image
        from stackbuild.images.image import ImageReport, check_platform
        from stackbuild.spec.select import check_single, find_layers

        on = parse_platform(platform)
        check_platform(on)
        found = [one.name for one in find_layers(self._stack, layer)]
        check_single(layer, found, self.spec)
        registry = self._workspace().build_exports
        published = self.publish(found, [platform], to=registry, allow_unresolved=allow_unresolved)
        if published.failures:
            return ImageReport(to=to or "", platform=on, failures=published.failures)
        return image(
            found[0],
            registry=registry,
            base=base,
            to=to,
            platform=platform,
            messages=self._messages,
        )

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
    stack = None if project is None else project._stack  # noqa: SLF001 - of this package
    return verify_root(Path(root), layers, stack, expected, messages)
