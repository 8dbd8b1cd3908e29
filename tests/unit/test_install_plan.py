from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import InstallError, IntegrityError, UsageError
from stackbuild.install.plan import Plan, find_installed, plan_install, plan_uninstall
from stackbuild.install.state import State
from stackbuild.registry.directory import DirectoryRegistry
from stackbuild.registry.find import Published
from stackbuild.spec.model import LayerKind
from tests.support.publish import publisher

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.publish import Publisher


@pytest.fixture
def made(tmp_path: Path) -> Publisher:
    return publisher(tmp_path)


def planned(made: Publisher, *layers: str, state: State | None = None) -> Plan:
    before = state or State(platform=made.platform, asked=())
    published = Published(DirectoryRegistry(made.directory), made.platform)
    return plan_install(published.find(layers), before, published, made.directory / "root")


def versions(state: State) -> dict[str, str]:
    """Directory to the publishing version, which the helper puts into the lock."""
    return {name: manifest.lock for name, manifest in state.layers.items()}


def test_only_the_chain_asked_for_lower_layers_first(made: Publisher) -> None:
    made.stack()
    state = planned(made, "atls").state
    assert list(state.layers) == ["cpython-3.12", "framework", "atls"]
    assert state.asked == ("atls",)


def test_a_second_application_keeps_the_first(made: Publisher) -> None:
    made.stack()
    state = planned(made, "pgen", state=planned(made, "atls").state).state
    assert list(state.layers) == ["cpython-3.12", "framework", "atls", "pgen"]
    assert state.asked == ("atls", "pgen")


def test_installing_again_changes_nothing(made: Publisher) -> None:
    made.stack()
    state = planned(made, "atls", "pgen").state
    again = planned(made, "atls", state=state).state
    assert again.same_tree(state)


def test_an_application_that_must_change_is_brought_along(made: Publisher) -> None:
    made.stack("1")
    before = planned(made, "atls", "pgen").state
    *_, atls, pgen = made.stack("2")
    plan = planned(made, "atls", state=before)
    assert plan.brought == ("pgen",)
    assert plan.state.layers["pgen"].digest == pgen.digest
    assert plan.state.layers["atls"].digest == atls.digest
    assert set(plan.state.asked) == {"atls", "pgen"}


def test_an_application_that_cannot_change_is_refused(made: Publisher) -> None:
    runtime, *_ = made.stack("1")
    before = planned(made, "atls", "pgen").state
    framework = made.publish(
        "framework", {"f": {"x": "2"}}, below=[runtime], kind=LayerKind.FRAMEWORK, lock="2"
    )
    made.application("atls", [framework, runtime], "2")
    with pytest.raises(InstallError) as caught:
        planned(made, "atls", state=before)
    text = str(caught.value)
    assert "atls needs another framework than pgen" in text
    assert "stackbuild install atls pgen" in text


def test_another_version_comes_with_its_chain(made: Publisher) -> None:
    *_, old, old_pgen = made.stack("1")
    new = made.stack("2")[2]
    words = ["atls==1", "atls@1", f"atls@sha256:{old.digest[:12]}", f"atls@sha256:{old.digest}"]
    for word in words:
        state = planned(made, word).state
        assert state.layers["atls"].digest == old.digest
        assert state.layers["framework"].lock == old.chain[0].lock
    assert planned(made, "app-atls==2").state.layers["atls"].digest == new.digest
    # An installed version is replaced with an older one, too.
    newer = planned(made, "atls").state
    assert planned(made, "atls@1", state=newer).state.layers["atls"].digest == old.digest
    with pytest.raises(InstallError, match="atls needs another framework than pgen") as caught:
        planned(made, "atls@1", state=planned(made, "atls", "pgen").state)
    both = f"atls@sha256:{old.digest[:12]} pgen@sha256:{old_pgen.digest[:12]}"
    assert f"to fix: stackbuild install {both} --from" in str(caught.value)
    assert planned(made, *both.split()).state.layers["pgen"].digest == old_pgen.digest


def test_a_version_of_the_catalogue_comes_before_one_of_a_lock(made: Publisher) -> None:
    *_, old, _pgen = made.stack("1")
    *_, new, _pgen = made.stack("2")
    entries = made.entries["atls"][made.platform]
    entries[0] = replace(entries[0], version="2024.1", lock_version=2)
    made.write_index()
    for word in ("atls@2024.1", "atls@2"):
        assert planned(made, word).state.layers["atls"].digest == new.digest
    entries[0] = replace(entries[0], lock_version=1)
    made.write_index()
    assert planned(made, "atls@1").state.layers["atls"].digest == old.digest


def test_a_layer_whose_name_has_an_at_sign(made: Publisher) -> None:
    runtime = made.stack("1")[0]
    first = made.application("tool@2", [runtime], "1")
    made.application("tool@2", [runtime], "2")
    made.application("tool", [runtime], "2")
    assert list(planned(made, "tool@2").state.layers)[1:] == ["tool@2"]
    assert planned(made, "tool@2@1").state.layers["tool@2"].digest == first.digest


def test_an_unknown_version_is_told_with_those_that_are_there(made: Publisher) -> None:
    old, new = made.stack("1")[2], made.stack("2")[2]
    with pytest.raises(UsageError) as caught:
        planned(made, "atls==7")
    assert str(caught.value) == (
        "there is no version '7' of atls\n"
        "  layer: atls\n"
        f"  platform: {made.platform}\n"
        f"  file: {made.directory}\n"
        f"  expected: one of 2 (sha256:{new.digest[:12]}), 1 (sha256:{old.digest[:12]})\n"
        f"  to fix: stackbuild list --from {made.directory} --all prints the versions"
    )
    with pytest.raises(UsageError, match="there is no layer 'atsl'"):
        planned(made, "atsl==7")
    with pytest.raises(UsageError, match="the first 12 or more digits of the digest"):
        planned(made, f"atls@sha256:{old.digest[:11]}")


def test_a_named_version_of_a_lower_layer_is_used(made: Publisher) -> None:
    """Also where a newer manifest of the same lock is published."""
    runtime, old, *_ = made.stack("1")
    made.publish("framework", {"f": {"x": "3"}}, below=[runtime], kind=LayerKind.FRAMEWORK)
    for words in (("atls", "framework@sha256:" + old.digest[:12]), ("atls",)):
        state = planned(made, *words).state
        assert (state.layers["framework"].digest == old.digest) is (len(words) == 2)
    with pytest.raises(UsageError, match="two versions of framework were named"):
        planned(made, "framework", f"framework@sha256:{old.digest[:12]}")


def test_applications_for_different_frameworks_do_not_go_together(made: Publisher) -> None:
    runtime, *_ = made.stack("1")
    framework = made.publish(
        "framework", {"f": {"x": "2"}}, below=[runtime], kind=LayerKind.FRAMEWORK, lock="2"
    )
    made.application("atls", [framework, runtime], "2")
    with pytest.raises(InstallError, match="pgen and atls need different versions of framework"):
        planned(made, "pgen", "atls")


def test_an_older_framework_that_fits_is_taken(made: Publisher) -> None:
    runtime, old, _, _ = made.stack("1")
    made.publish(
        "framework", {"f": {"x": "2"}}, below=[runtime], kind=LayerKind.FRAMEWORK, lock="2"
    )
    assert planned(made, "pgen").state.layers["framework"].digest == old.digest


def test_what_is_installed_serves_where_the_registry_lacks_it(made: Publisher) -> None:
    _, framework, *_ = made.stack("1")
    before = planned(made, "atls").state
    del made.entries["framework"]
    made.write_index()
    after = planned(made, "pgen", state=before).state
    assert after.layers["framework"].digest == framework.digest
    with pytest.raises(InstallError, match="pgen needs framework, which is not published"):
        planned(made, "pgen")


def test_a_chain_that_turns_back_is_refused(made: Publisher) -> None:
    runtime, *_ = made.stack()
    one = made.publish("one", {"f": {"x": "1"}}, below=[runtime], kind=LayerKind.FRAMEWORK)
    two = made.publish("two", {"f": {"x": "2"}}, below=[one, runtime], kind=LayerKind.FRAMEWORK)
    made.publish("one", {"f": {"x": "1"}}, below=[two, runtime], kind=LayerKind.FRAMEWORK)
    made.application("app", [one, two, runtime])
    for layer in ("one", "two", "app"):
        with pytest.raises(IntegrityError) as caught:
            planned(made, layer)
        assert "which depends on it" in str(caught.value)
        assert f"the chain of {layer} does not have" in str(caught.value)


def test_versioned_frameworks_stand_side_by_side(made: Publisher) -> None:
    runtime, *_ = made.stack("1")
    one = made.publish(
        "fw",
        {"f": {"x": "1"}},
        below=[runtime],
        kind=LayerKind.FRAMEWORK,
        lock="1",
        directory="fw@1",
    )
    made.application("atls", [one, runtime], "a")
    two = made.publish(
        "fw",
        {"f": {"x": "2"}},
        below=[runtime],
        kind=LayerKind.FRAMEWORK,
        lock="2",
        directory="fw@2",
    )
    made.application("pgen", [two, runtime], "b")
    state = planned(made, "atls", "pgen").state
    assert {"fw@1", "fw@2"} < state.layers.keys()
    # Without its applications, the older one goes.
    assert "fw@1" not in plan_uninstall(["atls"], state).state.layers


def test_a_new_version_in_another_directory_replaces_the_one_asked_for(made: Publisher) -> None:
    runtime, *_ = made.stack("1")
    made.publish("app", {"f": {"x": "1"}}, below=[runtime], lock="1", directory="app@1")
    before = planned(made, "app").state
    made.publish("app", {"f": {"x": "2"}}, below=[runtime], lock="2", directory="app@2")
    after = planned(made, "app", state=before).state
    assert after.asked == ("app@2",)
    assert list(after.layers) == ["cpython-3.12", "app@2"]


def test_uninstalling_takes_what_nothing_needs(made: Publisher) -> None:
    made.stack()
    state = planned(made, "atls", "pgen").state
    assert list(plan_uninstall(["atls"], state).state.layers) == [
        "cpython-3.12",
        "framework",
        "pgen",
    ]
    assert not plan_uninstall(["atls", "pgen"], state).state.layers


def test_what_was_asked_for_stays_when_its_application_goes(made: Publisher) -> None:
    made.stack()
    state = planned(made, "framework", state=planned(made, "atls").state).state
    assert list(plan_uninstall(["atls"], state).state.layers) == ["cpython-3.12", "framework"]


def test_a_needed_layer_is_not_uninstalled(made: Publisher) -> None:
    made.stack()
    state = planned(made, "atls", "pgen").state
    with pytest.raises(InstallError, match="framework is needed by atls and pgen") as caught:
        plan_uninstall(["framework"], state)
    advice = dict(caught.value.details)["to fix"]
    assert advice == "uninstall atls, pgen and framework with one command"
    assert not plan_uninstall(["atls", "pgen", "framework"], state).state.layers


def test_directories_are_names_too_and_a_pattern_means_all_versions(made: Publisher) -> None:
    runtime, *_ = made.stack()
    for number in ("1", "2"):
        framework = made.publish(
            "fw",
            {"f": {"x": number}},
            below=[runtime],
            kind=LayerKind.FRAMEWORK,
            lock=number,
            directory=f"fw@{number}",
        )
        made.application({"1": "atls", "2": "pgen"}[number], [framework, runtime], number)
    state = planned(made, "atls", "pgen", "fw").state

    def found(*words: str) -> list[str]:
        return [one.directory for one in find_installed(words, state, made.directory)]

    assert found("fw") == found("framework-fw") == ["fw@2"]  # the one that was asked for
    assert found("fw@1") == found("framework-fw@1") == ["fw@1"]
    assert sorted(found("f*", "fw")) == ["fw@1", "fw@2"]
    assert found("app-*", "atls") == ["atls", "pgen"]
