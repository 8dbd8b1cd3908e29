"""Environment variables of layers: their names, their values, and how a chain combines them.

A value in the spec may contain the placeholders ``{layer}`` and ``{runtime}``. In a published layer
both are relative to the directory that contains the layers: ``{root}/atls/lib``. So a layer can be
moved. ``{{`` and ``}}`` are braces, as in `str.format`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild.reading import Item, did_you_mean, redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from stackbuild.reading import Readers

MARKER = "STACKBUILD_LAYER"
"""Names the layer whose variables are set already, so that child processes do not add to them."""

PLACES = ("layer", "runtime")
"""The placeholders of the spec."""

LONGEST = {"linux": (128 << 10) - 1, "windows": (32 << 10) - 2}
"""Of a variable with its name and ``=``, by operating system: MAX_ARG_STRLEN of Linux, which counts
the end too, and the limit of SetEnvironmentVariable. macOS only limits all variables together."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PUBLISHED = re.compile(r"(?:[^{}\x00-\x1f\x7f]|\{\{|\}\}|\{root\})*")
_BRACES = re.compile(r"\{\{|\}\}|\{(\w*)\}|[{}]")
_OF_PYTHON = (
    *("PYTHONHOME", "PYTHONPATH", "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE", "VIRTUAL_ENV"),
    MARKER,
)
"""Variables by which an interpreter finds its layer."""
_OF_SHELLS = (
    *("_", "UID", "EUID", "PPID", "IFS", "SHELLOPTS", "BASHOPTS", "BASH_VERSINFO", "OPTIND"),
    *("PWD", "OLDPWD", "SHLVL", "LINENO", "RANDOM", "SECONDS"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """What a layer does to a variable: replace it, or add entries to it as to a search path."""

    value: str | None = None
    """None keeps the value that the variable has."""
    prepend: tuple[str, ...] = ()
    append: tuple[str, ...] = ()

    def over(self, lower: Variable) -> Variable:
        """This variable of a layer on top of `lower`, the one of the layers below."""
        if self.value is not None:
            return self
        return Variable(
            value=lower.value,
            prepend=(*self.prepend, *lower.prepend),
            append=(*lower.append, *self.append),
        )

    def __str__(self) -> str:
        """``= ABI``, or ``prepend /opt/lib; append /usr/lib``."""
        parts = [] if self.value is None else [f"= {self.value}"]
        for word, entries in (("prepend", self.prepend), ("append", self.append)):
            parts += [f"{word} {', '.join(entries)}"] if entries else []
        return "; ".join(parts)

    def on(self, present: str, separator: str) -> str:
        """Its value where the variable has the value `present`, which is empty if it is not set."""
        middle = present if self.value is None else self.value
        return separator.join((*self.prepend, *([middle] if middle else []), *self.append))


def as_variable(item: Item[str]) -> str:
    """The name of an environment variable."""
    if not _NAME.fullmatch(item.value):
        raise item.error("not the name of an environment variable")
    return item.value


def as_layer_variable(item: Item[str]) -> str:
    """The name of a variable that a layer may set."""
    name = as_variable(item)
    if name.upper() in _OF_PYTHON or name.startswith("__"):
        raise item.error("reserved: the interpreter finds the layer by such variables")
    if name in _OF_SHELLS:
        raise item.error("reserved: shells set this variable themselves")
    return name


def as_value(item: Item[str], places: Collection[str]) -> str:
    """A value in the spec with the placeholders `places`; it may be empty."""
    text = item.line() if item.value else ""
    if redacted(text) != text:
        raise item.error("a user or password in an address; it would be published")
    if not text.isprintable():
        raise item.error("contains a character that cannot be printed")
    for match in _BRACES.finditer(text):
        if len(match[0]) == 1:
            raise item.error(f"a single {match[0]}", f"{match[0] * 2} for a brace")
        if match[1] is not None and match[1] not in places:
            valid = [f"{{{place}}}" for place in places]
            expected = " or ".join((*valid, "{{ and }} for braces"))
            hint = did_you_mean(match[0], valid)
            raise item.error(f"unknown placeholder {match[0]}", expected, hint)
    return text


def case_clashes(names: Iterable[str]) -> list[tuple[str, str]]:
    """Each two of `names` that differ only in case."""
    seen: dict[str, str] = {}
    pairs = [(seen.setdefault(name.upper(), name), name) for name in names]
    return [(first, name) for first, name in pairs if first != name]


def merged(layers: Iterable[Mapping[str, Variable]]) -> dict[str, Variable]:
    """The variables of a chain, from those of each layer, the lowest first."""
    found: dict[str, Variable] = {}
    for variables in layers:
        for name, variable in variables.items():
            found[name] = variable.over(found[name]) if name in found else variable
    return dict(sorted(found.items()))


def in_root(variable: Variable, layer: str, runtime: str, separator: str) -> Variable:
    """`variable` of the spec relative to the directory that contains the directory `layer`."""
    words = {
        f"{{{place}}}": f"{{root}}{separator}{directory}"
        for place, directory in zip(PLACES, (layer, runtime), strict=True)
    }
    return _mapped(variable, lambda text: _filled(text, words))


def applied(
    variables: Mapping[str, Variable],
    environment: Mapping[str, str],
    separator: str = os.pathsep,
    **places: str,
) -> dict[str, str]:
    """`variables` as `environment` needs them, with `places` instead of their placeholders.

    `separator` is that of search paths.
    """
    return {
        name: _mapped(variable, lambda text: text.format(**places)).on(
            environment.get(name, ""), separator
        )
        for name, variable in variables.items()
    }


def to_set(
    variables: Mapping[str, Variable], environment: Mapping[str, str], layer: str
) -> dict[str, str]:
    """The published `variables` of the layer in the directory `layer`, as `environment` needs them.

    `layer` is absolute and without links. Empty if they are set already.
    """
    if not variables or environment.get(MARKER) == layer:
        return {}
    root = layer.rpartition(os.sep)[0]
    return {**applied(variables, environment, root=root), MARKER: layer}


def sh_script(variables: Mapping[str, Variable]) -> str:
    """A script for sh that sets the published `variables`.

    It is read by a script in the directory of programs of the layer, whose path is in ``__at``.
    """
    lines = [f"    export {name}={_for_sh(name, one)}\n" for name, one in variables.items()]
    return (
        "# Sets the environment variables of this layer. Its console scripts read this file.\n"
        '__layer=$(cd -P -- "${__at%/*}/.." && pwd -P)\n'
        f'if [ "${{{MARKER}-}}" != "$__layer" ]; then\n'
        "    __root=${__layer%/*}\n"
        f"{''.join(lines)}"
        f'    export {MARKER}="$__layer"\n'
        "fi\n"
    )


def _for_sh(name: str, variable: Variable) -> str:
    """The value as one word, in which the shell replaces the root and the present value."""
    words = {"{root}": "'\"$__root\"'", "{{": "{", "}}": "}"}
    quoted = _mapped(variable, lambda text: _filled("'" + text.replace("'", "'\\''") + "'", words))
    if quoted.value is not None:
        return quoted.on("", ":")
    before, after = (":".join(entries) for entries in (quoted.prepend, quoted.append))
    if not before:
        return f'"${{{name}:+${name}:}}"{after}'
    return f'{before}"${{{name}:+:${name}}}"' + (f":{after}" if after else "")


def _mapped(variable: Variable, change: Callable[[str], str]) -> Variable:
    return Variable(
        value=None if variable.value is None else change(variable.value),
        prepend=tuple(map(change, variable.prepend)),
        append=tuple(map(change, variable.append)),
    )


def _filled(text: str, words: Mapping[str, str]) -> str:
    return _BRACES.sub(lambda match: words.get(match[0], match[0]), text)


def read_variables(item: Item[object]) -> dict[str, Variable]:
    """The variables in a manifest. Raises ReadError."""
    return {as_layer_variable(name): one.record(Variable, _VARIABLE) for name, one in item.pairs()}


def _published(item: Item[object]) -> str:
    text = item.string()
    if not _PUBLISHED.fullmatch(text):
        raise item.error(
            "is no value of a variable", "one line, with {root} as its only placeholder"
        )
    return text


_VARIABLE: Readers = {
    "value": lambda item: item.optional(_published),
    "prepend": lambda item: item.tuple_of(_published),
    "append": lambda item: item.tuple_of(_published),
}
"""How a `Variable` is read from JSON."""
