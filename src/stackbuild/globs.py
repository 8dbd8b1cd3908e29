"""Globs on paths, in which ``**`` is any number of directories, and named sets of globs."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from stackbuild.reading import Item, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

SETS = {
    "@tests": (
        *("**/test/**", "**/tests/**"),
        # These distributions cannot be imported without them.
        *("!numpy/_core/tests/__init__.py", "!numpy/_core/tests/_natype.py"),
        *(f"!tables/tests/{name}.py" for name in ("__init__", "common", "test_suite")),
        *("!astropy/tests/__init__.py", "!astropy/tests/runner.py"),
    ),
    "@headers": ("*.h", "*.hh", "*.hpp", "*.hxx", "*.cuh", "*.pxd"),
    "@typing": ("*.pyi", "py.typed"),
    "@static-libraries": ("*.a", "*.lib"),
}
"""Patterns of `exclude-files` by the name of their set."""


def expanded(patterns: Iterable[str]) -> list[str]:
    """`patterns`, with the globs of a set instead of its name."""
    return [
        f"{'!' * is_kept(pattern)}{glob}"
        for pattern in patterns
        for name in [pattern.removeprefix("!")]
        for glob in SETS.get(name, (name,))
        if not (is_kept(pattern) and is_kept(glob))
    ]


def is_kept(pattern: str) -> bool:
    """Whether `pattern` is one of files that no other pattern leaves out."""
    return pattern.startswith("!")


def first_match(path: str, patterns: Collection[str]) -> str | None:
    """The first of `patterns` that leaves out `path`; names of sets are patterns, too.

    A glob without ``/`` is compared with the name of the file only. A pattern with ``!`` keeps
    what it matches, wherever it stands.
    """
    kept = [pattern[1:] for pattern in expanded(patterns) if is_kept(pattern)]
    if kept and first_match(path, kept):
        return None
    for pattern in patterns:
        if is_kept(pattern):
            continue
        for glob in expanded([pattern]):
            if not is_kept(glob) and path_matches(path, glob if "/" in glob else f"**/{glob}"):
                return pattern
    return None


def path_matches(path: str, glob: str) -> bool:
    """Whether the whole `path` matches `glob`."""
    return parts_match(path.split("/"), glob.split("/"))


def parts_match(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the components of a path match those of a glob."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(parts_match(parts[skip:], pattern[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and parts_match(parts[1:], pattern[1:])


def as_pattern(item: Item[str]) -> str:
    """A pattern of `exclude-files`."""
    text = item.value.removeprefix("!")
    parts = text.split("/")
    if text.startswith("@") and text not in SETS:
        raise item.error("no such set", " or ".join(SETS), did_you_mean(text, SETS))
    if not all(parts) or ".." in parts or "\\" in text:
        raise item.error("not a pattern", "a path in site-packages, with / between directories")
    if any(part.endswith(".dist-info") for part in parts):
        raise item.error("the metadata of distributions is never left out")
    return item.value
