"""The JSON files of an older repository. What the import does not read is noted."""

from __future__ import annotations

import codecs
from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild import strictjson
from stackbuild.errors import Problem
from stackbuild.files import read_regular, why
from stackbuild.importers.runenv.model import Note
from stackbuild.reading import shown
from stackbuild.spec.table import Problems, Table

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.importers.runenv.model import NoteKind


class Findings(Problems):
    """The problems and notes of one file, in the order of reading."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[Note] = []


class JsonTable(Table):
    """An object of a JSON file. A key that is not read becomes a note and not a problem."""

    problems: Findings
    named = "an object"

    def pass_over(self, *keys: str) -> None:
        """Accept `keys` without reading them."""
        self._known.update(keys)

    def note(self, key: str, text: str) -> None:
        """Note that `key` is not converted, and why."""
        self._known.add(key)
        self.add_note("unknown", self.place_of(key), text)

    def add_note(self, kind: NoteKind, place: str, text: str) -> None:
        """Add a line to the report."""
        self.problems.notes.append(Note(kind, place, text))

    def done(self) -> None:
        """Note the keys that were not read."""
        for key in self.unread():
            comment = "a comment" if key.startswith(("_", "//", "$")) else "an unknown key"
            self.note(key, f"{comment}: {shown(self.values[key])}")


class JsonFiles:
    """The JSON files of one repository, with their problems and notes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.problems: list[Problem] = []
        self.notes: list[Note] = []
        self._read: list[tuple[str, Findings]] = []

    def note(self, kind: NoteKind, place: str, text: str) -> None:
        """Add a line to the report."""
        self.notes.append(Note(kind, place, text))

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
            self.note("unknown", name, text)
        findings = Findings()
        self._read.append((name, findings))
        return JsonTable(value, "", findings)

    def close(self) -> None:
        """Collect the problems and notes of all tables."""
        for name, findings in self._read:
            for problem in findings.found:
                self.problems.append(replace(problem, place=f"{name}: {problem.place}"))
            for note in findings.notes:
                self.notes.append(replace(note, place=f"{name}: {note.place}"))
        self._read.clear()
