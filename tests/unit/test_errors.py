from __future__ import annotations

from pathlib import Path

from stackbuild import errors
from stackbuild.errors import IntegrityError, Problem, SpecError, StackbuildError


def test_details_come_in_one_order_whatever_the_order_they_are_given_in() -> None:
    error = IntegrityError(
        "the wheel differs from its lock",
        remedy="run `stackbuild fetch`",
        found="b",
        expected="a",
        file=Path("wheelhouse/x.whl"),
        distribution="x 1",
        platform="linux-x64",
        layer="atls",
    )
    assert str(error).splitlines() == [
        "the wheel differs from its lock",
        "  layer: atls",
        "  platform: linux-x64",
        "  distribution: x 1",
        "  file: wheelhouse/x.whl",
        "  expected: a",
        "  found: b",
        "  to fix: run `stackbuild fetch`",
    ]


def test_what_is_unknown_is_left_out() -> None:
    assert str(StackbuildError("no")) == "no"
    assert str(StackbuildError("no", found="")) == "no\n  found: "


def test_a_line_break_begins_no_line_of_the_error() -> None:
    error = StackbuildError("no x\nerror: y", found="a\n  to fix: rm -r /")
    assert str(error).splitlines() == [
        "no x",
        "    error: y",
        "  found: a",
        "      to fix: rm -r /",
    ]
    spec = SpecError("f", [Problem(place="name", message="is 'a\n  b: is right'")])
    assert str(spec).splitlines()[1:] == [r"  name: is 'a\n  b: is right'"]


def test_each_kind_has_an_exit_code_of_its_own() -> None:
    kinds = [kind for kind in vars(errors).values() if _is_kind(kind)]
    codes = [kind.exit_code for kind in kinds]
    assert sorted(codes) == list(range(1, 10))


def _is_kind(value: object) -> bool:
    return isinstance(value, type) and StackbuildError in (value, *value.__bases__)


def test_all_problems_of_a_spec_are_told() -> None:
    problems = [
        Problem(place="frameworks[0].name", message="is missing"),
        Problem(
            place="frameworks[0].requirements[2]",
            message="is no requirement",
            expected="PEP 508",
            found="'numpy='",
            hint="did you mean '=='?",
        ),
        Problem(place="", message="no layer"),
    ]
    assert str(SpecError("venvstacks.toml", problems)).splitlines() == [
        "venvstacks.toml has 3 problems",
        "  frameworks[0].name: is missing",
        "  frameworks[0].requirements[2]: is no requirement"
        " (expected PEP 508, found 'numpy='); did you mean '=='?",
        "  no layer",
    ]
    assert SpecError("f", problems[:1]).message == "f has 1 problem"
