"""The choice of frameworks: what any answer must hold to, and answers that are known."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackbuild.planning.contents import Contents, Environment, name_of
from stackbuild.planning.search import Choice, choose_frameworks, find, fits

if TYPE_CHECKING:
    from collections.abc import Mapping

LINUX, MAC = "linux-x64", "macosx-aarch64"


def env(
    sizes: Mapping[str, int],
    needs: Mapping[str, set[str]] | None = None,
    *,
    excluded: set[str] | None = None,
    platforms: tuple[str, ...] = (LINUX,),
) -> Environment:
    """An environment that is the same on all its platforms."""
    wanted = {key: frozenset(names) for key, names in (needs or {}).items()}
    return Environment(
        sizes=dict.fromkeys(platforms, sizes),
        needs=dict.fromkeys(platforms, wanted),
        excluded=dict.fromkeys(platforms, frozenset(excluded or ())),
    )


def shared(choice: Choice) -> dict[tuple[str, ...], set[str]]:
    """What each framework holds on Linux, by the environments on it."""
    return {
        tuple(sorted(item.environments)): set(item.contents.get(LINUX, ()))
        for item in choice.frameworks
    }


def chain(choice: Choice, name: str) -> list[int]:
    """The positions of the frameworks of an environment, nearest first."""
    numbered = enumerate(choice.frameworks)
    return [number for number, item in numbered if name in item.environments][::-1]


@st.composite
def environments(draw: st.DrawFn, most: int = 6) -> dict[str, Environment]:
    """Environments in which each name has one version, and whatever is needed is there."""
    names = ["a", "b", "c", "d", "e", "f"]
    size = {f"{name}=={v}": draw(st.integers(0, 50)) for name in names for v in (1, 2)}
    found = {}
    for number in range(draw(st.integers(1, most))):
        sizes: dict[str, dict[str, int]] = {}
        needs: dict[str, dict[str, frozenset[str]]] = {}
        excluded: dict[str, frozenset[str]] = {}
        for platform in draw(st.sets(st.sampled_from([LINUX, MAC]), min_size=1)):
            chosen = draw(st.dictionaries(st.sampled_from(names), st.sampled_from([1, 2])))
            keys = {f"{name}=={version}" for name, version in chosen.items()}
            sizes[platform] = {key: size[key] for key in keys}
            needs[platform] = {
                key: frozenset(draw(st.sets(st.sampled_from(sorted(chosen)), max_size=2)))
                for key in sorted(keys)
            }
            absent = sorted(set(names) - set(chosen))
            if absent:
                excluded[platform] = frozenset(draw(st.sets(st.sampled_from(absent), max_size=1)))
        found[f"env{number}"] = Environment(sizes=sizes, needs=needs, excluded=excluded)
    return found


@settings(max_examples=60)
@given(environments(), st.integers(1, 3))
def test_any_answer_is_whole_and_no_worse_than_separate(
    given_environments: dict[str, Environment], longest: int
) -> None:
    choice = choose_frameworks(given_environments, longest_chain=longest)
    fetched: dict[str, int] = {}
    largest: dict[str, dict[str, int]] = {}
    for item in given_environments.values():
        for platform, sizes in item.sizes.items():
            largest.setdefault(platform, {}).update(sizes)
    for framework in choice.frameworks:
        for platform, keys in framework.contents.items():
            fetched[platform] = fetched.get(platform, 0) + sum(largest[platform][k] for k in keys)
    for name, item in given_environments.items():
        below = [choice.frameworks[position] for position in chain(choice, name)]
        assert len(below) <= longest
        for platform, sizes in item.sizes.items():
            parts = [framework.contents.get(platform, frozenset()) for framework in below]
            shared_keys = frozenset[str]().union(*parts)
            assert sum(map(len, parts)) == len(shared_keys), "something is there twice"
            assert shared_keys <= sizes.keys()
            fetched[platform] = fetched.get(platform, 0) + sum(
                size for key, size in sizes.items() if key not in shared_keys
            )
    assert choice.layered == fetched
    assert all(choice.layered[p] <= choice.separate[p] for p in choice.separate)


@settings(max_examples=60)
@given(environments())
def test_a_framework_needs_nothing_but_its_own_chain(
    given_environments: dict[str, Environment],
) -> None:
    choice = choose_frameworks(given_environments)
    for place, framework in enumerate(choice.frameworks):
        assert all(position < place for position in framework.below)
        for platform, keys in framework.contents.items():
            there = set(keys)
            for position in framework.below:
                lower = choice.frameworks[position]
                assert framework.environments < lower.environments
                there |= lower.contents.get(platform, frozenset())
            names = {name_of(key) for key in there}
            users = [
                given_environments[name]
                for name in framework.environments
                if platform in given_environments[name].sizes
            ]
            for key in keys:
                # What all of them need, and none leaves out on purpose.
                wanted = frozenset.intersection(*(user.needs[platform][key] for user in users))
                assert wanted <= names


@settings(max_examples=60)
@given(environments(most=4), st.integers(1, 3), st.integers(0, 20))
def test_few_environments_get_the_best_of_all_families(
    given_environments: dict[str, Environment], longest: int, layer_bytes: int
) -> None:
    contents = Contents(given_environments, layer_bytes)
    family, exact = find(contents, longest)
    assert exact
    sets = [mask for mask in range(1, contents.everyone + 1) if mask.bit_count() > 1]
    least = min(
        sum(contents.layered(contents.ordered(chosen)).values())
        for count in range(min(len(sets), 4) + 1)
        for chosen in combinations(sets, count)
        if fits(chosen, longest)
    )
    assert sum(contents.layered(family).values()) <= least


@settings(max_examples=40)
@given(environments(), st.randoms())
def test_the_order_of_the_input_does_not_matter(
    given_environments: dict[str, Environment], random: object
) -> None:
    names = list(given_environments)
    random.shuffle(names)  # type: ignore[attr-defined]  # hypothesis calls its Random an object
    shuffled = {name: given_environments[name] for name in names}
    assert choose_frameworks(shuffled) == choose_frameworks(given_environments)


def test_environments_with_the_same_distributions_share_them() -> None:
    choice = choose_frameworks(
        {"one": env({"numpy==2": 20, "x==1": 3}), "two": env({"numpy==2": 20, "y==1": 4})}
    )
    assert shared(choice) == {("one", "two"): {"numpy==2"}}
    assert choice.separate == {LINUX: 47}
    assert choice.layered == {LINUX: 27}


def test_other_versions_are_not_shared_nor_what_needs_them() -> None:
    needs = {"pandas==2": {"numpy"}}
    choice = choose_frameworks(
        {
            "one": env({"numpy==2.2": 20, "pandas==2": 10, "six==1": 1}, needs),
            "two": env({"numpy==2.0": 20, "pandas==2": 10, "six==1": 1}, needs),
        }
    )
    assert shared(choice) == {("one", "two"): {"six==1"}}


def test_what_only_one_leaves_out_on_purpose_is_not_taken_from_the_other() -> None:
    both = env({"dask==1": 5, "numpy==2": 20}, {"dask==1": {"numpy"}})
    without = env({"dask==1": 5}, {"dask==1": set()}, excluded={"numpy"})
    assert shared(choose_frameworks({"both": both, "without": without})) == {}
    # An extra that only one of them asks for is no reason.
    plain = env({"dask==1": 5}, {"dask==1": set()})
    assert shared(choose_frameworks({"both": both, "plain": plain})) == {
        ("both", "plain"): {"dask==1"}
    }


def test_frameworks_stand_on_each_other() -> None:
    choice = choose_frameworks(
        {
            "one": env({"base==1": 10, "torch==2": 50}),
            "two": env({"base==1": 10, "torch==2": 50}),
            "three": env({"base==1": 10}),
        }
    )
    assert [set(item.contents[LINUX]) for item in choice.frameworks] == [{"base==1"}, {"torch==2"}]
    assert [item.below for item in choice.frameworks] == [(), (0,)]
    assert [chain(choice, name) for name in ("one", "two", "three")] == [[1, 0], [1, 0], [0]]
    assert choice.layered == {LINUX: 60}


def test_a_short_chain_keeps_what_saves_most() -> None:
    sizes = {"a==1": 1, "b==1": 10, "c==1": 100, "d==1": 1000}
    found = {"all": env(sizes)} | {key[0]: env({key: sizes[key]}) for key in sizes}
    choice = choose_frameworks(found, longest_chain=3)
    assert set(shared(choice)) == {("all", "b"), ("all", "c"), ("all", "d")}
    assert choice.exact


def test_a_layer_that_costs_more_than_it_saves_is_left_out() -> None:
    found = {"one": env({"a==1": 9}), "two": env({"a==1": 9})}
    assert choose_frameworks(found, layer_bytes=10).frameworks == ()
    assert len(choose_frameworks(found, layer_bytes=8).frameworks) == 1


def test_a_framework_differs_by_platform() -> None:
    both = (LINUX, MAC)
    one = env({"numpy==2": 20}, platforms=both)
    two = Environment(sizes={LINUX: {"numpy==2": 20}, MAC: {"numpy==1": 20}})
    choice = choose_frameworks({"one": one, "two": two})
    assert [item.contents for item in choice.frameworks] == [{LINUX: {"numpy==2"}}]
    assert choice.layered == {LINUX: 20, MAC: 40}


def test_what_one_environment_has_alone_on_a_platform_may_be_in_a_framework() -> None:
    one = env({"numpy==2": 20}, platforms=(LINUX, MAC))
    two = env({"numpy==2": 20})
    choice = choose_frameworks({"one": one, "two": two})
    # The same bytes either way, and one list of requirements for both platforms.
    assert choice.frameworks[0].contents == {LINUX: {"numpy==2"}, MAC: {"numpy==2"}}
    assert choice.layered == {LINUX: 20, MAC: 20}


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_is_shared_by_fewer_than_two(count: int) -> None:
    found = {f"env{number}": env({"a==1": 5}) for number in range(count)}
    choice = choose_frameworks(found)
    assert choice.frameworks == ()
    assert choice.exact
