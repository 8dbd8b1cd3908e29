"""The contents of a `venvstacks.toml`, checked and resolved.

Fields follow the file-formats page of venvstacks 0.8. The additions of
stackbuild are under `[tool.stackbuild]`. Nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from stackbuild.platforms import marker_environment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.platforms import Platform
    from stackbuild.variables import Variable

Settings = Mapping[str, "Setting | tuple[Setting, ...] | Settings"]
"""Settings with their locations: single values, lists, and tables."""


class LayerKind(StrEnum):
    """The kind of a layer, from the bottom of a chain to its top."""

    RUNTIME = "runtime"
    FRAMEWORK = "framework"
    APPLICATION = "application"


VENVSTACKS_PREFIXES = {
    LayerKind.RUNTIME: "",
    LayerKind.FRAMEWORK: "framework-",
    LayerKind.APPLICATION: "app-",
}
"""What venvstacks puts before the name of a layer where it names directories and files."""


def venvstacks_name(name: str, kind: LayerKind) -> str:
    """The name of a layer with the prefix of venvstacks: ``app-atls``."""
    return f"{VENVSTACKS_PREFIXES[kind]}{name}"


COPY_TEXTS = {"from": "source", "to": "target"}
COPY_FLAGS = {"overwrite": "overwrite", "include-ignored": "include_ignored"}
"""The keys of an entry of `copy-files`, required strings and flags, each with its attribute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFiles:
    """One overlay: files of the project copied into a layer (`copy-files`).

    `source` is relative to `overlays/<layer>/`. A directory means all files
    below it. ``*``, ``?`` and ``[`` make a pattern, in which ``**`` matches any
    number of directories. `target` is relative to the layer and may start with
    the placeholder ``{site-packages}``.
    """

    source: str
    target: str
    overwrite: bool = False
    include_ignored: bool = False
    """Whether files that git ignores are copied too."""

    def as_entry(self) -> dict[str, object]:
        """The entry of `copy-files`, by its keys."""
        return {key: getattr(self, name) for key, name in (COPY_TEXTS | COPY_FLAGS).items()}

    @property
    def pattern(self) -> tuple[str, ...]:
        """The components of `source` from the first wildcard on; empty without wildcards."""
        parts = tuple(self.source.split("/"))
        wild = (at for at, part in enumerate(parts) if set("*?[").intersection(part))
        found = parts[next(wild, len(parts)) :]
        return (*found[:-1], "**") if found and not found[-1] else found

    @property
    def base(self) -> str:
        """The part of `source` before `pattern`. Copied files keep their paths below it."""
        parts = self.source.split("/")
        return "/".join(parts[: len(parts) - len(self.pattern)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file at an address, with the sha256 (hex) it must have."""

    url: str
    sha256: str
    host_libraries: tuple[str, ...] = field(default=(), compare=False)
    """Shared libraries that an interpreter needs of its host; not in a lock."""


RuntimeSource = Literal["pbs", "local"]
SiblingConflicts = Literal["error", "warn"]
"""How a requirement is treated that sibling frameworks do not meet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """Where a runtime's interpreter comes from (`[tool.stackbuild.layers.<runtime>]`)."""

    sources: tuple[RuntimeSource, ...] = ("pbs", "local")
    mirror: str | None = None
    """Base address instead of python-build-standalone's releases page."""
    path: Path | None = None
    """The interpreter, or its prefix, that the source `local` packs."""
    downloads: Mapping[Platform, Download] = field(default_factory=dict)
    """Explicit archives, which take precedence over every other source."""
    keep: tuple[NormalizedName, ...] = ()
    """Distributions that stay in the runtime though they are left out by default
    (`pip`, `setuptools`, `wheel`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSettings:
    """How frames are made (`[tool.stackbuild.frames]`)."""

    level: int = 9
    """zstd compression level, 1 to 22."""
    bytecode: bool = True
    patches: int = 1
    """How many of the versions before a new one it gets patches from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageIndex:
    """A `[[tool.uv.index]]`: a package index."""

    name: str | None
    url: str
    default: bool = False
    explicit: bool = False
    format: Literal["simple", "flat"] = "simple"
    authenticate: Literal["auto", "always", "never"] = "auto"
    """Whether credentials are sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildWheel:
    """How a wheel is built from the source of a distribution (`build-wheel`)."""

    reason: str
    build_requires: tuple[str, ...] = ()
    """Requirements (PEP 508) of the build. If any are set, they replace those of the source."""
    config_settings: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    """For the build backend (PEP 517); several values of a key keep their order. The
    placeholder ``{packageRoot}`` is the layer's directory, `overlays/<layer>/`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePolicy:
    """Which distributions may, must or must not be built from source (`resolution`)."""

    allow_source_all: bool = False
    """Whether any distribution without a compatible wheel may be built."""
    allow_source_list: tuple[NormalizedName, ...] = ()
    """Distributions that may be built if they have no compatible wheel, with all that they need."""
    force_no_binary_list: tuple[NormalizedName, ...] = ()
    """Distributions that are built even if they have a wheel."""
    only_binary_list: tuple[NormalizedName, ...] = ()
    """Distributions that are not built if they have no wheel, whatever else allows it."""
    strict_missing: bool = True
    """Whether each requirement that is not available is an error, also an optional one."""
    optional_list: tuple[NormalizedName, ...] = ()
    """Requirements that are omitted where they are not available, unless `strict_missing`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """How source builds and downloads run (`build`); only `environment` changes a lock."""

    logging: bool = False
    """Whether the output of builds is always shown, and not only after a failure."""
    parallel_downloads: bool = True
    timeout: int = 3600
    """The limit of one source build, in seconds."""
    environment: Mapping[str, Variable] = field(default_factory=dict)
    """Variables for the build backend and its compilers, with ``{{`` and ``}}`` for braces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Settings for the distributions of one layer on one platform, with the shared ones."""

    skip: Mapping[NormalizedName, str] = field(default_factory=dict)
    """Requirements of the layer that do not apply, to the reason."""
    exclude: Mapping[NormalizedName, str] = field(default_factory=dict)
    """Distributions that are left out, also if others depend on them, to the reason."""
    force_source: Mapping[NormalizedName, str] = field(default_factory=dict)
    """Distributions that are built from source even if they have a wheel, to the reason."""
    build_wheel: Mapping[NormalizedName, BuildWheel] = field(default_factory=dict)
    """Distributions that are built from source with settings of their own."""
    no_deps: tuple[NormalizedName, ...] = ()
    """Distributions whose dependencies are not followed."""
    overrides: Mapping[NormalizedName, str] = field(default_factory=dict)
    """Distribution to the specifier (``==2.7.0``) that replaces all other requirements."""
    resolution: SourcePolicy = SourcePolicy()
    dependencies: tuple[Requirement, ...] = ()
    """Requirements for this platform only, in addition to `Layer.requirements`."""
    build: BuildSettings = BuildSettings()
    allow_import_errors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Glob on a wheel's name to module to a part of the error that importing it may raise."""
    environment: Mapping[str, Variable] = field(default_factory=dict)
    """The variables that the layer sets, with the placeholders of the spec."""
    exclude_files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By distribution, or ``*`` for all, the patterns of files that are left out."""
    packages: bool = False
    """Whether the layer has the wheels of its chain as files."""

    def excluded_from(self, name: str) -> tuple[str, ...]:
        """The patterns of `exclude_files` for the distribution `name`."""
        return (*self.exclude_files.get("*", ()), *self.exclude_files.get(name, ()))

    @property
    def from_source(self) -> tuple[NormalizedName, ...]:
        """Distributions that are built from source even if they have a wheel, sorted."""
        forced = {*self.force_source, *self.build_wheel, *self.resolution.force_no_binary_list}
        return tuple(sorted(forced))

    def may_build(self, name: NormalizedName, needed_by: Collection[NormalizedName] = ()) -> bool:
        """Whether the distribution `name` is built if it has no compatible wheel.

        `needed_by` are the distributions that depend on it, also indirectly.
        """
        if name in self.from_source:
            return True
        allowed = {*self.resolution.allow_source_list}
        listed = self.resolution.allow_source_all or allowed.intersection({name, *needed_by})
        return bool(listed) and name not in self.resolution.only_binary_list


@dataclass(frozen=True, slots=True)
class Setting:
    """A value of the spec, and its location there."""

    value: object
    place: str
    """Such as ``tool.stackbuild.shared.build.timeout``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What the index says about a layer for its users."""

    title: str | None = None
    """Its name for people."""
    description: str | None = None
    version: str | None = None
    """The project's own version of the layer; None means the version of its lock."""
    deprecated: str | None = None
    """Why new users should not choose it; None if it is not deprecated."""
    superseded_by: str | None = None
    """The layer to use instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """How a deployed layer is checked (`verify`); the published layer does not depend on it."""

    skip_modules: tuple[str, ...] = ()
    """Globs on the names of native modules that are not imported."""
    host_libraries: tuple[str, ...] = ()
    """Globs on shared libraries that the host must provide."""
    allow_paths: tuple[str, ...] = ()
    """Globs on paths of other machines that files may contain."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that are set while modules are imported."""
    time_limit: int = 60
    """The limit for importing one module, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer as the spec defines it, with all its references resolved by name."""

    name: str
    kind: LayerKind
    requirements: tuple[Requirement, ...]
    platforms: tuple[Platform, ...]
    """In the order of `Platform`; only platforms of all lower layers."""
    runtime: str
    """The runtime's name; for a runtime its own name."""
    frameworks: tuple[str, ...]
    """The frameworks below this layer, C3 linearised, nearest first."""
    versioned: bool = False
    linux_target: str | None = None
    """Such as ``glibc@2.28``; None means uv's default."""
    macosx_target: str | None = None
    """Such as ``12.0``; None means uv's default."""
    package_indexes: Mapping[NormalizedName, str] = field(default_factory=dict)
    """Distribution to index name, lower layers' merged in."""
    priority_indexes: tuple[str, ...] = ()
    dynlib_exclude: tuple[str, ...] = ()
    """Globs on the ends of paths: shared libraries that other distributions and the layers above
    do not use."""
    launch_module: Path | None = None
    """Absolute; a module or a package directory (applications only)."""
    support_modules: tuple[Path, ...] = ()
    copy_files: tuple[CopyFiles, ...] = ()
    """Overlays for every platform."""
    platform_copy_files: Mapping[Platform, tuple[CopyFiles, ...]] = field(default_factory=dict)
    runtime_settings: RuntimeSettings | None = None
    """Set for runtimes only."""
    policies: Mapping[Platform, Policy] = field(default_factory=dict)
    """Platforms without a policy of their own are not included."""
    registries: tuple[str, ...] = ()
    """Names of the indexes that serve only the distributions assigned to them
    (`registries.additional`)."""
    sibling_conflicts: SiblingConflicts = "error"
    settings: Settings = field(default_factory=dict)
    """The settings by the keys of the file, with their places: the source of the policies."""
    catalogue: Catalogue = Catalogue()
    checks: CheckSettings = CheckSettings()

    @property
    def venvstacks_name(self) -> str:
        """The name with the prefix of venvstacks: ``app-atls``."""
        return venvstacks_name(self.name, self.kind)

    @property
    def modules(self) -> tuple[Path, ...]:
        """The support modules, then the launch module."""
        return (*self.support_modules, *((self.launch_module,) if self.launch_module else ()))

    def policy(self, platform: Platform) -> Policy:
        """The effective policy for `platform`."""
        return self.policies.get(platform) or Policy()

    def requirements_on(self, platform: Platform) -> tuple[Requirement, ...]:
        """The requirements for `platform`: the general ones, then its own."""
        return (*self.requirements, *self.policy(platform).dependencies)

    @property
    def lower(self) -> tuple[str, ...]:
        """The layers below this one, nearest first, the runtime last."""
        return () if self.kind is LayerKind.RUNTIME else (*self.frameworks, self.runtime)

    def overlays(self, platform: Platform) -> tuple[CopyFiles, ...]:
        """The overlays for `platform`: the general ones, then its own."""
        return (*self.copy_files, *self.platform_copy_files.get(platform, ()))


LOCAL = "file:"
"""The beginning of the address of a project of the repository: ``file:services/orders``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Everything one `venvstacks.toml` defines."""

    path: Path
    """The absolute path of the spec file."""
    layers: Mapping[str, Layer]
    """By name; runtimes first, then frameworks, then applications, each in the
    order of the file, so that a layer comes after all those below it."""
    python_versions: Mapping[str, Version]
    """Runtime name to the exact version of CPython that it requires, such as 3.12.10."""
    platforms: tuple[Platform, ...]
    """The default platforms of commands."""
    frames: FrameSettings
    indexes: tuple[PackageIndex, ...] = ()
    index_platforms: Mapping[str, tuple[Platform, ...]] = field(default_factory=dict)
    """Name of an index to the platforms that it serves; the others serve all platforms."""
    uv_settings: Mapping[str, object] = field(default_factory=dict)
    """Other settings of `[tool.uv]` that change a resolution (`exclude-newer`, …)."""
    sources: Mapping[NormalizedName, str] = field(default_factory=dict)
    """Distribution to the address of the project in `[tool.uv.sources]` that it is built from."""
    local_wheels: tuple[str, ...] = ()
    """Directories, relative to the project, whose wheels are candidates beside the indexes."""
    without_effect: tuple[str, ...] = ()
    """The places of settings that stackbuild accepts and does not need."""
    warnings: tuple[str, ...] = ()
    """Remarks on fields that the maintainer should change."""

    @property
    def directory(self) -> Path:
        """The project: the directory of the spec file."""
        return self.path.parent

    def python_version(self, layer: Layer) -> Version:
        """The exact version of CPython that `layer` runs on."""
        return self.python_versions[layer.runtime]

    def chain(self, layer: Layer) -> tuple[Layer, ...]:
        """`layer`, its frameworks in linearised order, its runtime."""
        return (layer, *(self.layers[name] for name in layer.lower))

    def requirements_for(self, layer: Layer, platform: Platform) -> tuple[Requirement, ...]:
        """The requirements of `layer` whose environment markers are true on `platform`."""
        seen = marker_environment(platform, str(self.python_version(layer)))
        return tuple(
            requirement
            for requirement in layer.requirements_on(platform)
            if requirement.marker is None or requirement.marker.evaluate(dict(seen))
        )

    def pairs(self) -> Iterator[tuple[Layer, Platform]]:
        """Every layer with each of its platforms, lower layers first."""
        for layer in self.layers.values():
            for platform in layer.platforms:
                yield layer, platform
