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

from tools.standin import PROJECT

PAGE = PROJECT / "docs" / "testing.md"
_BLOCK = re.compile(r"^```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CHANGE = re.compile(r"^(?P<place>[\w.]+)\n(?P<lines>(?:[-+] .*\n)+)", re.MULTILINE)
_NAME = re.compile(r"(?P<module>[\w.]+)\.x_?(?:ǁ(?P<cls>\w+)ǁ)?(?P<function>\w+)__mutmut_\d+")

Change = str
"""The place, such as ``frames.wheel._parts``, and the lines that are taken out and put in."""


def main(patterns: list[str]) -> int:
    """Run mutmut on the functions that `patterns` name, or all; 1 if anything is unexplained."""
    ran = subprocess.run(
        [Path(sys.executable).with_name("mutmut"), "run", *patterns], cwd=PROJECT, check=False
    )
    if ran.returncode:
        return ran.returncode
    counts, survivors = results()
    print(", ".join(f"{status}: {count}" for status, count in sorted(counts.items())))
    explained = explained_changes(PAGE.read_text(encoding="utf-8"))
    unexplained = tell("survived, and docs/testing.md does not say why", survivors - explained)
    if patterns:  # of the other functions nothing is known
        return unexplained
    return unexplained | tell("in docs/testing.md did not survive", explained - survivors)


def results() -> tuple[Counter[str], set[Change]]:
    """How many mutants ended how, and those that no test has noticed."""
    # `make test` reads the page with this module too, and has no mutmut.
    from mutmut.mutation.data import SourceFileMutationData
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.stats import status_by_exit_code
    from mutmut.utils.file_utils import walk_mutatable_files

    counts: Counter[str] = Counter()
    survivors: set[Change] = set()
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for name, exit_code in data.exit_code_by_key.items():
            status = status_by_exit_code[exit_code]
            counts[status] += 1
            if status in {"survived", "no tests"}:
                survivors.add(change(name, get_diff_for_mutant(name, path=path)))
    return counts, survivors


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
