"""Versions leave the index first, and their files when no index has named them for a while."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import FetchError, IntegrityError, UsageError
from stackbuild.messages import SILENT
from stackbuild.registry.directory import DirectoryRegistry
from stackbuild.registry.find import Published
from stackbuild.registry.places import FilePlace
from stackbuild.registry.prune import chosen_versions, prune, unpublish
from stackbuild.registry.push import push

if TYPE_CHECKING:
    from stackbuild.registry.places import Place
    from tests.support.publish import Publisher
    from tests.support.s3 import MakePlace

NO_GRACE = timedelta()


@pytest.fixture
def three(made: Publisher, new_place: MakePlace) -> Place:
    """A place with the versions 1 to 3 of framework, atls and pgen; the runtime has one."""
    for version in ("1", "2", "3"):
        if version != "1":
            made.stack(version)
        source = DirectoryRegistry(made.directory)
        push(source, chosen_versions(source, ["atls", "pgen"]), new_place(), SILENT)
    return new_place()


def versions(place: Place) -> dict[str, list[str]]:
    return {
        layer: [entry.version for entries in platforms.values() for entry in entries]
        for layer, platforms in place.index().entries.items()
    }


def files(place: Place, layer: str) -> int:
    return len([name for name in place.unnamed(()) if f"/{layer}-" in name])


def parts(place: Place) -> int:
    """The number of files of a version: an archive and a manifest, or a manifest alone."""
    return 2 if isinstance(place, FilePlace) else 1


def test_the_newest_versions_and_what_they_need_are_kept(
    three: Place, new_place: MakePlace
) -> None:
    planned = prune(three, SILENT, keep=1, keep_versions=["1"], dry_run=True)
    assert versions(three)["atls"] == ["3", "2", "1"]
    done = prune(three, SILENT, keep=1, keep_versions=["1"])
    assert done == planned
    assert {(one.layer, one.entry.version) for one in done.versions} == {
        ("framework", "2"),
        ("atls", "2"),
        ("pgen", "2"),
    }
    assert versions(new_place()) == {
        "cpython-3.12": ["1"],
        "framework": ["3", "1"],
        "atls": ["3", "1"],
        "pgen": ["3", "1"],
    }
    assert (len(done.files), len(done.waiting)) == (0, 3 * parts(three))
    assert files(three, "atls") == 3 * parts(three)


def test_lower_layers_of_kept_versions_stay_installable(
    three: Place, made: Publisher, new_place: MakePlace
) -> None:
    unpublish(three, SILENT, ["pgen", "atls@3", "atls@1"])
    prune(three, SILENT, keep=1, grace=NO_GRACE)
    assert versions(new_place()) == {
        "cpython-3.12": ["1"],
        "framework": ["3", "2"],
        "atls": ["2"],
    }
    published = Published(new_place(), made.platform)
    atls = published.current("atls")
    for one in [atls, *(published.fitting(link) for link in atls.chain)]:
        assert one is not None
        size = sum(map(len, three.read(published.entry(one), one, [(0, one.archive.size)])))
        assert size == one.archive.size


def test_files_are_removed_after_the_grace_period(three: Place, new_place: MakePlace) -> None:
    count = 6 * parts(three)
    assert len(prune(three, SILENT, keep=1).waiting) == count
    again = prune(new_place(), SILENT, keep=1)
    assert (again.versions, again.files, len(again.waiting)) == ((), (), count)
    # As if noted eight days ago; but the files themselves are new.
    times = three.document("unnamed.json").replace(b': "20', b': "19')
    three.put_document("unnamed.json", times)
    assert prune(three, SILENT, keep=1).files == ()
    last = prune(three, SILENT, keep=1, grace=NO_GRACE)
    assert (len(last.files), last.waiting) == (count, ())
    assert files(new_place(), "atls") == parts(three)
    assert b"atls" not in three.document("unnamed.json")


def test_the_grace_period_begins_anew_when_a_version_was_published_again(
    three: Place, made: Publisher, new_place: MakePlace
) -> None:
    prune(three, SILENT, keep=2)
    old = three.document("unnamed.json").replace(b': "20', b': "19')
    three.put_document("unnamed.json", old)
    source = DirectoryRegistry(made.directory)
    push(source, chosen_versions(source, ["atls@1"]), new_place(), SILENT)
    assert versions(three)["atls"] == ["1", "3", "2"]
    unpublish(three, SILENT, ["atls@1"])
    times = three.document("unnamed.json")
    assert times.count(b': "19') == parts(three), "those of pgen"
    assert times.count(b': "20') == parts(three), "those of atls; the framework was published again"


def test_files_that_are_published_again_meanwhile_stay(
    three: Place, made: Publisher, new_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    prune(three, SILENT, keep=2)
    source = DirectoryRegistry(made.directory)
    real = type(three).put_document

    def meanwhile(place: Place, name: str, data: bytes) -> None:
        real(place, name, data)
        push(source, chosen_versions(source, ["atls@1"]), new_place(), SILENT)

    monkeypatch.setattr(type(three), "put_document", meanwhile)
    done = prune(three, SILENT, keep=2, grace=NO_GRACE)
    assert {name.rpartition("/")[2].partition("-")[0] for name in done.files} == {"pgen"}
    assert versions(three)["atls"] == ["1", "3", "2"]
    assert not push(source, chosen_versions(source, ["atls@1"]), new_place(), SILENT)[-1].sent


def test_a_version_that_others_need_is_not_removed(three: Place) -> None:
    before = three.tagged_index()
    with pytest.raises(
        UsageError, match=r"framework@sha256:.* is needed by layers above"
    ) as caught:
        unpublish(three, SILENT, ["framework@2"])
    assert "atls@sha256:" in str(caught.value)
    assert "pgen@sha256:" in str(caught.value)
    assert three.tagged_index() == before
    done = unpublish(three, SILENT, ["framework@2", "atls@2", "pgen@2"])
    assert {one.entry.version for one in done.versions} == {"2"}


def test_versions_that_are_not_there_are_named(three: Place, made: Publisher) -> None:
    with pytest.raises(UsageError, match="'atls@9' is not published"):
        unpublish(three, SILENT, ["atls@9"])
    with pytest.raises(UsageError, match="there is no layer 'alts'"):
        unpublish(three, SILENT, ["alts"])
    other = next(one for one in type(made.platform) if one != made.platform)
    with pytest.raises(UsageError, match=f"'atls' is not published for {other}"):
        unpublish(three, SILENT, ["atls"], [other])
    with pytest.raises(UsageError, match="does not name a version"):
        chosen_versions(three, ["atls@sha256:12"])


def test_a_place_that_is_empty_or_damaged_is_not_pruned(
    three: Place, new_place: MakePlace, made: Publisher
) -> None:
    three.put_document("unnamed.json", b'{"format": 2, "files": {}}')
    with pytest.raises(IntegrityError, match="written by a newer stackbuild"):
        prune(three, SILENT, keep=3)
    three.put_document("unnamed.json", b'{"format": 1, "files": {"x": "soon"}}')
    with pytest.raises(IntegrityError, match=r"unnamed\.json is damaged") as caught:
        prune(three, SILENT, keep=3)
    assert "remove this file" in str(caught.value)
    three.put_document("unnamed.json", b'{"format": 1, "files": {}}')
    if not isinstance(three, FilePlace):
        return
    three.remove([made.entries["atls"][made.platform][0].manifest])
    with pytest.raises(FetchError):
        prune(new_place(), SILENT, keep=3, grace=NO_GRACE)


def test_an_empty_place_is_not_pruned(new_place: MakePlace) -> None:
    with pytest.raises(FetchError):
        prune(new_place(), SILENT, keep=1)
