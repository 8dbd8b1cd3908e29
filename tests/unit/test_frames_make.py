"""Many frame sets at once, and what goes into which frame."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackbuild.errors import ComposeError, IntegrityError
from stackbuild.frames.make import Part, make_sets, plan_parts, run_parts
from stackbuild.frames.model import FrameSet
from stackbuild.messages import Silent

if TYPE_CHECKING:
    from collections.abc import Callable


def _set(key: str) -> FrameSet:
    return FrameSet(key=key, frames=(), paths=())


def _job(key: str, parts: list[Part[str]]) -> Callable[[], FrameSet]:
    return lambda: _set(key + "".join(run_parts(parts)))


def test_results_keep_the_order_of_the_jobs_and_parts() -> None:
    def slow(text: str, seconds: float) -> Callable[[], str]:
        def run() -> str:
            time.sleep(seconds)
            return text

        return run

    parts = [Part(cost=number, run=slow(str(number), 0.01 * (3 - number))) for number in range(4)]
    jobs = [_job(letter, parts) for letter in "abcdefghijklmnop"]
    made = make_sets(jobs, 3, Silent())
    assert [item.key for item in made] == [f"{letter}0123" for letter in "abcdefghijklmnop"]


def test_no_more_parts_at_once_than_workers_and_the_largest_first() -> None:
    running, most, order = 0, 0, []
    lock = threading.Lock()
    planned = threading.Barrier(2)

    def part(cost: int) -> Part[str]:
        def run() -> str:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
                order.append(cost)
            time.sleep(0.02)
            with lock:
                running -= 1
            return ""

        return Part(cost=cost, run=run)

    def job(costs: list[int]) -> Callable[[], FrameSet]:
        def run() -> FrameSet:
            planned.wait()
            run_parts([part(cost) for cost in costs])
            return _set("x")

        return run

    make_sets([job([1, 9, 5, 7]), job([2, 8, 6, 4])], 2, Silent())
    assert most == 2
    assert sorted(order) == [1, 2, 4, 5, 6, 7, 8, 9]
    assert {order[-1], order[-2]} == {1, 2}


def test_the_error_of_the_first_job_that_failed_is_raised_and_the_rest_is_dropped() -> None:
    began = []

    def fail() -> str:
        raise IntegrityError("this one")

    def note() -> str:
        began.append(1)
        time.sleep(0.01)
        return ""

    jobs = [_job("a", [Part(cost=9, run=fail)])]
    jobs += [_job("b", [Part(cost=1, run=note)] * 200)]
    with pytest.raises(IntegrityError, match="this one"):
        make_sets(jobs, 1, Silent())
    assert len(began) < 200


def test_a_job_may_fail_without_parts() -> None:
    def job() -> FrameSet:
        raise ComposeError("no")

    with pytest.raises(ComposeError, match="no"):
        make_sets([job, lambda: _set("x")], 2, Silent())


def test_parts_run_without_workers_too() -> None:
    assert run_parts([Part(cost=1, run=lambda: "x")]) == ["x"]
    assert make_sets([], 2, Silent()) == []


@given(
    st.dictionaries(st.text("ab./so", min_size=1, max_size=6), st.integers(0, 50)),
    st.integers(1, 60),
)
def test_parts_hold_everything_once_and_no_more_than_they_may(
    sizes: dict[str, int], limit: int
) -> None:
    parts = plan_parts(sizes.items(), lambda item: item, limit=limit)
    assert sorted(item for part in parts for item in part) == sorted(sizes.items())
    for part in parts:
        assert part
        assert sum(size for _, size in part) <= limit or len(part) == 1
    assert parts == plan_parts(reversed(sizes.items()), lambda item: item, limit=limit)


def test_a_part_may_be_exactly_full() -> None:
    sizes = {"a.py": 4, "b.py": 6, "c.py": 10, "d.py": 1, "e.py": 11}
    parts = plan_parts(sizes.items(), lambda item: item, limit=10)
    assert [[path for path, _ in part] for part in parts] == [
        ["a.py", "b.py"],
        ["c.py"],
        ["d.py"],
        ["e.py"],
    ]


def test_like_stands_by_like() -> None:
    sizes = {"b/x.py": 9, "a/z.so": 5, "a/y.py": 1, "a/libq.so.1": 4, "a/w.so": 7}
    (part,) = plan_parts(sizes.items(), lambda item: item)
    assert [path for path, _ in part] == ["a/y.py", "b/x.py", "a/libq.so.1", "a/z.so", "a/w.so"]


def test_a_cache_that_has_everything_needs_no_installer() -> None:
    """Importing it takes longer than all else that a publish with nothing to do does."""
    program = """
import sys
import stackbuild.compose.publish
assert "installer" not in sys.modules
import stackbuild.frames.wheelplan
print("installer.records" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
