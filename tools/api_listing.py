"""The public names of `stackbuild.api` with their signatures, as docs/api-listing.txt holds them.

`python -m tools.api_listing --write` brings that file up to date after a deliberate change.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackbuild import api
from stackbuild.api import Silent, StackbuildError, types
from stackbuild.api.locking import LockedProject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LISTING = Path(__file__).resolve().parents[1] / "docs" / "api-listing.txt"


def listing() -> str:
    """Every public name, a section for each module and an entry for each name."""
    lines: list[str] = []
    for module in (api, types):
        lines += [f"# {module.__name__}", ""]
        for name in module.__all__:
            lines += [*_entry(name, getattr(module, name)), ""]
    return "\n".join(lines)


def _entry(name: str, value: Any) -> Iterator[str]:
    if inspect.isfunction(value):
        yield f"def {name}{_signature(value)}"
    elif inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__ if not _is_private(base))
        yield f"class {name}({bases})" if bases else f"class {name}"
        yield from (f"    {line}" for line in _members(value))
    else:
        yield f"{name} = {value}".replace("typing.", "").replace("collections.abc.", "")


def _members(value: type) -> Iterator[str]:
    if issubclass(value, enum.Enum):
        yield from (f"{member.name} = {member.value!r}" for member in value)
        return
    if issubclass(value, StackbuildError):
        yield f"exit_code = {value.exit_code}"
        yield from (
            f"{attribute}: {kind}"
            for attribute, kind in inspect.get_annotations(value).items()
            if attribute != "exit_code"
        )
        return
    if dataclasses.is_dataclass(value):
        yield from map(_field, dataclasses.fields(value))
    inherited = {
        k: v for base in value.__bases__ if _is_private(base) for k, v in vars(base).items()
    }
    for attribute, member in {**inherited, **vars(value)}.items():
        if attribute.startswith("_"):
            continue
        if isinstance(member, property) and member.fget:
            yield f"{attribute}: {inspect.signature(member.fget).return_annotation}"
        elif isinstance(member, classmethod):
            yield f"classmethod {attribute}{_signature(member.__func__)}"
        elif inspect.isfunction(member):
            yield f"def {attribute}{_signature(member)}"


def _is_private(base: type) -> bool:
    """Whether `base` only divides a public class, so that its members are listed there."""
    return base is object or base is LockedProject


def _field(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f"{field.name}: {field.type} = {field.default_factory()!r}"
    default = "" if field.default is dataclasses.MISSING else f" = {_default(field.default)}"
    return f"{field.name}: {field.type}{default}"


def _signature(function: Callable[..., object]) -> str:
    signature = inspect.signature(function)
    words: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        kind = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
        default = parameter.default
        words.append(
            f"{parameter.name}{kind}"
            + ("" if default is parameter.empty else f" = {_default(default)}")
        )
    return f"({', '.join(words)}) -> {signature.return_annotation}"


def _default(value: object) -> str:
    """`value` as it is written in the source."""
    return "Silent()" if isinstance(value, Silent) else repr(value)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        LISTING.write_text(listing(), encoding="utf-8")
    else:
        sys.stdout.write(listing())
