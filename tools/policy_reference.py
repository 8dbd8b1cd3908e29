"""`make reference`: what the documentation says about policy fields, from their declaration.

Writes `docs/venvstacks.schema.json` and the table in `docs/file-formats.md`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackbuild.platforms import Platform
from stackbuild.spec.policy import SPECIFIC
from stackbuild.spec.policy_fields import POLICY_FIELDS
from stackbuild.spec.settings import (
    ArrayOrNamed,
    Either,
    Field,
    Group,
    Kind,
    Leaf,
    Named,
    by_platform,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stackbuild.spec.settings import Part

DOCS = Path(__file__).parent.parent / "docs"
SCHEMA = DOCS / "venvstacks.schema.json"
PAGE = DOCS / "file-formats.md"

_BEGIN = "<!-- made by `make reference` from src/stackbuild/spec/policy_fields.py -->"
_END = "<!-- end -->"
_HEADER = (
    f"| field | meaning | a shared value is | `{SPECIFIC}` | changes the lock |\n"
    "|---|---|---|---|---|\n"
)


def main() -> None:
    """Write both files."""
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def page(text: str) -> str:
    """The page `text` with the table as it is declared now."""
    table = f"{_BEGIN}\n{_HEADER}{''.join(_rows())}{_END}"
    marked = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
    (old,) = marked.findall(text)
    return text.replace(old, table)


def _rows() -> Iterator[str]:
    for field in POLICY_FIELDS:
        where = {(True, True): "too", (False, True): "only"}.get((field.general, field.specific))
        for path, meaning, merging, changes in _described(field, "", field.changes):
            lock = {None: "", "own": "if `versioned`"}.get(changes, "✓")
            yield f"| `{path}` | {meaning} | {merging} | {where or ''} | {lock} |\n"


def _described(
    field: Field, prefix: str, changes: Part | None
) -> Iterator[tuple[str, str, str, Part | None]]:
    path, kind = prefix + field.key, field.kind
    while isinstance(kind, Named):
        path, kind = f"{path}.{kind.word}", kind.of
    merging = kind.merging if isinstance(kind, Leaf | Either) else ""
    if field.meaning:
        yield path, field.meaning, merging, changes
    group = kind.table if isinstance(kind, Either) else kind
    for below in group.fields if isinstance(group, Group) else ():
        yield from _described(below, f"{path}.", below.changes or changes)


def schema_text() -> str:
    """The schema as the text of a file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """JSON Schema of the policy fields in a `venvstacks.toml`; it leaves the other keys open."""
    policy = {"$ref": "#/$defs/policy"}
    stackbuild = _object(
        {
            "shared": {**policy, "unevaluatedProperties": False},
            "layers": {"type": "object", "additionalProperties": policy},
        }
    )
    specific = _fields(field for field in POLICY_FIELDS if field.specific)
    general = _fields(field for field in POLICY_FIELDS if field.general)
    for_platforms = by_platform(Leaf(lambda *_: None, _object(specific, closed=True)))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Policy fields of stackbuild in a venvstacks.toml",
        **_object({"tool": _object({"stackbuild": stackbuild})}),
        "$defs": {"policy": _object({**general, SPECIFIC: _schema(for_platforms)})},
    }


def _object(properties: dict[str, Any], *, closed: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": properties}
    return {**found, "additionalProperties": False} if closed else found


def _fields(fields: Iterable[Field]) -> dict[str, Any]:
    return {field.key: _of_field(field) for field in fields}


def _of_field(field: Field) -> dict[str, Any]:
    found = _schema(field.kind)
    return {"description": field.meaning, **found} if field.meaning else found


def _schema(kind: Kind) -> dict[str, Any]:
    if isinstance(kind, Leaf):
        return dict(kind.schema)
    if isinstance(kind, Named):
        names = [name for one in Platform for name in (str(one), one.venvstacks_name)]
        keys = {"propertyNames": {"enum": names}} if kind.word == "<platform>" else {}
        table = {"type": "object", **keys, "additionalProperties": _schema(kind.of)}
        return {"anyOf": [_schema(kind.of), table]} if isinstance(kind, ArrayOrNamed) else table
    if isinstance(kind, Either):
        return {"anyOf": [_schema(kind.leaf), _schema(kind.table)]}
    required = [field.key for field in kind.fields if field.required]
    found = _object(_fields(kind.fields), closed=True)
    return {**found, "required": required} if required else found


if __name__ == "__main__":
    main()
