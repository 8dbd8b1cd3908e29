"""Find modules that patterns of `exclude-files` leave out, although others import them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.globs import expanded, first_match, is_kept
from stackbuild.tomltext import inline, layer_table
from stackbuild.verify.layer_check import entry_points
from stackbuild.verify.model import Excluded, Finding, KnownError, Rules
from stackbuild.verify.static_imports import (
    Modules,
    PythonFile,
    content,
    import_search,
    imported,
    python_files,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from stackbuild.verify.deployed import DeployedLayer

_ENDS = (".py", "/__init__.py", ".so", ".pyd")
_SHOWN = 5


def find_excluded(path: str, chain: Iterable[str], rules: Mapping[str, Rules]) -> Excluded | None:
    """What leaves out the file `path`, or the module, in the layers `chain`; None if nothing."""
    is_file = "." in path.rpartition("/")[2]
    ends = ("", *_ENDS) if is_file else (*_ENDS, "")
    for layer in chain:
        patterns = rules.get(layer, Rules()).exclude_files
        for end in ends:
            if patterns and (pattern := first_match(f"{path}{end}", patterns)):
                return Excluded(layer, f"{path}{end}", pattern)
    return None


class Importer(NamedTuple):
    """A file that imports a module that a pattern leaves out."""

    file: PythonFile
    line: int
    excluded: Excluded

    @property
    def distribution(self) -> str | None:
        """The distribution that the file is of."""
        for one in self.file.layer.distributions:
            if any(entry.path == self.file.path for entry in one.record or ()):
                return str(one)
        return None

    @property
    def unused(self) -> KnownError:
        """Its entry in the report, if no module needs it."""
        return KnownError(
            layer=self.file.layer.manifest.layer,
            distribution=self.distribution or "",
            module=self.file.module,
            text=str(self.excluded),
        )


def find_importers(
    layer: DeployedLayer,
    chain: Sequence[DeployedLayer],
    rules: Mapping[str, Rules],
    skip_modules: Sequence[str],
) -> Iterator[Importer]:
    """The files of `layer` that import a module that is left out of `chain`.

    Those for tests, and those that match `skip_modules`, do not count.
    """
    names = [one.manifest.layer for one in chain]
    wanted = possible_imports(p for name in names for p in rules.get(name, Rules()).exclude_files)
    if wanted is None:
        return
    there, every = Modules(chain), import_search([""])
    for file in python_files(layer, skip_modules):
        # Relative imports do not name the package.
        search = every if wanted.search(f"import {file.package}".encode()) else wanted
        for path, line in there.missing(content(file, search), file.package):
            one = find_excluded(path, names, rules)
            # A glob such as `**/tests/**` does not tell whether there was another `tests`.
            if one and ("/" in path or one.pattern.startswith(path)):
                yield Importer(file, line, one)


def needed(
    failing: Collection[str], layers: Iterable[DeployedLayer], skip_modules: Sequence[str]
) -> set[str]:
    """Those of `failing` that users of `layers` need, by the names of modules.

    These are top-level modules, those with entry points, those of the project, and those that a
    module imports that does not fail or is needed itself. A module imports the packages it is in.
    """
    if not failing:
        return set()
    users: dict[str, set[str]] = {module: set() for module in failing}
    found = {module for module in failing if "." not in module}
    wanted = import_search(rf"{re.escape(name.rpartition('.')[2])}\b" for name in failing)
    for layer in layers:
        for one in layer.distributions:
            found |= {place.partition(":")[0].strip() for _, place in entry_points(layer, one)}
        for file in python_files(layer, skip_modules):
            names = imported(content(file, wanted), file.package)
            parts = file.module.split(".")
            names |= {".".join(parts[:end]) for end in range(1, len(parts))}
            for module in users.keys() & names:
                users[module].add(file.module)
            if file.is_own:
                found.add(file.module)
    found |= {module for module, by in users.items() if by - users.keys()}
    while more := {module for module, by in users.items() if by & found} - found:
        found |= more
    return found & users.keys()


def as_findings(importers: Iterable[Importer]) -> Iterator[Finding]:
    """A finding for each module that is left out, by the layers that import it."""
    found: dict[tuple[str, Excluded], list[Importer]] = {}
    for one in importers:
        found.setdefault((one.file.layer.manifest.layer, one.excluded), []).append(one)
    for (layer, excluded), users in found.items():
        first, modules = users[0], list(dict.fromkeys(user.file.module for user in users))
        named = ", ".join(map(inline, modules[:_SHOWN])) + " and so on" * (len(modules) > _SHOWN)
        count = len(modules) - 1
        more = f", and {count} more module{'s do' if count > 1 else ' does'}" if count else ""
        yield Finding(
            check="module",
            layer=layer,
            distribution=first.distribution,
            file=first.file.path,
            message=f"line {first.line} imports a module that is left out{more}; {excluded}",
            remedy=f"{excluded.remedy}; if nothing uses the modules that import it, add {named} to"
            f" `skip-modules` in {layer_table(layer, 'verify')}",
        )


def possible_imports(patterns: Iterable[str]) -> re.Pattern[bytes] | None:
    """Matches imports that may name a module that `patterns` leave out; None if there are none.

    It only saves the time to parse the other files, so it may match too much.
    """
    words: set[str] = set()
    for glob in expanded(patterns):
        *directories, last = glob.split("/")
        tail = re.sub(r".*[*?\]]", "", last)
        of_modules = any(end.endswith(tail) or tail.endswith(end) for end in _ENDS)
        if not is_kept(glob) and (of_modules or "." not in last):
            parts = [*directories, last.partition(".")[0]]
            literal = [re.sub(r"[*?\[].*", "", part) for part in parts]
            # `d/__init__.py` and `d/_*` leave out `d`.
            named = [word for word in literal if not "__init__".startswith(word)]
            words.add(re.escape(named[-1]) if named else "")
    return import_search(words) if words else None
