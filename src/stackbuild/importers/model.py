"""What an older repository says, merged by its own rules, and the report of an import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stackbuild.platforms import DEFAULT_PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.platforms import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One of the dependencies: a requirement (PEP 508), and where it is written."""

    requirement: Requirement
    place: str

    @property
    def name(self) -> NormalizedName:
        """The distribution's normalised name."""
        from packaging.utils import canonicalize_name

        return canonicalize_name(self.requirement.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """`buildWheel` of one package on one platform."""

    reason: str
    build_requires: tuple[str, ...] = ()
    config_settings: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """An entry of `copyFiles`: from the variant's directory into the environment."""

    source: str
    target: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """`resolution`: None and empty where the file says nothing."""

    allow_source_all: bool | None = None
    strict_missing: bool | None = None
    allow_source_list: tuple[NormalizedName, ...] = ()
    force_no_binary_list: tuple[NormalizedName, ...] = ()
    only_binary_list: tuple[NormalizedName, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """`build`: None where the file says nothing."""

    logging: bool | None = None
    parallel_downloads: bool | None = None
    timeout: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One file of the configuration, shared or a variant's."""

    dependencies: tuple[Wish, ...] = ()
    skip: Mapping[NormalizedName, Mapping[Platform, str]] = field(default_factory=dict)
    force_source: Mapping[NormalizedName, Mapping[Platform, str]] = field(default_factory=dict)
    build_wheel: Mapping[NormalizedName, Mapping[Platform, Build]] = field(default_factory=dict)
    no_deps: tuple[NormalizedName, ...] = ()
    overrides: Mapping[NormalizedName, str] = field(default_factory=dict)
    copy_files: tuple[Copy, ...] = ()
    resolution: Resolution = Resolution()
    registries: tuple[str, ...] = ()
    """Addresses, the default one never among them."""
    platform_dependencies: Mapping[Platform, tuple[Wish, ...]] = field(default_factory=dict)
    platform_copy_files: Mapping[Platform, tuple[Copy, ...]] = field(default_factory=dict)
    platform_resolution: Mapping[Platform, Resolution] = field(default_factory=dict)
    build: BuildOptions = BuildOptions()
    allow_import_errors: Mapping[Platform, Mapping[str, Mapping[str, str]]] = field(
        default_factory=dict
    )
    """From the whitelists of the native import check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One run environment of the repository."""

    directory: Path
    """`python-<version>[-<variant>]`."""
    name: str
    """That of the layer it becomes."""
    python: Version
    own: Config
    platforms: tuple[Platform, ...] = DEFAULT_PLATFORMS
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """Everything that was read."""

    directory: Path
    shared: Config
    variants: tuple[Variant, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One line of the report."""

    kind: str
    """One of `KINDS`."""
    place: str
    """Where it stands in the repository: ``python-3.12.10-atls/config.json: packages.skip``."""
    text: str


KINDS = {
    "became": "what became what",
    "question": "what needs an answer",
    "without-counterpart": "what has no counterpart",
    "unknown": "what is not known",
    "needless": "what can go",
    "unresolved": "what could not be resolved",
}
"""The kinds of `Note`, in the order of the report, each with its heading."""
