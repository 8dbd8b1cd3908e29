"""The JSON files of an older repository. What the import does not read is noted."""

from __future__ import annotations

import codecs
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from stackbuild import strictjson
from stackbuild.errors import Problem
from stackbuild.files import read_regular, why
from stackbuild.importers.runenv.model import Note
from stackbuild.reading import shown
from stackbuild.spec.table import Problems, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class JsonTable(Table):
    """An object of a JSON file. A key that is not read becomes a note and not a problem."""

    def __init__(
        self, values: Mapping[str, object], place: str, problems: Problems, notes: list[Note]
    ) -> None:
        super().__init__(values, place, problems)
        self.notes = notes

    def _as_table(self, place: str, value: object) -> Table | None:
        if isinstance(value, dict):
            return JsonTable(value, place, self.problems, self.notes)
        self._wrong_type(place, "an object", value)
        return None

    def object(self, key: str) -> JsonTable | None:
        """The object at `key`, or None."""
        return cast("JsonTable | None", self.table(key))

    def part(self, key: str) -> JsonTable:
        """The object at `key`; an empty one if there is none."""
        return self.object(key) or JsonTable({}, self.place_of(key), self.problems, self.notes)

    def objects(self) -> Iterator[tuple[str, JsonTable]]:
        """All keys, whose values must be objects."""
        for key, entry in self.subtables():
            yield key, cast("JsonTable", entry)

    def pass_over(self, *keys: str) -> None:
        """Accept `keys` without reading them."""
        self._known.update(keys)

    def note(self, key: str, text: str) -> None:
        """Note that `key` is not converted, and why."""
        self._known.add(key)
        self.add_note("unknown", self.place_of(key), text)

    def add_note(self, kind: str, place: str, text: str) -> None:
        """Add a line to the report."""
        self.notes.append(Note(kind=kind, place=place, text=text))

    def done(self) -> None:
        """Note the keys that were not read."""
        for key, value in self.values.items():
            if key not in self._known:
                comment = key.startswith(("_", "//", "$"))
                self.note(key, f"{'a comment' if comment else 'an unknown key'}: {shown(value)}")


class JsonFiles:
    """The JSON files of one repository, with their problems and notes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.problems: list[Problem] = []
        self.notes: list[Note] = []
        self._open: list[tuple[str, JsonTable]] = []

    def read(self, *parts: str, required: bool = False) -> JsonTable | None:
        """The object in a file; None if there is no file, or it is damaged (a problem)."""
        name = "/".join(parts)
        doubled: list[str] = []
        reason = found = None
        try:
            data = read_regular(self.directory.joinpath(*parts), strictjson.MAX_SIZE + 1)
            # Editors on Windows may write a byte order mark.
            data = data.removeprefix(codecs.BOM_UTF8)
            value = strictjson.parse(data, "the file", doubled=doubled)
            if not isinstance(value, dict):
                reason, found = "not an object", shown(value)
        except FileNotFoundError:
            if not required:
                return None
            reason = "the file does not exist"
        except OSError as error:
            reason = f"the file {why(error)}"
        except strictjson.JsonError as error:
            reason = f"not JSON: {error.reason}"
        if reason:
            self.problems.append(Problem(place=name, message=reason, found=found))
            return None
        for key in doubled:
            text = f"{key!r} is written twice; the last value counts, as in the older project"
            self.notes.append(Note(kind="unknown", place=name, text=text))
        table = JsonTable(value, "", Problems(), [])
        self._open.append((name, table))
        return table

    def close(self) -> None:
        """Collect the problems and notes of all tables."""
        for name, table in self._open:
            self.problems += [
                replace(problem, place=f"{name}: {problem.place}")
                for problem in table.problems.found
            ]
            self.notes += [replace(note, place=f"{name}: {note.place}") for note in table.notes]
        self._open.clear()
