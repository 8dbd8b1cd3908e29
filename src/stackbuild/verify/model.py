"""Rules for a check of deployed layers, and its results."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from stackbuild.tomltext import inline, layer_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackbuild.lock.model import LeftOut

Check = Literal["import", "record", "requirement", "path", "library", "layer", "module", "bytecode"]
ImportResult = Literal["imported", "error", "crash", "hang"]

TIME_LIMIT = 60.0
"""Time limit in seconds for importing a module or one of its parent packages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Rules of the spec for checking a layer on a platform."""

    allow_import_errors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By glob on a wheel's file name and glob on a module's name, a part of the expected error;
    case does not matter."""
    places: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """The place of each entry of `allow_import_errors`, by wheel and module."""
    skip_modules: tuple[str, ...] = ()
    """Globs on the names of modules that are not imported, beside `deployed.LEFT_OUT`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that are set while modules are imported (`server.import_environment`)."""
    host_libraries: tuple[str, ...] = ()
    """Globs on shared libraries that the host is expected to have."""
    allow_paths: tuple[str, ...] = ()
    """Globs on paths of other machines that files may contain."""
    time_limit: float = TIME_LIMIT
    """Time limit in seconds for importing a module; the longest in a chain applies."""
    no_deps: tuple[str, ...] = ()
    """Distributions whose requirements are deliberately not checked."""
    overridden: tuple[str, ...] = ()
    """Distributions whose version need not match requirements."""
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The extras requested in the spec, by distribution."""
    exclude_files: tuple[str, ...] = ()
    """The patterns of files that the layer leaves out, of all distributions."""


class Excluded(NamedTuple):
    """A module or file that a pattern leaves out."""

    layer: str
    """The layer with the pattern."""
    path: str
    """In site-packages."""
    pattern: str

    def __str__(self) -> str:
        """A clause for messages."""
        return f"`exclude-files` of {self.layer} leaves out {self.path}: {self.pattern!r}"

    @property
    def remedy(self) -> str:
        """How to have the file in the layer."""
        kept = re.sub(r"__init__\.py$", "**", re.sub(r"\.(so|pyd)$", ".*", self.path))
        return (
            f"remove {inline(self.pattern)} from `exclude-files`, or add {inline(f'!{kept}')} to"
            f" that in {layer_table(self.layer)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of importing a module."""

    module: str
    result: ImportResult
    at: str
    """The failing import: the module itself or a parent package."""
    text: str = ""
    """The error, empty for a successful import."""
    missing: tuple[str, ...] = ()
    """The modules and files that the error names, as paths in site-packages; modules without
    their extensions."""
    excluded: Excluded | None = None
    """Which pattern of `exclude-files` leaves one of them out, if one does."""
    output: str = ""
    """The end of the output of a process that crashed or hung."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem of a deployed layer."""

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
    """Further lines: the output of a module before it crashed."""
    remedy: str | None = None
    """What to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownError:
    """A module that cannot be imported, and is no finding."""

    layer: str
    distribution: str
    module: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleEntry:
    """An entry of `allow-import-errors` that no failure needs."""

    place: str
    """The place in the spec."""
    wheel: str
    module: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The amount of checked items."""

    distributions: int = 0
    files: int = 0
    """Files read for RECORD, build paths and libraries."""
    binaries: int = 0
    """Programs and shared libraries whose needs were checked."""
    modules: int = 0
    """Native modules that were imported, with or without success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """The result of a check of deployed layers."""

    layers: tuple[str, ...]
    """The directories of the layers that were checked, lower layers first."""
    platform: str
    counts: Counts
    findings: tuple[Finding, ...]
    known: tuple[KnownError, ...]
    """Those that an entry of `allow-import-errors` expects, and those that import themselves."""
    unused: tuple[KnownError, ...]
    """Those that need what `exclude-files` leaves out, and that nothing needs."""
    stale: tuple[StaleEntry, ...]
    left_out: tuple[str, ...]
    """Native modules excluded by a pattern."""
    omitted: Mapping[str, tuple[LeftOut, ...]]
    """Layer to its optional requirements that were not available."""
    entries: str
    """TOML for the spec that allows the import failures, or empty."""
    not_imported: str
    """The reason if no module was imported."""
    seconds: float
