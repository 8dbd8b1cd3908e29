"""`make mutants`: which small changes of the code that guards integrity no test notices.

mutmut makes the changes and runs the tests, as `[tool.mutmut]` in pyproject.toml says. What
survives is compared with the blocks of the language ``diff`` in docs/testing.md: a change that
does not stand there is an error, and so is one that stands there and is noticed by now.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tools.standin import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mutmut.mutation.data import SourceFileMutationData

PAGE = PROJECT / "docs" / "testing.md"
_BLOCK = re.compile(r"^```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CHANGE = re.compile(r"^(?P<place>[\w.]+)\n(?P<lines>(?:[-+] .*\n)+)", re.MULTILINE)
_NAME = re.compile(r"(?P<module>[\w.]+)\.x_?(?:ǁ(?P<cls>\w+)ǁ)?(?P<function>\w+)__mutmut_\d+")

_UNNOTICED = frozenset({"survived", "no tests"})

Change = str
"""The place, such as ``frames.wheel._parts``, and the lines that are taken out and put in."""


def main(patterns: list[str]) -> int:
    """Run mutmut on the functions that `patterns` name, or all; 1 if anything is unexplained."""
    forget_what_new_tests_may_change()
    ran = subprocess.run(
        [Path(sys.executable).with_name("mutmut"), "run", *patterns], cwd=PROJECT, check=False
    )
    if ran.returncode:
        return ran.returncode
    counts, survivors = results()
    for module, ended in sorted(counts.items()):
        print(f"{module}:", ", ".join(f"{ended[status]} {status}" for status in sorted(ended)))
    explained = explained_changes(PAGE.read_text(encoding="utf-8"))
    unexplained = tell("survived, and docs/testing.md does not say why", survivors - explained)
    if patterns:  # of the other functions nothing is known
        return unexplained
    return unexplained | tell("in docs/testing.md did not survive", explained - survivors)


def forget_what_new_tests_may_change() -> None:
    """Have mutmut try again what survived, and find out again which test reaches which function.

    It keeps both as they were while the list of test files stays the same.
    """
    (PROJECT / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    for _, data in mutated():
        for name, status in statuses(data):
            if status in _UNNOTICED:
                data.exit_code_by_key[name] = None
        data.save()


def results() -> tuple[dict[str, Counter[str]], set[Change]]:
    """How many mutants of each module ended how, and those that no test has noticed."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    counts: dict[str, Counter[str]] = {}
    survivors: set[Change] = set()
    for path, data in mutated():
        counts[str(path)] = Counter(status for _, status in statuses(data))
        for name, status in statuses(data):
            if status in _UNNOTICED:
                survivors.add(change(name, get_diff_for_mutant(name, path=path)))
    return counts, survivors


def mutated() -> Iterator[tuple[Path, SourceFileMutationData]]:
    """The files that have mutants, with what is known of these."""
    # `make test` reads the page with this module too, and has no mutmut.
    from mutmut.mutation.data import SourceFileMutationData
    from mutmut.utils.file_utils import walk_mutatable_files

    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        if data.exit_code_by_key:
            yield path, data


def statuses(data: SourceFileMutationData) -> list[tuple[str, str]]:
    """How each mutant of a file ended."""
    from mutmut.stats import status_by_exit_code

    return [(name, status_by_exit_code[code]) for name, code in data.exit_code_by_key.items()]


def change(name: str, diff: str) -> Change:
    """The mutant that mutmut calls `name`, as it stands in docs/testing.md."""
    found = _NAME.fullmatch(name)
    assert found, name
    parts = (found["module"].removeprefix("stackbuild."), found["cls"], found["function"])
    place = ".".join(filter(None, parts))
    lines = [
        f"{line[0]} {line[1:].strip()}"
        for line in diff.splitlines()
        if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))
    ]
    return "\n".join([place, *lines]) + "\n"


def explained_changes(text: str) -> set[Change]:
    """The changes that `text`, a page of the documentation, lists."""
    return {found[0] for block in _BLOCK.finditer(text) for found in _CHANGE.finditer(block[1])}


def tell(what: str, changes: set[Change]) -> int:
    """Print `changes`; 1 if there are any."""
    if changes:
        print(f"\n{len(changes)} {what}:\n\n" + "".join(sorted(changes)))
    return bool(changes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
