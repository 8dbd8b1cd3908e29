"""Which modules the files of deployed layers import, by their import statements.

Nothing is run. Only the statements that run whenever a module is imported count: those that are not
inside of another statement.
"""

from __future__ import annotations

import ast
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.files import read_regular
from stackbuild.frames.model import FrameKind
from stackbuild.verify.deployed import NOT_CHECKED, is_left_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from stackbuild.verify.deployed import DeployedLayer

_NATIVE = (".so", ".pyd")
_STANDARD = {*sys.stdlib_module_names, "test"}
"""`test` of the standard library is not in that list."""
_OWN = (FrameKind.OVERLAY, FrameKind.HEAD)
"""Launch and support modules are beside stackbuild's own files."""
_NOT_IMPORTED = (*NOT_CHECKED, "conftest", "*.conftest")


class PythonFile(NamedTuple):
    """A Python file of a layer."""

    layer: DeployedLayer
    path: str
    """Relative to the layer."""
    module: str
    """The full name of its module."""

    @property
    def package(self) -> str:
        """The package that relative imports in it begin at."""
        is_package = self.path.endswith("/__init__.py")
        return self.module if is_package else self.module.rpartition(".")[0]

    @property
    def is_own(self) -> bool:
        """Whether the project brings it: as an overlay, or a launch or support module."""
        return self.layer.kinds[self.path] in _OWN


def python_files(layer: DeployedLayer, skip_modules: Iterable[str]) -> Iterator[PythonFile]:
    """The modules of `layer`, and Python files of overlays elsewhere.

    Those for tests, and those that match `skip_modules`, are left out.
    """
    site = f"{layer.layout.site_packages}/"
    left_out = (*_NOT_IMPORTED, *skip_modules)
    for path, kind in sorted(layer.kinds.items()):
        is_module = path.startswith(site) and kind in (FrameKind.DISTRIBUTION, *_OWN)
        if path.endswith(".py") and (is_module or kind is FrameKind.OVERLAY):
            name = _without_init(path.removeprefix(site).removesuffix(".py")).replace("/", ".")
            if not is_left_out(name, left_out):
                yield PythonFile(layer, path, name)


def content(file: PythonFile, wanted: re.Pattern[bytes]) -> bytes:
    """What is in `file` if `wanted` matches in it, else nothing."""
    data = b""
    with suppress(OSError):  # The check of RECORD reports it.
        data = read_regular(file.layer.directory / file.path)
    return data if wanted.search(data) else b""


def import_search(words: Iterable[str]) -> re.Pattern[bytes]:
    """Matches import statements with a name that one of `words`, regular expressions, matches."""
    # The rest of the statement: a logical line, and what is in parentheses.
    start = r"^(?:from|import)\b(?:[^\n(\\]|\\\r?\n)*(?:\([^)]*)?\b"
    return re.compile(f"{start}(?:{'|'.join(sorted(words))})".encode(), re.MULTILINE)


def imported(data: bytes, package: str) -> set[str]:
    """The names that the Python file `data` in `package` imports: modules, and names in them."""
    found: set[str] = set()
    for one in _statements(data):
        if isinstance(one, ast.Import):
            found |= {alias.name for alias in one.names}
        else:
            base = _base(one, package).replace("/", ".")
            found |= {base, *(f"{base}.{alias.name}" for alias in one.names)}
    return found


def _statements(data: bytes) -> list[ast.Import | ast.ImportFrom]:
    try:
        statements = ast.parse(data).body
    except (SyntaxError, ValueError):
        return []
    return [one for one in statements if isinstance(one, ast.Import | ast.ImportFrom)]


def _base(one: ast.ImportFrom, package: str) -> str:
    """The path of the module that `one` imports from."""
    above = package.split(".") if one.level else []
    parts = [*above[: len(above) + 1 - one.level], *(one.module or "").split(".")]
    return "/".join(filter(None, parts))


def _without_init(path: str) -> str:
    return path.removesuffix("/__init__")


class Modules:
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
        for one in _statements(data):
            if isinstance(one, ast.Import):
                named = [alias.name.replace(".", "/") for alias in one.names]
                paths = [path for name in named if (path := self._first_missing(name))]
            else:
                paths = self._from(one, package)
            yield from ((path, one.lineno) for path in paths)

    def _from(self, one: ast.ImportFrom, package: str) -> list[str]:
        base = _base(one, package)
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
