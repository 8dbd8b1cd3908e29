"""Find modules that patterns of `exclude-files` leave out, although others import them.

Python files are searched for imports, since only native modules are imported. Only the statements
that run whenever a module is imported count: those that are not inside of another statement.
"""

from __future__ import annotations

import ast
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.files import read_regular
from stackbuild.frames.model import FrameKind
from stackbuild.globs import expanded, first_match, is_kept
from stackbuild.tomltext import inline, layer_table
from stackbuild.verify.deployed import NOT_CHECKED, is_left_out
from stackbuild.verify.model import Excluded, Finding, Rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from stackbuild.verify.deployed import DeployedLayer, RecordEntry

_ENDS = (".py", "/__init__.py", ".so", ".pyd")
_SHOWN = 5
_NATIVE = (".so", ".pyd")
_STANDARD = {*sys.stdlib_module_names, "test"}
"""`test` of the standard library is not in that list."""
_NOT_IMPORTED = (*NOT_CHECKED, "conftest", "*.conftest")


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


class _Import(NamedTuple):
    module: str
    file: str
    line: int


def check_excluded(
    layer: DeployedLayer,
    chain: Sequence[DeployedLayer],
    rules: Mapping[str, Rules],
    skip_modules: Sequence[str],
) -> Iterator[Finding]:
    """A finding for each module that is left out of `chain` and that modules of `layer` import.

    Imports in modules for tests, and in those that match `skip_modules`, do not count.
    """
    names = [one.manifest.layer for one in chain]
    patterns = [p for name in names for p in rules.get(name, Rules()).exclude_files]
    wanted = _search(patterns)
    if wanted is None:
        return
    there = _Modules(chain)
    site = f"{layer.layout.site_packages}/"
    found: dict[Excluded, list[_Import]] = {}
    for file in sorted(layer.kinds):
        is_python = file.startswith(site) and file.endswith(".py")
        if not is_python or layer.kinds[file] is not FrameKind.DISTRIBUTION:
            continue
        module = _without_init(file.removeprefix(site).removesuffix(".py")).replace("/", ".")
        if is_left_out(module, (*_NOT_IMPORTED, *skip_modules)):
            continue
        data = b""
        with suppress(OSError):  # The check of RECORD reports it.
            data = read_regular(layer.directory / file)
        if not wanted.search(data):
            continue
        package = module if file.endswith("/__init__.py") else module.rpartition(".")[0]
        for path, line in there.missing(data, package):
            top = path.partition("/")[0]
            one = find_excluded(path, names, rules)
            # A glob such as `**/tests/**` does not tell whether there was another `tests`.
            if one and ("/" in path or one.pattern.startswith(top)):
                found.setdefault(one, []).append(_Import(module, file, line))
    for one, imports in found.items():
        first, modules = imports[0], list(dict.fromkeys(item.module for item in imports))
        named = ", ".join(map(inline, modules[:_SHOWN])) + " and so on" * (len(modules) > _SHOWN)
        count = len(modules) - 1
        more = f", and {count} more module{'s do' if count > 1 else ' does'}" if count else ""
        distribution = next((d for d in layer.distributions if _has(d.record, first.file)), None)
        yield Finding(
            check="module",
            layer=layer.manifest.layer,
            distribution=None if distribution is None else str(distribution),
            file=first.file,
            message=f"line {first.line} imports a module that is left out{more}; {one}",
            remedy=f"{one.remedy}; if nothing uses the modules that import it, add {named} to"
            f" `skip-modules` in {layer_table(layer.manifest.layer, 'verify')}",
        )


def _has(record: Iterable[RecordEntry] | None, file: str) -> bool:
    return any(entry.path == file for entry in record or ())


def _search(patterns: Iterable[str]) -> re.Pattern[bytes] | None:
    """Matches imports that may name a module that `patterns` leave out; None if there are none."""
    words: set[str] = set()
    for glob in expanded(pattern for pattern in patterns if not is_kept(pattern)):
        *directories, last = glob.split("/")
        stem = last.partition(".")[0]
        if "." in last and not any(re.search(r"[*?\]]$", last) or last.endswith(e) for e in _ENDS):
            continue  # no modules
        parts = [*directories, *([] if stem in ("*", "**", "__init__") else [stem])]
        literal = [re.sub(r"[*?\[].*", "", part) for part in parts]
        ends = ["" if short != part else r"\b" for short, part in zip(literal, parts, strict=True)]
        named = [re.escape(short) + end for short, end in zip(literal, ends, strict=True) if short]
        words.add(named[-1] if named else "")
    if not words:
        return None
    # The rest of the statement: a logical line, and what is in parentheses.
    start = r"^(?:from|import)\b(?:[^\n(\\]|\\\r?\n)*(?:\([^)]*)?\b"
    return re.compile(f"{start}(?:{'|'.join(sorted(words))})".encode(), re.MULTILINE)


def _without_init(path: str) -> str:
    return path.removesuffix("/__init__")


class _Modules:
    """The modules of a chain of layers."""

    def __init__(self, chain: Sequence[DeployedLayer]) -> None:
        self._files: dict[str, Path] = {}
        """By path without extension; that of a directory is not in it."""
        for layer in reversed(chain):
            site = f"{layer.layout.site_packages}/"
            for file in (*layer.kinds, *layer.links):
                if file.startswith(site) and file.endswith((".py", ".pyc", *_NATIVE)):
                    directory, slash, name = file.removeprefix(site).rpartition("/")
                    path = _without_init(f"{directory}{slash}{name.partition('.')[0]}")
                    self._files[path] = layer.directory / file
        self._all = set(self._files)
        for path in self._files:
            while (path := path.rpartition("/")[0]) and path not in self._all:
                self._all.add(path)
        self._bound: dict[str, frozenset[str] | None] = {}

    def missing(self, data: bytes, package: str) -> Iterator[tuple[str, int]]:
        """The path and the line of each module that the Python file `data` imports in vain."""
        try:
            statements = ast.parse(data).body
        except (SyntaxError, ValueError):
            return
        for one in statements:
            if isinstance(one, ast.Import):
                named = [alias.name.replace(".", "/") for alias in one.names]
                paths = [path for name in named if (path := self._first_missing(name))]
            elif isinstance(one, ast.ImportFrom):
                paths = self._from(one, package)
            else:
                continue
            yield from ((path, one.lineno) for path in paths)

    def _from(self, one: ast.ImportFrom, package: str) -> list[str]:
        above = package.split(".") if one.level else []
        parts = [*above[: len(above) + 1 - one.level], *(one.module or "").split(".")]
        base = "/".join(filter(None, parts))
        if path := self._first_missing(base):
            return [path]
        if base.partition("/")[0] in _STANDARD or not self._is_package(base):
            return []
        bound = self._bound_in(base)
        names = [alias.name for alias in one.names if alias.name != "*"]
        return [
            f"{base}/{name}"
            for name in names
            if bound is not None and name not in bound and f"{base}/{name}" not in self._all
        ]

    def _first_missing(self, path: str) -> str | None:
        parts = path.split("/")
        if parts[0] in _STANDARD:
            return None
        paths = ("/".join(parts[: end + 1]) for end in range(len(parts)))
        return next((one for one in paths if one and one not in self._all), None)

    def _is_package(self, path: str) -> bool:
        file = self._files.get(path)
        return file is None or file.name == "__init__.py"

    def _bound_in(self, path: str) -> frozenset[str] | None:
        """The names that the package at `path` defines itself; None if that is unknown."""
        if path not in self._bound:
            self._bound[path] = frozenset()
            if file := self._files.get(path):
                try:
                    self._bound[path] = _bound(ast.parse(read_regular(file)), path)
                except (OSError, SyntaxError, ValueError):
                    self._bound[path] = None
        return self._bound[path]


def _bound(tree: ast.Module, path: str) -> frozenset[str] | None:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            # `from . import name` in the package itself needs the module.
            if any(alias.name == "*" for alias in node.names):
                return None
            own = node.level == 1 and not node.module
            own |= node.module == path.replace("/", ".") and not node.level
            found |= {alias.asname or alias.name for alias in node.names} if not own else set()
        elif isinstance(node, ast.Import):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
    return frozenset(found)
