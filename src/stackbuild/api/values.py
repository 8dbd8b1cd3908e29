"""Results of this interface that no other package makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stackbuild.compose.report import LayerFailure
    from stackbuild.install.report import InstallReport
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import CopyFiles, LayerKind
    from stackbuild.variables import Variable

LockState = Literal["locked", "not locked", "stale", "damaged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDescription:
    """What the spec says about a layer, and the state of its locks."""

    name: str
    kind: LayerKind
    python_version: str
    """The version of CPython that it requires, such as ``3.12.10``."""
    chain: tuple[str, ...]
    """The layer itself, its frameworks in the order of import, its runtime."""
    platforms: tuple[Platform, ...]
    """The platforms the layer is made for; empty for a layer that is switched off."""
    locks: Mapping[Platform, tuple[LockState, str | None]]
    """Those of `platforms` that are platforms of the stack: the state of the lock, and for
    ``stale`` and ``damaged`` the reason."""
    requirements: tuple[str, ...]
    """The requirements for all platforms (PEP 508)."""
    platform_requirements: Mapping[Platform, tuple[str, ...]]
    """Those for one platform only, `platform-specific.<platform>.dependencies`."""
    conflicts: tuple[str, ...]
    """Conflicts between frameworks that the locks accept, as sentences."""
    overlays: tuple[tuple[Platform | None, CopyFiles], ...]
    """Each overlay with its platform; None for all platforms."""
    environment: Mapping[Platform, Mapping[str, Variable]]
    """The variables that the layer itself sets, with the placeholders of the spec."""
    launch_module: Path | None
    support_modules: tuple[Path, ...]
    versioned: bool
    versions: Mapping[Platform, int]
    """The numbers of a versioned layer's locks; empty for other layers."""
    dynlib_exclude: tuple[str, ...]
    linux_target: str | None
    macosx_target: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """The result of `Project.build`."""

    installed: tuple[InstallReport, ...]
    """One for each platform; empty where a layer failed."""
    failures: tuple[LayerFailure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedInterpreter:
    """An archive of an interpreter."""

    path: Path
    """The absolute path of the archive."""
    platform: Platform
    python_version: str
    sha256: str
    host_libraries: tuple[str, ...]
    """The shared libraries that it needs of its host."""

    @property
    def setting(self) -> str:
        """The TOML that names it in a spec, for a runtime called such as ``cpython-3.12``."""
        from stackbuild.tomltext import fields, layer_table

        download: dict[str, object] = {"url": self.path.as_uri(), "sha256": self.sha256}
        if self.host_libraries:
            download["host-libraries"] = self.host_libraries
        header = layer_table(f"cpython-{self.python_version.rpartition('.')[0]}", "downloads")
        return f"{header}\n{fields({str(self.platform): download})}"
