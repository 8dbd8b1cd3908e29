"""Typed values out of JSON files; what nobody asks for is noted, what is wrong is collected."""

from __future__ import annotations

import codecs
from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild import strictjson
from stackbuild.errors import Problem
from stackbuild.files import read_regular, why
from stackbuild.importers.model import Note
from stackbuild.reading import Problems, Table, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class JsonTable(Table):
    """An object of a JSON file. Keys that nobody asked for are `unknown`, not problems."""

    def __init__(
        self,
        values: Mapping[str, object],
        place: str,
        problems: Problems,
        unknown: list[Note],
    ) -> None:
        super().__init__(values, place, problems)
        self.unknown = unknown

    def _as_table(self, place: str, value: object) -> Table | None:
        if isinstance(value, dict):
            return JsonTable(value, place, self.problems, self.unknown)
        self._wrong_type(place, "an object", value)
        return None

    def pass_over(self, key: str) -> None:
        """Take `key` for one whose meaning is known, and is without effect here."""
        self._known.add(key)

    def note(self, key: str, text: str) -> None:
        """Note `key` as one that has no meaning here."""
        self._known.add(key)
        self.unknown.append(Note(kind="unknown", place=self.place_of(key), text=text))

    def done(self) -> None:
        """Note the keys that nobody asked for."""
        for key, value in self.values.items():
            if key not in self._known:
                comment = key.startswith(("_", "//", "$"))
                kind = "a comment" if comment else "an unknown key"
                self.note(key, f"{kind}, not carried over: {shown(value)}")


class JsonFiles:
    """The JSON files of one repository, read once each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.problems: list[Problem] = []
        self.notes: list[Note] = []
        self._open: list[tuple[str, JsonTable]] = []

    def read(self, *parts: str, required: bool = False) -> JsonTable | None:
        """The object in a file of the repository; None where there is none, or it is broken."""
        name = "/".join(parts)
        path = self.directory.joinpath(*parts)
        doubled: list[str] = []

        try:
            # An editor of Windows may have written a byte order mark.
            data = read_regular(path, strictjson.MAX_SIZE + 1).removeprefix(codecs.BOM_UTF8)
            value = strictjson.parse(data, "the file", doubled=doubled)
        except FileNotFoundError:
            if required:
                self.problems.append(Problem(place=name, message="the file does not exist"))
            return None
        except OSError as error:
            self.problems.append(Problem(place=name, message=f"the file {why(error)}"))
            return None
        except strictjson.JsonError as error:
            self.problems.append(Problem(place=name, message=f"not JSON: {error.reason}"))
            return None
        for key in doubled:
            text = f"{key!r} is written twice; the last one counts, as it did there"
            self.notes.append(Note(kind="unknown", place=name, text=text))
        if not isinstance(value, dict):
            problem = Problem(place=name, message="not an object", found=shown(value))
            self.problems.append(problem)
            return None
        table = JsonTable(value, "", Problems(), [])
        self._open.append((name, table))
        return table

    def close(self) -> None:
        """Collect what the tables found."""
        for name, table in self._open:
            self.problems += [
                replace(problem, place=f"{name}: {problem.place}")
                for problem in table.problems.found
            ]
            self.notes += [replace(note, place=f"{name}: {note.place}") for note in table.unknown]
        self._open.clear()
