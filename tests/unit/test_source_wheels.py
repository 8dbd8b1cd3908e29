"""Wheels of sources: which are kept, added or built, and what a build depends on."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.errors import (
    FetchError,
    IntegrityError,
    ManyLocksError,
    StackbuildError,
)
from stackbuild.files import remove_tree, sha256_file
from stackbuild.lock.added import AddedWheel, read_added, write_added
from stackbuild.lock.files import write_locks
from stackbuild.lock.index_pages import Address, Addresses, IndexPages
from stackbuild.lock.indexes import IndexSettings, index_settings
from stackbuild.lock.model import (
    Build,
    BuildRequirement,
    LayerLock,
    LockedDistribution,
    LockedFile,
    ProjectSource,
    RuntimeLock,
    VcsSource,
)
from stackbuild.lock.targets import target_of
from stackbuild.messages import Silent
from stackbuild.platforms import Platform
from stackbuild.resolve import build_orders, source_wheels
from stackbuild.resolve.build_orders import (
    BuildOrder,
    BuiltWheel,
    build_tag,
    fetch_sdist,
    rebuild,
    recipe,
)
from stackbuild.resolve.metadata import Metadata
from stackbuild.resolve.problems import ResolveError, ResolveProblem
from stackbuild.resolve.request import Found, ResolveRequest
from stackbuild.resolve.source_wheels import SourceWheels, Upgrade, added_candidates
from stackbuild.workspace import Workspace
from tests.support.specs import ALL, read_spec
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stackbuild.lock.model import Source

LINUX, MAC, WINDOWS = Platform.LINUX_X64, Platform.MACOSX_AARCH64, Platform.WINDOWS_X64
PYTHON = Version("3.12.10")
ONE = canonicalize_name("one")
COMMIT = VcsSource(url="https://h/r", commit="a" * 40)
PROJECT = ProjectSource(path="lib/one", sha256="b" * 64)
SDIST = LockedFile(name="one-1.tar.gz", size=5, sha256=hashlib.sha256(b"sdist").hexdigest())
FOUND = Found(
    name=ONE,
    version=Version("1"),
    file=SDIST.name,
    url="https://h/f/one-1.tar.gz",
    sha256=SDIST.sha256,
    size=SDIST.size,
)
PURE, NATIVE = "one-1-py3-none-any.whl", "one-1-cp312-cp312-linux_x86_64.whl"
MAC_WHEEL = "one-1-cp312-cp312-macosx_13_0_arm64.whl"
SPEC = '[tool.stackbuild]\nplatforms = ["linux-x64", "macosx-aarch64"]\n'


class Case:
    """The layer `app` on a machine with Linux; `name` is that of the wheel of a build."""

    def __init__(self, directory: Path) -> None:
        self.workspace = Workspace(directory / "project", directory / "cache", 1)
        self.directory = directory
        self.wheelhouse = self.workspace.wheelhouse
        self.wheelhouse.mkdir(parents=True)
        self.spec, self.files = SPEC, dict[str, str]()
        self.name, self.content = PURE, "wheel"
        self.orders: list[BuildOrder] = []

    def build(self, order: BuildOrder) -> BuiltWheel:
        """A `Builder` that builds nothing but keeps the order."""
        self.orders.append(order)
        path = self.workspace.cache / self.name
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.content)
        file = LockedFile(name=path.name, size=len(self.content), sha256=sha256_file(path))
        made = Build(recipe=order.recipe, requirements=(), dependencies=("dep",), extras=("x",))
        return BuiltWheel(path=path, version=Version("1"), wheel=file, build=made)

    def indexes(self) -> IndexSettings:
        return IndexSettings(indexes=(), sources={ONE: "ours"}, files=self.files)

    def wheels(
        self,
        platform: Platform = LINUX,
        *,
        old: LockedDistribution | None = None,
        upgrade: Upgrade | None = None,
        builder: bool = True,
    ) -> SourceWheels:
        layer = read_spec(self.directory, self.spec, ALL).layers["app"]
        return SourceWheels(
            workspace=self.workspace,
            metadata=Metadata(self.workspace, Silent(), IndexPages(default=lambda: None)),
            builder=self.build if builder else None,
            layer=layer,
            request=ResolveRequest(
                layer="app",
                requirements=(),
                target=target_of(layer, platform, PYTHON),
                indexes=self.indexes(),
                constraints={ONE: Version("7")},
            ),
            runtime=RuntimeLock(layer="py", python_version=PYTHON, archives={}),
            old=lock(old, platform) if old else None,
            upgrade=upgrade or Upgrade(),
        )

    def add(self, name: str, content: str = "added") -> AddedWheel:
        """Add a wheel to the wheelhouse."""
        (self.wheelhouse / name).write_text(content)
        file = LockedFile(name=name, size=len(content), sha256=sha256_file(self.wheelhouse / name))
        added = AddedWheel(wheel=file, dependencies=("other",), extras=("y",))
        write_added(self.wheelhouse, [*read_added(self.wheelhouse), added])
        return added


def lock(item: LockedDistribution, platform: Platform) -> LayerLock:
    return LayerLock(
        layer="app",
        platform=platform,
        python_version=PYTHON,
        requirements=(),
        inputs="",
        version=1,
        locked_at="",
        distributions=(item,),
        inherited=(),
        digest="",
    )


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(source_wheels, "host_platform", lambda: LINUX)
    monkeypatch.setattr(build_orders, "host_platform", lambda: LINUX)
    return Case(tmp_path)


def details(error: StackbuildError) -> dict[str, str]:
    return {"message": error.message, **dict(error.details)}


def problem(case: Case, found: Found | VcsSource | ProjectSource, **more: object) -> dict[str, str]:
    """The problem of a wheel that cannot be built here, for macOS if nothing else is said."""
    with pytest.raises(ResolveError) as caught:
        case.wheels(**{"platform": MAC, **more}).wheel_of(ONE, found)  # type: ignore[arg-type]  # options
    assert (caught.value.layer, caught.value.platform) == ("app", more.get("platform", MAC))
    assert isinstance(caught.value.problem, ResolveProblem)
    assert caught.value.problem.absent
    return details(caught.value.error([caught.value]))


@pytest.mark.parametrize("found", [COMMIT, PROJECT, FOUND])
def test_a_wheel_is_built_once(case: Case, found: Found | VcsSource | ProjectSource) -> None:
    item = case.wheels().wheel_of(ONE, found)
    (order,) = case.orders
    source = SDIST if isinstance(found, Found) else found
    is_file = isinstance(found, Found)
    assert (order.name, order.source, order.platform) == (ONE, source, LINUX)
    assert (order.version, order.url) == ((Version("1"), FOUND.url) if is_file else (None, None))
    assert (order.preferences, order.requirements) == ({ONE: Version("7")}, None)
    assert (order.layer.name, order.runtime.layer) == ("app", "py")
    assert order.indexes == case.indexes()
    assert (item.name, item.version, item.source) == (ONE, Version("1"), source)
    assert item.index == ("ours" if is_file else None)
    assert item.build == Build(
        recipe=order.recipe, requirements=(), dependencies=("dep",), extras=("x",)
    )
    assert sha256_file(case.wheelhouse / PURE) == item.wheel.sha256
    # The lock is enough, also without a machine that builds.
    assert case.wheels(old=item, builder=False).wheel_of(ONE, found) == item
    other = replace(item, name=canonicalize_name("other"))
    assert case.wheels(old=other).wheel_of(ONE, found) == item
    for upgrade in (Upgrade(everything=True), Upgrade(names=[ONE])):
        case.wheels(old=item, upgrade=upgrade).wheel_of(ONE, found)
    assert len(case.orders) == 4


def test_source_and_index_of_a_kept_wheel_are_the_new_ones(case: Case) -> None:
    item = case.wheels().wheel_of(ONE, replace(COMMIT, requested="main"))
    moved = replace(COMMIT, requested="v1")
    assert case.wheels(old=item).wheel_of(ONE, moved) == replace(item, source=moved)
    assert len(case.orders) == 1
    item = replace(case.wheels().wheel_of(ONE, FOUND), index="former", source=COMMIT)
    for upgrade in (Upgrade(), Upgrade(everything=True)):
        wheels = case.wheels(old=item, upgrade=upgrade, builder=False)
        assert wheels.wheel_of(ONE, FOUND) == replace(item, index="ours", source=SDIST)


def test_a_wheel_is_built_again_for_another_recipe(case: Case) -> None:
    item = case.wheels().wheel_of(ONE, COMMIT)
    case.wheels(old=item).wheel_of(ONE, replace(COMMIT, commit="c" * 40))
    case.wheels(old=replace(item, build=None)).wheel_of(ONE, COMMIT)
    assert len(case.orders) == 3


def test_a_pure_wheel_of_an_address_is_for_all_platforms(case: Case) -> None:
    for found in (COMMIT, PROJECT):
        here = case.wheels().wheel_of(ONE, found)
        for platform in (MAC, WINDOWS):
            assert case.wheels(platform).wheel_of(ONE, found) == here
        assert case.orders[-1].platform is LINUX
        count = len(case.orders)
        # It was built on a machine of another platform of the layer.
        made = recipe(
            case.wheels().layer,
            case.wheels(MAC).request.target,
            ONE,
            found,
            case.workspace.overlays,
        )
        assert here.build
        away = replace(here, build=replace(here.build, recipe=made))
        assert case.wheels(old=away).wheel_of(ONE, found) == away
        assert len(case.orders) == count
    strange = replace(away, wheel=replace(away.wheel, name=NATIVE), source=COMMIT)
    assert case.wheels(old=strange).wheel_of(ONE, COMMIT) != strange
    target = case.wheels(WINDOWS).request.target
    made = recipe(case.wheels().layer, target, ONE, COMMIT, case.workspace.overlays)
    strange = replace(strange, build=Build(recipe=made))
    assert case.wheels(MAC, old=strange).wheel_of(ONE, COMMIT) != strange


def test_a_native_wheel_needs_a_machine_of_its_platform(case: Case) -> None:
    case.name = NATIVE
    begin = "one must be built from source on a machine of each platform"
    remedy = (
        "run `stackbuild lock --layer app --platform host` on such a machine, copy the wheel from"
        " its wheelhouse, and add it here with `stackbuild wheel add FILE`; or leave the platform"
        " out of the `platforms` of app"
    )
    found = "this machine is linux-x64; it is built from commit aaaaaaaaaaaa of its repository"
    no = ", and its wheel is not for any platform"
    shown = problem(case, COMMIT)
    assert shown["message"].replace("one 1 ", "one ") == begin
    assert shown["distribution"] == "one"
    assert shown["found"] == found + no
    assert shown["to fix"] == remedy
    assert not (case.wheelhouse / NATIVE).exists()
    shown = problem(case, PROJECT, builder=False)
    assert shown["message"] == begin
    assert shown["found"] == f"this machine is linux-x64; it is built from lib/one{no}"
    case.files = {SDIST.name: FOUND.url}
    shown = problem(case, FOUND)
    assert shown["message"] == begin.replace("one ", "one 1 ")
    assert shown["found"] == (
        f"this machine is linux-x64; it is built from the source distribution one-1.tar.gz{no}"
    )
    case.files = {}
    shown = problem(case, FOUND)
    assert shown["message"] == begin.replace("one ", "one 1 ")
    assert shown["found"] == (
        "this machine is linux-x64; it has no compatible wheel, and `resolution` allows a source"
        " build"
    )
    assert shown["to fix"] == remedy.replace(
        "on such a machine,", "on such a machine (on this one, if the wheel is for any platform),"
    )
    assert [order.platform for order in case.orders] == [LINUX, LINUX], "no others were tried"
    case.wheels().wheel_of(ONE, COMMIT)


def test_settings_of_another_platform_need_a_machine_of_it(case: Case) -> None:
    case.spec = SPEC + (
        '[tool.stackbuild.layers.app]\nbuild-wheel.one.macosx-aarch64.reason = "patched"\n'
    )
    assert problem(case, COMMIT)["found"].startswith("this machine is linux-x64; it is built from")
    assert case.orders == []
    case.spec += 'build-wheel.one.linux-x64.reason = "patched"\n'
    case.wheels(MAC).wheel_of(ONE, COMMIT)
    assert [order.platform for order in case.orders] == [LINUX]


def test_a_wheel_for_another_platform_is_kept(case: Case) -> None:
    """Also with an upgrade: a build here would be for this machine."""
    case.name = NATIVE
    item = case.wheels().wheel_of(ONE, COMMIT)
    target = case.wheels(MAC).request.target
    made = recipe(case.wheels().layer, target, ONE, COMMIT, case.workspace.overlays)
    assert item.build
    theirs = replace(
        item,
        wheel=replace(item.wheel, name=MAC_WHEEL),
        build=replace(item.build, recipe=made),
    )
    for upgrade in (Upgrade(), Upgrade(everything=True)):
        assert case.wheels(MAC, old=theirs, upgrade=upgrade).wheel_of(ONE, COMMIT) == theirs
    assert len(case.orders) == 1
    case.name = PURE
    pure = replace(theirs, wheel=replace(item.wheel, name=PURE))
    case.content = "new"
    found = case.wheels(MAC, old=pure, upgrade=Upgrade(everything=True)).wheel_of(ONE, COMMIT)
    assert found.wheel.sha256 == hashlib.sha256(b"new").hexdigest()


def test_an_added_wheel_replaces_a_build(case: Case) -> None:
    added = case.add(NATIVE)
    item = case.wheels().wheel_of(ONE, FOUND)
    target = case.wheels().request.target
    made = recipe(case.wheels().layer, target, ONE, SDIST, case.workspace.overlays)
    assert item == LockedDistribution(
        name=ONE,
        version=Version("1"),
        wheel=added.wheel,
        index="ours",
        source=SDIST,
        build=Build(recipe=made, dependencies=("other",), extras=("y",)),
    )
    assert case.wheels().wheel_of(ONE, COMMIT).wheel == added.wheel
    assert case.orders == []
    case.wheels().wheel_of(ONE, replace(FOUND, version=Version("2")))
    assert len(case.orders) == 1, "an added wheel of another version"


def test_an_added_wheel_is_kept_on_a_machine_of_its_platform(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.add(MAC_WHEEL)
    item = case.wheels(MAC).wheel_of(ONE, COMMIT)
    remove_tree(case.wheelhouse)
    assert case.wheels(MAC, old=item).wheel_of(ONE, COMMIT) == item
    monkeypatch.setattr(source_wheels, "host_platform", lambda: MAC)
    assert case.wheels(MAC, old=item).wheel_of(ONE, COMMIT) == item
    assert case.orders == []


def test_an_added_wheel_of_a_project_is_of_one_state(case: Case) -> None:
    assert build_tag("0123456789") == "0_01234567_"
    case.add(PURE)
    item = case.wheels().wheel_of(ONE, PROJECT)
    assert len(case.orders) == 1
    assert item.build
    added = case.add(f"one-1-{build_tag(item.build.recipe)}linux-py3-none-any.whl")
    assert case.wheels().wheel_of(ONE, PROJECT).wheel == added.wheel
    case.wheels().wheel_of(ONE, replace(PROJECT, sha256="c" * 64))
    assert len(case.orders) == 2


def test_a_source_distribution_at_an_address(case: Case, tmp_path: Path) -> None:
    path = tmp_path / SDIST.name
    path.write_bytes(b"sdist")
    case.files = {SDIST.name: path.as_uri()}
    given = replace(FOUND, url=path.as_uri(), size=None)
    item = case.wheels().wheel_of(ONE, given)
    assert (item.source, item.index) == (SDIST, None)
    (order,) = case.orders
    assert (order.version, order.url) == (Version("1"), path.as_uri())
    here = case.wheels(MAC).wheel_of(ONE, given)
    assert (here.wheel, case.orders[-1].platform) == (item.wheel, LINUX)
    path.write_bytes(b"other")
    (case.wheelhouse / SDIST.name).unlink()
    with pytest.raises(IntegrityError) as caught:
        case.wheels().wheel_of(ONE, given)
    assert details(caught.value) == {
        "message": "the file at the address of a requirement is not the one of its #sha256",
        "distribution": f"one @ {path.as_uri()}",
        "expected": f"sha256 {SDIST.sha256}",
        "found": details(caught.value)["found"],
        "to fix": "correct #sha256= in the requirement, or the address",
    }
    assert hashlib.sha256(b"other").hexdigest() in details(caught.value)["found"]
    path.unlink()
    reasons, remedies = list[str](), list[str]()
    for url in (path.as_uri(), f"https://u:secret@localhost:1/{SDIST.name}"):
        with pytest.raises(FetchError) as missing:
            case.wheels().wheel_of(ONE, replace(given, url=url))
        shown = details(missing.value)
        assert shown["message"] == "the file that a requirement names is not available"
        assert shown["distribution"] == f"one @ {url.replace('u:secret@', '')}"
        assert "secret" not in str(missing.value)
        reasons.append(shown["found"])
        remedies.append(shown["to fix"])
    assert reasons[0] == f"there is no such file ({path})"
    assert reasons[1].startswith("localhost cannot be reached (https://localhost:1/one-1.tar.gz)")
    assert remedies == [
        "correct the address in the requirement; or get the file elsewhere, put it into the"
        " repository, and write 'one @ file:PATH'",
        "check the network and the proxy settings, or set a mirror",
    ]
    case.files = {}
    with pytest.raises(FetchError) as of_index:
        case.wheels().wheel_of(ONE, replace(given, url=path.as_uri(), sha256=None))
    assert details(of_index.value)["message"] != shown["message"]


def test_a_wheel_at_an_address(case: Case, tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "one", "1", {"one.py": ""}, requires=["two"])
    found = replace(FOUND, file=path.name, url=path.as_uri(), sha256=sha256_file(path), size=None)
    item, metadata = case.wheels().given_wheel(found)
    file = LockedFile(name=PURE, size=path.stat().st_size, sha256=sha256_file(path))
    assert item == LockedDistribution(name=ONE, version=Version("1"), wheel=file)
    assert metadata.dependencies == ("two",)
    with pytest.raises(ResolveError) as caught:
        case.wheels().given_wheel(replace(found, file=MAC_WHEEL))
    assert (caught.value.layer, caught.value.platform) == ("app", LINUX)
    assert details(caught.value.error([caught.value])) == {
        "message": "the required wheel does not fit the platform",
        "layer": "app",
        "platform": "linux-x64",
        "distribution": "one 1",
        "expected": "a wheel for linux-x64 (glibc 2.28) and CPython 3.12.10",
        "found": MAC_WHEEL,
        "to fix": "require another wheel there, and limit this requirement with a marker such as"
        " ; sys_platform == 'linux' and platform_machine == 'x86_64'",
    }


def test_what_of_the_old_lock_is_kept(case: Case) -> None:
    wheel = LockedFile(name=PURE, size=1, sha256="")
    item = LockedDistribution(name=ONE, version=Version("1"), wheel=wheel, source=SDIST)
    wheels = case.wheels(old=item)
    assert wheels.kept_file(ONE, PURE) == wheel
    assert wheels.kept_file(ONE, SDIST.name) == SDIST
    assert wheels.kept_file(ONE, "other") is None
    assert wheels.kept_file(canonicalize_name("two"), PURE) is None
    assert wheels.kept_commits() == {}
    commit = replace(item, source=COMMIT)
    assert case.wheels(old=commit).kept_file(ONE, COMMIT.url) is None
    assert case.wheels(old=commit).kept_commits() == {ONE: COMMIT}
    assert case.wheels().kept_commits() == {}
    for upgrade in (Upgrade(everything=True), Upgrade(names=["one"])):
        assert case.wheels(old=commit, upgrade=upgrade).kept_commits() == {}
        assert case.wheels(old=commit, upgrade=upgrade).kept_file(ONE, PURE) is None
    assert case.wheels(old=commit, upgrade=Upgrade(names=["two"])).kept_commits()


def test_upgrades_of_some_layers() -> None:
    upgrade = Upgrade(names=["one"], layers=["app"])
    assert upgrade.of("app") is upgrade
    assert upgrade.of("base") == Upgrade()
    assert replace(upgrade, layers=None).of("base")
    assert [bool(one) for one in (upgrade, Upgrade(), Upgrade(everything=True))] == [
        *(True, False, True)
    ]
    assert not replace(upgrade, names=())


# added wheels


def candidates(case: Case, server: Path, settings: str = "") -> dict[str, Path]:
    case.spec = SPEC + settings
    wheels = case.wheels()
    pages = IndexPages(default=server.as_uri)
    request = replace(wheels.request, indexes=IndexSettings(indexes=(), sources={}))
    return added_candidates(case.wheelhouse, request, wheels.layer.policy(LINUX), pages)


def page(directory: Path, *names: str) -> None:
    (directory / "one").mkdir(parents=True, exist_ok=True)
    links = "".join(f'<a href="{name}">{name}</a>' for name in names)
    (directory / "one/index.html").write_text(links)


def test_added_wheels_that_no_index_has_are_candidates(case: Case, tmp_path: Path) -> None:
    case.add(NATIVE)
    expected = {NATIVE: case.wheelhouse / NATIVE}
    server = tmp_path / "server"
    server.mkdir()
    assert candidates(case, server) == expected
    for offered in (
        ["one-2-py3-none-any.whl"],
        ["one-1-cp312-cp312-win_amd64.whl"],
        ["one-1.tar.gz"],
        [],
    ):
        page(server, *offered)
        assert candidates(case, server) == expected
    built = '[tool.stackbuild.layers.app]\nforce-source.one.linux-x64 = "x"\n'
    assert candidates(case, server, built) == expected, "nothing to build it from"
    page(server, "one-1.tar.gz")
    assert candidates(case, server, built) == {}
    other = case.add("two-1-py3-none-any.whl")
    assert list(candidates(case, server, built)) == [other.wheel.name]
    page(server, "one-2.tar.gz", PURE)
    assert list(candidates(case, server)) == [other.wheel.name]


def test_an_index_that_cannot_be_read(case: Case, tmp_path: Path) -> None:
    case.add(NATIVE)
    server = tmp_path / "server"
    (server / "one/index.html").mkdir(parents=True)
    with pytest.raises(ResolveError) as caught:
        candidates(case, server)
    assert (caught.value.layer, caught.value.platform) == ("app", LINUX)
    shown = details(caught.value.error([caught.value]))
    assert shown["message"] == "the package index cannot be read"


# source distributions


def order_of(case: Case, **more: object) -> BuildOrder:
    wheels = case.wheels()
    return BuildOrder(
        layer=wheels.layer,
        target=wheels.request.target,
        name=ONE,
        version=Version("1"),
        source=SDIST,
        runtime=wheels.runtime,
        indexes=IndexSettings(indexes=(), sources={}, files=case.files),
        recipe="",
        **more,  # type: ignore[arg-type]  # further fields
    )


def test_a_source_distribution_is_fetched_where_it_is_missing(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "there" / SDIST.name
    path.parent.mkdir()
    path.write_bytes(b"sdist")
    kept = case.wheelhouse / SDIST.name

    def fetch(**more: object) -> Path:
        case.files = {SDIST.name: more.pop("given")} if "given" in more else {}  # type: ignore[dict-item]  # addresses
        return fetch_sdist(SDIST, order_of(case, **more), case.workspace, Silent())

    remove_tree(case.workspace.project)
    for damaged in (False, True):
        if damaged:
            kept.write_bytes(b"sdis?")
        assert fetch(url=path.as_uri()) == kept
        assert kept.read_bytes() == b"sdist"
    assert fetch(url="file:///none") == kept
    kept.unlink()
    assert fetch(given=path.as_uri()) == kept
    kept.unlink()
    Addresses(case.workspace.addresses).remember(SDIST.sha256, Address(url=path.as_uri(), size=5))
    assert fetch(given="file:///none") == kept
    kept.unlink()
    path.write_bytes(b"sdis?")
    with pytest.raises(IntegrityError):
        fetch()
    assert not kept.exists()
    path.write_bytes(b"sdist")
    shorter = replace(SDIST, size=4)
    with pytest.raises(IntegrityError, match="longer than expected"):
        fetch_sdist(shorter, order_of(case, url=path.as_uri()), case.workspace, Silent())


def test_a_source_distribution_is_looked_up(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tmp_path / "server"
    page(server, "one-2.tar.gz", SDIST.name)
    (server / "one" / SDIST.name).write_bytes(b"sdist")
    monkeypatch.setattr(build_orders, "default_index", lambda _cache: server.as_uri())
    kept = case.wheelhouse / SDIST.name
    assert fetch_sdist(SDIST, order_of(case), case.workspace, Silent()) == kept
    for other in (["one-2.tar.gz"], [], [f"{SDIST.name}#sha256={'0' * 64}"]):
        kept.unlink(missing_ok=True)
        page(server, *other)
        with pytest.raises(FetchError) as caught:
            fetch_sdist(SDIST, order_of(case), case.workspace, Silent())
        assert details(caught.value) == {
            "message": "no package index has the source distribution that the lock names",
            "distribution": "one 1",
            "file": "one-1.tar.gz",
            "expected": f"sha256 {SDIST.sha256}",
            "to fix": f"copy it to {case.wheelhouse}",
        }


def test_orders_are_named_in_messages(case: Case) -> None:
    order = order_of(case)
    assert order.subject == "one 1"
    assert replace(order, source=COMMIT).subject == "one (commit aaaaaaaaaaaa)"
    assert replace(order, source=PROJECT).subject == "one (lib/one)"
    assert order.settings is None
    case.spec = SPEC + '[tool.stackbuild.layers.app]\nbuild-wheel.one.linux-x64.reason = "x"\n'
    settings = order_of(case).settings
    assert settings
    assert settings.reason == "x"


# building again


def locked_item(
    case: Case, source: Source | None = SDIST, name: str = NATIVE
) -> LockedDistribution:
    wheel = LockedFile(name=name, size=5, sha256=hashlib.sha256(b"wheel").hexdigest())
    needs = (BuildRequirement(name=ONE, version=Version("3"), sha256="d" * 64),)
    build = Build(recipe="", requirements=needs) if source else None
    case.name = name
    return LockedDistribution(
        name=ONE, version=Version("1"), wheel=wheel, source=source, build=build
    )


def build_again(case: Case, *missing: tuple[LockedDistribution, LayerLock]) -> None:
    stack = read_spec(case.workspace.project, case.spec, ALL)
    write_locks(case.workspace, [RuntimeLock(layer="py", python_version=PYTHON, archives={})], [])
    rebuild(stack, case.workspace, case.build, missing, index="https://mirror/simple")


def test_a_locked_wheel_is_built_again(case: Case) -> None:
    case.spec = SPEC + (
        'index-platforms.mac = ["macosx-aarch64"]\n'
        '[[tool.uv.index]]\nname = "mac"\nurl = "https://mac/simple"\n'
    )
    item = locked_item(case)
    build_again(case, (item, lock(item, LINUX)))
    (order,) = case.orders
    stack = read_spec(case.workspace.project, case.spec, ALL)
    app = stack.layers["app"]
    assert item.build
    assert (order.layer, order.target) == (app, target_of(app, LINUX, PYTHON))
    assert (order.name, order.version, order.source) == (ONE, Version("1"), SDIST)
    assert order.requirements == item.build.requirements
    assert order.indexes == index_settings(stack, app, LINUX, default="https://mirror/simple")
    assert order.recipe == recipe(app, order.target, ONE, SDIST, case.workspace.overlays)
    assert order.runtime.layer == "py"
    assert (case.wheelhouse / NATIVE).read_text() == "wheel"


def test_a_pure_wheel_is_built_again_for_another_platform(case: Case) -> None:
    for source in (COMMIT, PROJECT):
        item = locked_item(case, source, PURE)
        build_again(case, (item, lock(item, MAC)))
        assert case.orders[-1].platform is LINUX
    (case.wheelhouse / PURE).unlink()
    for item in (
        locked_item(case, SDIST, PURE),
        locked_item(case, COMMIT, NATIVE),
        locked_item(case, None, PURE),
    ):
        with pytest.raises(FetchError) as caught:
            build_again(case, (item, lock(item, MAC)))
        assert details(caught.value)["found"] == "this machine is linux-x64"
        assert details(caught.value)["platform"] == "macosx-aarch64"
    assert len(case.orders) == 2


def test_a_wheel_that_was_built_elsewhere(case: Case) -> None:
    item = locked_item(case)
    assert item.build
    for elsewhere in (
        replace(item, source=None),
        replace(item, build=None),
        replace(item, build=replace(item.build, requirements=None)),
    ):
        with pytest.raises(FetchError) as caught:
            build_again(case, (elsewhere, lock(elsewhere, LINUX)))
        assert details(caught.value)["found"] == "it was built elsewhere"
    assert case.orders == []


def test_a_wheel_that_differs_is_not_used(case: Case) -> None:
    item, other = locked_item(case), locked_item(case, None)
    case.content = "other"
    with pytest.raises(StackbuildError) as group:
        build_again(case, (other, lock(other, LINUX)), (item, lock(item, LINUX)))
    assert isinstance(group.value, ManyLocksError)
    elsewhere, error = group.value.errors
    assert details(elsewhere)["found"] == "it was built elsewhere"
    assert isinstance(error, IntegrityError)
    assert details(error) == {
        "message": "one 1 was built again, and differs from the locked wheel",
        "layer": "app",
        "platform": "linux-x64",
        "distribution": "one",
        "file": NATIVE,
        "expected": f"sha256 {item.wheel.sha256}",
        "found": f"sha256 {hashlib.sha256(b'other').hexdigest()} ({NATIVE})",
        "to fix": "add the locked wheel with `stackbuild wheel add FILE`, or lock this one with"
        " `stackbuild lock --upgrade-package one`",
    }
    assert not (case.wheelhouse / NATIVE).exists()


# recipes


def recipe_of(
    case: Case,
    settings: str = "",
    source: Source = SDIST,
    *,
    platform: Platform = LINUX,
    python: Version = PYTHON,
    name: str = "one",
    layer: Mapping[str, object] | None = None,
) -> str:
    app = read_spec(case.directory, SPEC, ALL, settings).layers["app"]
    app = replace(app, **(layer or {}))  # type: ignore[arg-type]  # fields of layers
    target = target_of(app, platform, python)
    return recipe(app, target, canonicalize_name(name), source, case.workspace.overlays)


def test_what_a_recipe_consists_of(case: Case) -> None:
    own = "[tool.stackbuild.layers.app.build-wheel.one.linux-x64]\nreason = '{}'\n{}"
    recipes = [
        recipe_of(case),
        recipe_of(case, source=replace(SDIST, sha256="e" * 64)),
        recipe_of(case, source=COMMIT),
        recipe_of(case, source=replace(COMMIT, commit="f" * 40)),
        recipe_of(case, source=replace(COMMIT, subdirectory="sub")),
        recipe_of(case, source=PROJECT),
        recipe_of(case, name="two"),
        recipe_of(case, platform=Platform.LINUX_AARCH64),
        recipe_of(case, python=Version("3.12.11")),
        recipe_of(case, layer={"linux_target": "glibc@2.34"}),
        recipe_of(case, own.format("x", "build-requires = ['two']")),
        recipe_of(case, own.format("x", "config-settings = { a = 'b' }")),
        recipe_of(case, own.format("x", "config-settings = { a = '{packageRoot}/b' }")),
        recipe_of(case, "[tool.stackbuild.layers.app.build.environment]\nA = 'b'\n"),
    ]
    assert len(set(recipes)) == len(recipes)
    # What a build does not depend on.
    assert recipe_of(case, source=replace(SDIST, name="other.tar.gz", size=9)) == recipes[0]
    assert recipe_of(case, own.format("y", "")) == recipe_of(case, own.format("x", ""))
    moved = replace(COMMIT, url="https://h/other", requested="main")
    assert recipe_of(case, source=moved) == recipes[2]
    # The wheel of a project may be for any platform.
    for more in ({"platform": MAC}, {"layer": {"linux_target": "glibc@2.34"}}):
        assert recipe_of(case, source=replace(PROJECT, path="x"), **more) == recipes[5]
    # Files of the layer's directory, if the settings name it.
    file = case.workspace.overlays / "app/b"
    file.parent.mkdir(parents=True)
    file.write_text("new")
    assert recipe_of(case) == recipes[0]
    settings = own.format("x", "config-settings = { a = '{packageRoot}/b' }")
    assert recipe_of(case, settings) != recipes[12]


def test_recipes_stay_the_same(case: Case) -> None:
    """Another recipe means that all wheels are built again: raise `RECIPE` where that is due."""
    variables = "[tool.stackbuild.layers.app.build.environment]\nA = 'b'\n"
    assert [recipe_of(case, text, source=COMMIT) for text in ("", variables)] == [
        "3c86711f30b2b1b79fa3beb657d4dba38789d29f3f4e70dbaf8112637de4f540",
        "4fd1a00d0b3863b8d70dc8763363041b7c18800685c9b34ccc7c7ccd4f5f6a9a",
    ]
