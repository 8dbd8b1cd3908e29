"""Remove the paths of a build from the text files of a CPython."""

from __future__ import annotations

import ast
import pprint
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError
from stackbuild.scripts import header

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stackbuild.platforms import OsName
    from stackbuild.runtimes.contents import Entry

INSTALLED = "/install"
"""Placeholder for the prefix, as in python-build-standalone."""
BUILT = "/build"
"""Placeholder for the directory in which CPython was compiled."""

# Source builds take these names from sysconfig. They run on other machines, which may lack the
# compiler that built Python.
_COMPILERS = {
    "CC": "cc",
    "MAINCC": "cc",
    "LDSHARED": "cc",
    "BLDSHARED": "cc",
    "CPP": "cc",
    "CXX": "c++",
    "LDCXXSHARED": "c++",
    "AR": "ar",
}
# Paths of the host, also if the prefix is /usr. zoneinfo reads the first.
_OF_THE_HOST = frozenset(
    {
        *("TZPATH", "DTRACE", "INSTALL", "INSTALL_DATA", "INSTALL_PROGRAM", "INSTALL_SCRIPT"),
        "INSTALL_SHARED",
    }
)
_GNU = {"cc": "gcc", "c++": "g++", "ar": "ar"}
_TEXTS = re.compile(
    r"lib/python[^/]+/(_sysconfigdata\w*[^/]*\.py|_sysconfig_vars[^/]*\.json|build-details\.json"
    r"|config-[^/]+/(Makefile|python-config\.py))"
    r"|lib/pkgconfig/[^/]+\.pc"
    r"|bin/python[\d.]+-config"
)
_MAKE_VARIABLE = re.compile(r"^(\w+)(=[ \t]*)(\S.*)$", re.MULTILINE)


def relocate_texts(
    entries: dict[str, Entry], minor: str, prefixes: Iterable[str], os: OsName
) -> dict[str, Entry]:
    """The entries, with `prefixes` removed from text files and scripts."""
    written = set(prefixes)
    builds: set[str] = set()
    for path, entry in entries.items():
        if "/_sysconfigdata" in path and entry.link is None:
            variables = _variables(entry.read(), path)
            written |= _paths(variables, "prefix", "exec_prefix")
            builds |= _paths(variables, "abs_builddir", "abs_srcdir", "srcdir")
    replaced = _Replacements(written, builds, os)
    changed = dict(entries)
    for path, entry in entries.items():
        if entry.link is None and _TEXTS.fullmatch(path):
            changed[path] = replace(entry, source=None, data=replaced.file(path, entry.read()))
        elif entry.link is None and path.startswith("bin/"):
            data = with_header(entry.read(), minor)
            if data is not None:
                changed[path] = replace(entry, source=None, data=data)
    return changed


def with_header(script: bytes, minor: str) -> bytes | None:
    """A Python script with a header that finds the interpreter beside it; None for other files."""
    line, _, body = script.partition(b"\n")
    if not line.startswith(b"#!") or b"python" not in line:
        return None
    return header(f"python{minor}") + body


def _paths(variables: dict[str, object], *names: str) -> set[str]:
    found = {str(variables.get(name, "")) for name in names}
    return {path.rstrip("/") for path in found if path.startswith("/") and path != "/"}


def _variables(data: bytes, path: str) -> dict[str, object]:
    """The dictionary in a `_sysconfigdata` module (see CPython's sysconfig module)."""
    try:
        for statement in ast.parse(data).body:
            if isinstance(statement, ast.Assign):
                found = ast.literal_eval(statement.value)
                if isinstance(found, dict):
                    return found
    except (SyntaxError, ValueError):
        pass
    raise ComposeError(
        "the interpreter cannot be packed: its build settings are not readable", file=path
    )


class _Replacements:
    """Replaces the paths of the build and the names of its compilers in texts."""

    def __init__(self, prefixes: set[str], builds: set[str], os: OsName) -> None:
        self._names = _GNU if os == "linux" else {name: name for name in ("cc", "c++", "ar")}
        # Longest first, because one path may begin another. The last group avoids matching
        # directories whose names only begin with a prefix.
        self._paths = [
            (re.compile(rf"{re.escape(path)}(?=[/\s'\":;,)}}\\]|$)", re.MULTILINE), placeholder)
            for path, placeholder in sorted(
                [(path, BUILT) for path in builds] + [(path, INSTALLED) for path in prefixes],
                key=lambda pair: -len(pair[0]),
            )
        ]
        inside = "|".join(re.escape(path) for path in sorted(prefixes, reverse=True))
        self._search = re.compile(rf"-Wl,-rpath[,=]({inside})[^\s'\",]* ?") if inside else None

    def file(self, path: str, data: bytes) -> bytes:
        if "/_sysconfigdata" in path:
            return self._sysconfigdata(_variables(data, path))
        text = self.text(data.decode("utf-8", "surrogateescape"))
        if path.endswith("/Makefile"):
            text = _MAKE_VARIABLE.sub(
                lambda match: match[1] + match[2] + self._compiler(match[1], match[3]), text
            )
        return text.encode("utf-8", "surrogateescape")

    def text(self, text: str) -> str:
        if self._search is not None:
            # Later builds must not search for libraries in Python's original prefix.
            text = self._search.sub("", text)
        for pattern, placeholder in self._paths:
            text = pattern.sub(placeholder, text)
        return text

    def _sysconfigdata(self, variables: dict[str, object]) -> bytes:
        changed = {
            name: self._compiler(name, self.text(value))
            if isinstance(value, str) and name not in _OF_THE_HOST
            else value
            for name, value in variables.items()
        }
        body = pprint.pformat(changed)
        return (
            f"# Build settings, read by the sysconfig module.\nbuild_time_vars = {body}\n".encode()
        )

    def _compiler(self, variable: str, command: str) -> str:
        """`command` with a generic compiler name instead of the one that was used."""
        if variable not in _COMPILERS or not command or "$" in command:
            return command
        words = command.split()
        flags = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
        return " ".join([self._names[_COMPILERS[variable]], *words[flags:]])
