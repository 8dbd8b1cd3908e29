"""Roots, the places that layers are installed from, interpreters for a mirror, and the import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.errors import refuse_text
from stackbuild.messages import SILENT
from stackbuild.platforms import host_platform, parse_platform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackbuild.api.values import PackedInterpreter
    from stackbuild.durable import Sync
    from stackbuild.images.image import ImageReport
    from stackbuild.importers.runenv.convert import ImportReport
    from stackbuild.install.report import (
        AvailableLayer,
        CleanReport,
        ExportReport,
        FilesReport,
        InstalledLayer,
        InstallReport,
        Invocation,
        LayerVariables,
        RepairReport,
    )
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.registry.base import Registry


def install(
    layers: Sequence[str],
    root: str | Path,
    *,
    registry: str | Path | None = None,
    platform: str | None = None,
    store: str | Path | None = None,
    sync: bool = True,
    messages: Messages = SILENT,
) -> InstallReport:
    """Install `layers`, and the layers below them, from `registry` into `root`.

    Layers are named as for `Project`, here and in the other functions for roots; a published layer
    may have a version: ``atls==7``, ``atls@7`` or ``atls@sha256:…``. `registry` is a
    directory that layers were published to, or an address (http, https, s3, gs, az); by default
    the one that the layers of the root came from. `platform` is that of a new root, this machine's
    by default. `store` is where frames are unpacked: in the root by default, or the directory that
    was given before; several roots of one file system may share one. With `sync` the files are on
    the disk when the function returns; without it a power cut soon after may damage them.

    Only what is missing is fetched, and all of it is verified. Until everything is there, the
    root stays as it is; after an error the same call continues where the last one stopped.

    Raises UsageError for a layer that is not published for the platform, InstallError for a root
    that cannot be used, FetchError, IntegrityError.
    """
    refuse_text(layers=layers)
    from stackbuild.install.install import install as install_into

    return install_into(
        layers,
        registry_of(layers, root, registry, messages),
        Path(root),
        platform_named(platform),
        messages,
        store=None if store is None else Path(store),
        sync=sync_function(sync),
    )


def registry_of(
    layers: Sequence[str], root: str | Path, registry: str | Path | None, messages: Messages
) -> Registry:
    """`registry`, by default the one that the layers of `root` came from."""
    from stackbuild.install.plan import remembered_place
    from stackbuild.install.root import Root
    from stackbuild.registry.find import open_registry

    if registry is None:
        where = Root(Path(root))
        registry = remembered_place(layers, where.state(), where.path)
    return open_registry(str(registry), messages)


def export(
    layers: Sequence[str],
    directory: str | Path,
    *,
    registry: str | Path,
    platform: str | None = None,
    sync: bool = True,
    messages: Messages = SILENT,
) -> ExportReport:
    """Copy `layers`, and the layers below them, from `registry` to `directory` as plain files.

    The layers are side by side in `directory`, which has no generations: what an earlier export
    left of these layers is replaced. Where the file system has no links, they become copies.
    `platform` is this machine's by default; `sync` is as for `install`.

    Raises InstallError for a directory with other files, and as `install` does.
    """
    refuse_text(layers=layers)
    from tempfile import TemporaryDirectory

    from stackbuild.install.export import export as export_from

    with TemporaryDirectory(prefix="stackbuild-export-") as work:
        root = Path(work) / "root"
        report = install(
            layers, root, registry=registry, platform=platform, sync=False, messages=messages
        )
        names = [item.manifest.directory for item in report.layers if item.asked]
        return export_from(names, root, Path(directory), messages, sync=sync_function(sync))


def uninstall(
    layers: Sequence[str], root: str | Path, *, messages: Messages = SILENT
) -> InstallReport:
    """Remove `layers` from `root`, and the lower layers that no other layer needs.

    Disk space is freed by `clean`. Raises UsageError for a layer that is not installed,
    InstallError for one that another layer needs.
    """
    refuse_text(layers=layers)
    from stackbuild.install.install import uninstall as uninstall_from

    return uninstall_from(layers, Path(root), messages)


def find_root(directory: str | Path = ".") -> Path | None:
    """The root that `directory` is, or is in, or that the `stackbuild.install.toml` in it names.

    Raises SpecError if that file is invalid.
    """
    from stackbuild.mark import is_root
    from stackbuild.workspace import INSTALL_FILE

    here = Path(directory).absolute()
    found = next((path for path in (here, *here.parents) if is_root(path)), None)
    if found is None and (here / INSTALL_FILE).is_file():
        from stackbuild.install.wanted import read_wanted

        return read_wanted(here / INSTALL_FILE).root
    return found


def repair(
    root: str | Path, *, registry: str | Path | None = None, messages: Messages = SILENT
) -> RepairReport:
    """Read every file of `root`, and link or download damaged files again.

    Damaged files that the store no longer has come from `registry`, a directory or an
    address. Raises InstallError for what cannot be repaired from what is there, FetchError,
    IntegrityError.
    """
    from stackbuild.install.repair import repair as repair_root
    from stackbuild.registry.find import open_registry

    place = None if registry is None else open_registry(str(registry), messages)
    return repair_root(Path(root), place, messages)


def image(
    layer: str,
    *,
    registry: str | Path,
    base: str,
    to: str | None = None,
    platform: str | None = None,
    messages: Messages = SILENT,
) -> ImageReport:
    """Make a container image of the published `layer` and those below it.

    `base` is ``scratch``, ``oci-layout:DIR[:TAG]`` or an image in a registry such as
    ``debian:12-slim``; `to` is ``oci-layout:DIR[:TAG]``, by default in the working directory,
    ``docker-archive:FILE[:NAME:TAG]`` or ``oci://HOST/REPOSITORY[:TAG]``. `platform` is this
    machine's by default.

    Raises UsageError for other texts, for a platform that is not Linux and a base for another
    platform, ComposeError for a base without the C library that the layers need, InstallError,
    FetchError, IntegrityError.
    """
    from stackbuild.images.image import make_image
    from stackbuild.registry.find import open_registry

    where = open_registry(str(registry), messages)
    on = platform_named(platform) or host_platform()
    return make_image(layer, where, base, to, on, messages)


def list_installed(root: str | Path) -> list[InstalledLayer]:
    """The layers that are installed in `root`, lower layers first. Raises InstallError."""
    from stackbuild.install.contents import installed

    return installed(Path(root))


def list_published(
    registry: str | Path, *, platform: str | None = None, messages: Messages = SILENT
) -> list[AvailableLayer]:
    """The layers that are published in `registry`, a directory or an address.

    Only the index is read. Raises FetchError, IntegrityError.
    """
    from stackbuild.install.contents import published
    from stackbuild.registry.find import open_registry

    return published(open_registry(str(registry), messages), platform_named(platform))


def verify_files(
    root: str | Path,
    layers: Sequence[str] = (),
    *,
    platform: str | None = None,
    messages: Messages = SILENT,
) -> FilesReport:
    """Compare every file of `layers`, and of those below them, with what was published.

    None named means all layers of `root`. The next install or repair replaces what differs.
    Raises UsageError for layers that are not installed, and for a root that is not for `platform`.
    """
    refuse_text(layers=layers)
    from stackbuild.install.root import Root
    from stackbuild.install.verify import verify_installed
    from stackbuild.verify.check import check_platform

    check_platform(Root(Path(root)), platform_named(platform))
    return verify_installed(layers, Path(root), messages)


def invocation(
    layer: str, command: Sequence[str], root: str | Path, environment: Mapping[str, str]
) -> Invocation:
    """How to run `command` in an installed layer, with `environment` around it.

    Programs of the layer come before those on the PATH. Without a command, or
    with options only, the launch module of an application is run, and the Python of any other
    layer; a module of that name in the working directory is not. Raises UsageError for a layer that
    is not installed and for a pattern that matches several, InstallError for a program that the
    layer lacks.

    Example::

        start = invocation("report", ["python", "-V"], root, os.environ)
        subprocess.run([start.executable, *start.arguments], env=start.environment)
    """
    refuse_text(command=command)
    from stackbuild.install.run import invocation as invocation_in

    return invocation_in(layer, command, Path(root), environment)


def variables(layer: str, root: str | Path, environment: Mapping[str, str]) -> LayerVariables:
    """The environment variables of an installed layer, as they become in `environment`.

    Entries that the layer adds to a variable are joined with the value in `environment`. They are
    not added again if `environment` is that of a process of this layer. There are none if the layer
    sets none. Raises UsageError as `invocation` does, InstallError.
    """
    from stackbuild.install.run import variables as variables_in

    return variables_in(layer, Path(root), environment)


def clean(
    *,
    root: str | Path | None = None,
    keep: int = 1,
    older_than: int = 0,
    directory: str | Path = ".",
    caches: bool = False,
    unused_for: int | None = None,
    messages: Messages = SILENT,
) -> CleanReport:
    """Remove what can be made or fetched again.

    With `root`, old generations and unused frames of that root; otherwise what `Project.build`
    made in the project `directory`. Of the generations the one in use is kept, with the newest
    others `keep` together, those made in the last `older_than` days, and those that processes run
    in, if the system tells that. With `caches`, also the caches that all projects of this
    user share; with `unused_for`, cached frames that were not used for so many days.

    Raises InstallError where `root` is not one, UsageError where the cache directory holds
    something else.
    """
    from stackbuild.install.clean import clean as clean_up

    return clean_up(
        Path(directory),
        None if root is None else Path(root),
        messages,
        keep=keep,
        older_than=older_than,
        all_caches=caches,
        unused_for=unused_for,
    )


def pack_interpreter(
    path: str | Path, to: str | Path, *, messages: Messages = SILENT
) -> PackedInterpreter:
    """Pack an interpreter of this machine, or the one of a prefix, into the mirror `to`.

    The archive has the name and layout of those of python-build-standalone. Raises UsageError
    where `path` has no interpreter, ComposeError for one that cannot be packed.
    """
    from stackbuild.api.values import PackedInterpreter
    from stackbuild.files import sha256_file
    from stackbuild.runtimes.pack import pack

    packed = pack(Path(path), Path(to), messages)
    archive = packed.path.absolute()
    return PackedInterpreter(
        path=archive,
        platform=host_platform(),
        python_version=archive.name.removeprefix("cpython-").partition("+")[0],
        sha256=sha256_file(archive),
        host_libraries=packed.libraries,
    )


def import_runenv(
    directory: str | Path,
    to: str | Path | None = None,
    *,
    index: str | None = None,
    write: bool = True,
) -> ImportReport:
    """Convert the repository of runenv-python-3 in `directory` to a stack in the directory `to`.

    `to` is `directory` by default. Each variant becomes one application, without frameworks.
    `index` is the address of the default package index of the stack, if it is not uv's. Without
    `write` only the report is made. No network is needed. What the import itself does not check
    is reported by `Project.load` for `spec` of the report.

    Raises UsageError for another kind of directory and where `to` has a stack already, SpecError
    with all problems of the repository's files.
    """
    from stackbuild.importers.runenv.convert import import_runenv as convert

    older = Path(directory).absolute()
    project = older if to is None else Path(to).absolute()
    return convert(older, project, index=index, write=write)


def platform_named(name: str | None) -> Platform | None:
    """The platform that the argument `name` of a function stands for. Raises UsageError."""
    return None if name is None else parse_platform(name)


def sync_function(sync: bool) -> Sync:
    """What `sync` of the functions here stands for."""
    from stackbuild.durable import no_sync, sync_to_disk

    return sync_to_disk if sync else no_sync
