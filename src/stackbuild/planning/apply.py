"""Writes suggested frameworks into a spec. Comments and formatting stay."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar, cast

import tomli

from stackbuild.errors import SpecError, UsageError
from stackbuild.files import atomic_write
from stackbuild.spec.reader import load_stack
from stackbuild.spec.writer import spec_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tomlkit.items import Comment, Item, Table, Whitespace

    from stackbuild.planning.model import SuggestedFramework, Suggestion
    from stackbuild.spec.model import Stack

T = TypeVar("T", bound="Item")

_APPLICATIONS = re.compile(r"^(?:[ \t]*#.*\n)*[ \t]*\[\[[ \t]*applications[ \t]*\]\]", re.MULTILINE)
"""The first table of an application, with the comment above it."""
_FRAMEWORK = re.compile(r"^[ \t]*\[\[[ \t]*frameworks[ \t]*\]\]", re.MULTILINE)
_DEPENDS_ON = ("runtime", "frameworks")
"""An application has one of these keys."""


def apply(stack: Stack, suggestion: Suggestion) -> bool:
    """Write the frameworks of `suggestion` into the spec of `stack`.

    Each framework requires exact versions. The applications keep their requirements, and depend on
    the new frameworks, which depend on what the applications depended on. The result is False if
    the suggestion saves nothing, so that the spec stays as it is. Raises UsageError if the spec
    cannot be changed without losing its formatting, or would have problems with the frameworks.
    """
    if sum(row.now for row in suggestion.table) <= sum(row.layers for row in suggestion.table):
        return False
    old = stack.path.read_bytes().decode()
    new = changed(old, suggestion, stack.path)
    try:
        load_stack(stack.path, tomli.loads(new))
    except SpecError as error:
        raise UsageError(
            "the spec would have problems with the suggested frameworks",
            file=stack.path,
            found="; ".join(map(str, error.problems)),
            remedy="add the frameworks that `stackbuild suggest` prints by hand",
        ) from None
    atomic_write(stack.path, new)
    return True


def changed(text: str, suggestion: Suggestion, path: Path) -> str:
    """The text of the spec at `path`, with the frameworks of `suggestion`.

    Raises UsageError as `apply` does.
    """
    import tomlkit

    chains = {
        name: list(suggestion.chain(name))
        for framework in suggestion.frameworks
        for name in framework.applications
    }
    tables = [_table(item) for item in suggestion.frameworks]
    settings = {item.name: _settings(item) for item in suggestion.frameworks}
    settings = {name: table for name, table in settings.items() if table}
    expected = _expected(tomli.loads(text), tables, settings, chains)
    document = tomlkit.parse(text)
    array = document["applications"]
    for place, table in enumerate(list(array)):
        if table["name"] in chains:
            array[place] = _on_frameworks(table, chains[table["name"]])
    found = tomlkit.dumps(document)
    ending = "\r\n" if "\r\n" in text else "\n"
    frameworks = spec_text({"frameworks": tables})
    match = _APPLICATIONS.search(found)
    # Frameworks come after those that they depend on.
    start = match.start() if match and not _FRAMEWORK.search(found, match.end()) else len(found)
    found = found[:start] + frameworks.replace("\n", ending) + ending + found[start:]
    below = spec_text({}, settings=settings).replace("\n", ending)
    found = f"{found.rstrip()}{ending}{ending}{below}" if below else found
    try:
        is_expected = tomli.loads(found) == expected
    except tomli.TOMLDecodeError:
        is_expected = False
    if not is_expected:
        raise UsageError(
            "the frameworks cannot be written into this spec",
            file=path,
            expected="[[frameworks]], [[applications]] and [tool.stackbuild.layers.<name>] as"
            " tables with headers",
            remedy="write them so, or add the frameworks by hand",
        )
    return found


def _table(framework: SuggestedFramework) -> dict[str, Any]:
    names = list(framework.depends_on)
    return {
        "name": framework.name,
        **({"frameworks": names} if names else {"runtime": framework.runtime}),
        **framework.fields,
        "requirements": list(framework.requirements()[None]),
    }


def _settings(framework: SuggestedFramework) -> dict[str, Any]:
    specific = {
        str(platform): {"dependencies": list(texts)}
        for platform, texts in framework.requirements().items()
        if platform
    }
    return {**framework.settings, **({"platform-specific": specific} if specific else {})}


def _on_frameworks(table: Table, names: list[str]) -> Table:
    """A copy of `table` with `frameworks = names` in the place of what it depends on."""
    import tomlkit

    found = tomlkit.table()
    for key, item in table.value.body:
        if key is None:
            found.add(cast("Whitespace | Comment", item))
        elif key.key in _DEPENDS_ON:
            found.append("frameworks", _with_trivia(tomlkit.item(names), item))
        else:
            found.append(key, item)
    return _with_trivia(found, table)


def _with_trivia(item: T, other: Item) -> T:
    """`item` with the indentation, the comment and the line ending of `other`."""
    for key in ("indent", "comment_ws", "comment", "trail"):
        setattr(item.trivia, key, getattr(other.trivia, key))
    return item


def _expected(
    data: Mapping[str, Any],
    tables: list[dict[str, Any]],
    settings: Mapping[str, Any],
    chains: Mapping[str, list[str]],
) -> dict[str, Any]:
    """The contents that the changed spec must have."""
    applications = [
        {key: value for key, value in table.items() if key not in _DEPENDS_ON}
        | {"frameworks": chains[table["name"]]}
        if table["name"] in chains
        else table
        for table in data["applications"]
    ]
    found = {
        **data,
        "applications": applications,
        "frameworks": [*data.get("frameworks", ()), *tables],
    }
    if settings:
        tool = dict(found.get("tool", {}))
        own = dict(tool.get("stackbuild", {}))
        own["layers"] = {**own.get("layers", {}), **settings}
        found["tool"] = {**tool, "stackbuild": own}
    return found
