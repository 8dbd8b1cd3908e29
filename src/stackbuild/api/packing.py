"""Layers in one file, for machines without stackbuild: archives, bundles, and scripts for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.errors import refuse_text
from stackbuild.messages import SILENT
from stackbuild.platforms import parse_platform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackbuild.install.report import PackedFormat, PackReport
    from stackbuild.messages import Messages


def export_archive(
    layers: Sequence[str],
    archive_format: PackedFormat,
    path: str | Path | None = None,
    *,
    registry: str | Path,
    platform: str | None = None,
    messages: Messages = SILENT,
) -> PackReport:
    """Write `layers`, and the layers below them, from `registry` to one archive.

    The layers are side by side in it, and work where it is unpacked. `path` is the file to write,
    by default ``<layer>-<platform>.<format>`` in this directory; an archive that stackbuild wrote
    is replaced. `platform` is this machine's by default. Equal layers give equal bytes.

    Raises InstallError for a file of others at `path`, and for layers that cannot be moved; else as
    `install` does.
    """
    refuse_text(layers=layers)
    from stackbuild.install.archive import export_archive as export_from
    from stackbuild.registry.find import open_registry

    return export_from(
        layers,
        archive_format,
        open_registry(str(registry), messages),
        None if path is None else Path(path),
        None if platform is None else parse_platform(platform),
        messages,
    )


def bundle(
    layer: str,
    path: str | Path | None = None,
    *,
    registry: str | Path,
    platform: str | None = None,
    messages: Messages = SILENT,
) -> PackReport:
    """Write `layer`, and the layers below it, from `registry` to one executable file.

    It needs neither Python nor a network on the machine where it runs. `path` is the file to write,
    by default ``<layer>-<platform>.run`` in this directory; a bundle that stackbuild wrote is
    replaced. `platform` is this machine's by default; there are none for Windows. Equal layers give
    equal bytes.

    Raises as `export_archive` does, and UsageError for Windows.
    """
    from stackbuild.install.bundle import bundle as bundle_from
    from stackbuild.registry.find import open_registry

    return bundle_from(
        layer,
        open_registry(str(registry), messages),
        None if path is None else Path(path),
        None if platform is None else parse_platform(platform),
        messages,
    )


def write_bootstrap(
    directory: str | Path, address: str, *, messages: Messages = SILENT
) -> tuple[Path, ...]:
    """Write ``install.sh`` and ``install.ps1`` into the `directory` that layers are published to.

    They install layers on machines without Python: ``curl -fsSL ADDRESS/install.sh | sh -s --
    LAYER --root DIR``. `address` is that of a web server which serves `directory`. stackbuild must
    be published there as the application ``stackbuild``, for each platform that the scripts are to
    serve. Returns the scripts.

    Raises UsageError for an invalid address and without that application, InstallError,
    IntegrityError.
    """
    from stackbuild.install.bootstrap import write_bootstrap as write

    return write(Path(directory), address, messages)
