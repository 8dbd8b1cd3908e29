"""Globs, and the sets of globs for `exclude-files`."""

from __future__ import annotations

import pytest

from stackbuild.globs import expanded, first_match, path_matches


@pytest.mark.parametrize(
    ("path", "pattern", "found"),
    [
        ("lib/x.a", "*.a", True),
        ("x.a", "*.a", True),
        ("x.a/y", "*.a", False),
        ("pkg/tests/a/b.py", "**/tests/**", True),
        ("tests/b.py", "**/tests/**", True),
        ("pkg/testsuite/b.py", "**/tests/**", False),
        ("numba/cuda/a.py", "numba/cuda/**", True),
        ("x/numba/cuda/a.py", "numba/cuda/**", False),
        ("numba/cuda/a.py", "numba/*.py", False),
        ("pkg/test/b.py", "@tests", True),
        ("pkg/b.hpp", "@headers", True),
        ("pkg/py.typed", "@typing", True),
        ("pkg/b.pyi", "@typing", True),
        ("pkg/b.lib", "@static-libraries", True),
        ("pkg/b.py", "@typing", False),
    ],
)
def test_what_patterns_match(path: str, pattern: str, found: bool) -> None:
    assert first_match(path, ["nothing", pattern]) == (pattern if found else None)


def test_a_pattern_keeps_what_others_leave_out() -> None:
    patterns = ("!a/tests/**", "*.txt", "@tests", "!@headers")
    paths = ("a/tests/x.py", "a/tests/x.txt", "b/tests/x.py", "b/tests/x.h", "b/x.txt")
    assert [first_match(path, patterns) for path in paths] == [None, None, "@tests", None, "*.txt"]
    assert expanded(["!@tests"]) == ["!**/test/**", "!**/tests/**"]
    assert expanded(["!@typing", "x"]) == ["!*.pyi", "!py.typed", "x"]


def test_a_glob_matches_the_whole_path() -> None:
    assert path_matches("a/b/c", "a/**/c")
    assert path_matches("a/c", "a/**/c")
    assert not path_matches("a/c/d", "a/**/c")
    assert not path_matches("b/a/c", "a/**/c")


def test_the_set_of_tests_keeps_what_distributions_import() -> None:
    for kept in ("numpy/_core/tests/_natype", "tables/tests/common", "astropy/tests/runner"):
        assert first_match(f"{kept}.py", ["@tests", "*.txt"]) is None
        package = kept.rpartition("/")[0]
        assert first_match(f"{package}/__init__.py", ["@tests"]) is None
        assert first_match(f"{package}/test_x.py", ["@tests"]) == "@tests"
        assert first_match(f"{package}/test_x.py", ["!@tests", "test_x.py"]) is None
