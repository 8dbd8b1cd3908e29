"""What a check of deployed layers is told, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Check = Literal["import", "record", "requirement", "path", "library"]
ImportResult = Literal["imported", "error", "crash", "hang"]

TIME_LIMIT = 60.0
"""Seconds that importing one module, or one of its parent packages, may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the spec says about checking one layer on one platform."""

    allow_import_errors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Glob on a wheel's file name, to glob on a module's name, to a part of the error that
    importing it may raise; no part matters in case."""
    places: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Wheel and module of an entry of `allow_import_errors` to where the entry stands."""
    skip_modules: tuple[str, ...] = ()
    """Globs on the names of modules that are not imported, beside `deployed.LEFT_OUT`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that are set while modules are imported (`server.import_environment`)."""
    host_libraries: tuple[str, ...] = ()
    """Globs on shared libraries that the host is expected to have."""
    time_limit: float = TIME_LIMIT
    """Seconds for importing one module; of a chain, the longest counts."""
    no_deps: tuple[str, ...] = ()
    """Distributions whose own requirements are left open on purpose."""
    overridden: tuple[str, ...] = ()
    """Distributions that are there in a version nobody has to agree with."""
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Distributions to the extras that the spec asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of importing one module."""

    module: str
    result: ImportResult
    at: str
    """What was imported when it failed: the module itself or a parent package."""
    text: str = ""
    """The error in a line or more, empty for an import that went well."""
    output: str = ""
    """The end of what the process had printed when it crashed or hung."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong with a deployed layer."""

    check: Check
    layer: str
    message: str
    distribution: str | None = None
    file: str | None = None
    """Relative to the layer."""
    module: str | None = None
    expected: str | None = None
    found: str | None = None
    detail: str = ""
    """More lines: what a module printed before it crashed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownError:
    """A module that failed as an entry of `allow-import-errors` says it may."""

    layer: str
    distribution: str
    module: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleEntry:
    """An entry of `allow-import-errors` that no failure needs any more."""

    place: str
    """Where it stands in the spec."""
    wheel: str
    module: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much was looked at."""

    distributions: int = 0
    files: int = 0
    """Files read for RECORD, build paths and libraries."""
    binaries: int = 0
    """Programs and shared libraries whose needs were looked up."""
    modules: int = 0
    """Native modules that were imported, well or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a check of deployed layers has found."""

    layers: tuple[str, ...]
    """The directories of the layers that were checked, lower layers first."""
    platform: str
    counts: Counts
    findings: tuple[Finding, ...]
    known: tuple[KnownError, ...]
    stale: tuple[StaleEntry, ...]
    left_out: tuple[str, ...]
    """Native modules that a pattern has left out."""
    entries: str
    """TOML for the spec that would allow the import failures found, or nothing."""
    not_imported: str
    """Why no module was imported, if none was."""
    seconds: float
