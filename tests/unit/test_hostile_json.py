"""Every reader of JSON gets valid documents with one or two values replaced by hostile ones."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackbuild.builds.kept import Kept, KeptWheel
from stackbuild.compose.manifest import Index, Manifest
from stackbuild.compose.serialize import canonical_json, index_from_json, manifest_from_json
from stackbuild.errors import StackbuildError
from stackbuild.frames.cache import dump_frame_set
from stackbuild.frames.cache import read_frame_set as read_set
from stackbuild.frames.model import EntryPoint, Frame, FrameKind, FrameSet
from stackbuild.install.install import install
from stackbuild.install.state import State, damaged, mark_damaged, read_state
from stackbuild.install.store import Listing, Store, StoredFile
from stackbuild.lock.added import AddedWheel, read_added, write_added
from stackbuild.lock.index_pages import Address, Addresses
from stackbuild.lock.model import LockedFile
from stackbuild.messages import Silent
from stackbuild.registry.directory import DirectoryRegistry
from tests.support.publish import publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.support.publish import Publisher

VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2**63 - 1, 2**63, 10**400, 1.5, float("inf"), float("nan")),
    *("", "a", "a" * 300, "a" * 5000, "\0", "../x", "/etc/passwd", ".", "a/b", "C:/x", "\ud800"),
    *("é", "a\nb", "\x1b[2J", "-rf", "3.12", "9" * 5000, "0" * 64, "runtime", "tar.xz"),
    *([], {}, [[]], [{}], {"a": 1}, [None], ["a"], ["a", "a"], [1, 2, 3, 4, 5]),
)
DEEP = "nested" * 20
"""Stands for 1,500 arrays inside each other, which Python cannot copy or write itself."""

SETTINGS = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a document, its own first."""
    found = [path]
    for key, item in _children(value):
        found += places(item, (*path, key))
    return found


def _children(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


@st.composite
def changes(draw: st.DrawFn) -> Callable[[Any], Any]:
    """A function that returns a document with hostile values in one or two places."""
    steps = draw(
        st.lists(
            st.tuples(
                st.floats(0, 1, exclude_max=True),
                st.sampled_from(["set", "set", "set", "deep", "drop", "add", "repeat"]),
                st.sampled_from(VALUES),
            ),
            min_size=1,
            max_size=2,
        )
    )

    def change(document: Any) -> Any:
        value = copy.deepcopy(document)
        for position, action, chosen in steps:
            hostile = copy.deepcopy(chosen)
            found = places(value)
            path = found[int(position * len(found))]
            if not path:
                value = DEEP if action == "deep" else hostile
                continue
            parent = value
            for key in path[:-1]:
                parent = parent[key]
            if action == "drop":
                del parent[path[-1]]
            elif action == "add" and isinstance(parent, dict):
                parent[str(hostile)[:400]] = hostile
            elif action == "repeat" and isinstance(parent, list):
                parent.append(copy.deepcopy(parent[path[-1]]))
            else:
                parent[path[-1]] = DEEP if action == "deep" else hostile
        return value

    return change


def encoded(value: Any) -> bytes:
    """The document as JSON."""
    return json.dumps(value).replace(f'"{DEEP}"', "[" * 1500 + "]" * 1500).encode()


def typed(value: Any, kinds: Any) -> bool:
    """Whether a dataclass holds what its annotations say, as far as JSON can be wrong."""
    return all(type(getattr(value, name)) is kind for name, kind in kinds.items())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    made = publisher(tmp_path_factory.mktemp("hostile"))
    made.stack()
    return made


@pytest.fixture(scope="module")
def root(made: Publisher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile") / "root"
    install(["atls"], DirectoryRegistry(made.directory), root, made.platform, Silent())
    return root


def only_ours(read: Callable[[], Any]) -> Any:
    """What `read` returns; None for an error of ours, which a message can hold."""
    try:
        return read()
    except StackbuildError as error:
        str(error).encode()
        assert len(str(error)) < 2000  # noqa: PT017 - any of ours will do, if it is short
        return None


@SETTINGS
@given(changes())
def test_index(made: Publisher, change: Callable[[Any], Any]) -> None:
    value = json.loads((made.directory / "index.json").read_bytes())
    result = only_ours(lambda: index_from_json(encoded(change(value))))
    assert result is None or type(result) is Index


@SETTINGS
@given(changes(), st.booleans())
def test_manifest(made: Publisher, change: Callable[[Any], Any], honest: bool) -> None:
    index = DirectoryRegistry(made.directory).index()
    entry = index.entries["atls"][made.platform][0]
    value = change(json.loads((made.directory / entry.manifest).read_bytes()))
    if honest:
        correct_digest(value)
    result = only_ours(lambda: manifest_from_json(encoded(value)))
    assert result is None or type(result) is Manifest


def correct_digest(value: Any) -> None:
    """Give a changed manifest the digest it must have, so that a reader looks at the rest."""
    if isinstance(value, dict):
        body = {key: item for key, item in value.items() if key not in {"digest", "archive"}}
        try:
            value["digest"] = hashlib.sha256(canonical_json(body)).hexdigest()
        except (ValueError, RecursionError):
            return


@settings(SETTINGS, max_examples=80)
@given(changes(), st.sampled_from(["cpython-3.12", "framework", "atls"]))
def test_installing_what_a_hostile_publisher_says(
    made: Publisher, tmp_path_factory: pytest.TempPathFactory, change: Callable[[Any], Any], of: str
) -> None:
    directory = tmp_path_factory.mktemp("published")
    place = directory / "exports"
    place.symlink_to(made.directory)
    index = json.loads((made.directory / "index.json").read_bytes())
    entry = index["layers"][of][str(made.platform)][0]
    value = change(json.loads((made.directory / entry["manifest"]).read_bytes()))
    correct_digest(value)
    data = encoded(value)
    entry |= {"manifest": "m/changed.json", "sha256": hashlib.sha256(data).hexdigest()}
    if isinstance(value, dict):
        entry |= {key: value[key] for key in ("digest", "lock") if key in value}
    place.unlink()
    (place / "m").mkdir(parents=True)
    (place / str(made.platform)).symlink_to(made.directory / str(made.platform))
    for archive in (made.directory / str(made.platform)).glob("*.tar.zst"):
        (place / "m" / archive.name).symlink_to(archive)
    (place / "m/changed.json").write_bytes(data)
    (place / "index.json").write_bytes(encoded(index))
    registry = DirectoryRegistry(place)
    only_ours(lambda: install(["atls"], registry, directory / "root", made.platform, Silent()))
    assert {path.name for path in directory.iterdir()} <= {"exports", "root"}


@pytest.mark.parametrize("name", ["state.json", "manifests/atls.json", "damaged.json"])
@SETTINGS
@given(change=changes())
def test_state(root: Path, tmp_path: Path, name: str, change: Callable[[Any], Any]) -> None:
    generation = tmp_path / "generations/1"
    own = generation / ".stackbuild"
    if not own.exists():
        shutil.copytree(root / "current/.stackbuild", own)
        mark_damaged(generation, ["atls"], ["0" * 64])
        (own / name).rename(own / "original")
    (own / name).write_bytes(encoded(change(json.loads((own / "original").read_bytes()))))
    state = only_ours(lambda: read_state(generation))
    assert state is None or type(state) is State
    lists = only_ours(lambda: damaged(generation))
    assert lists is None or all(type(text) is str for items in lists for text in items)


@SETTINGS
@given(changes())
def test_listing_of_the_store(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    listing = Listing(
        directories=("bin",),
        files=(StoredFile("bin/x", 3, True, 7, 99), StoredFile("y", 3, False, 7, 99)),
        links=(("bin/l", "x"),),
    )
    store = Store(tmp_path)
    path = store.listing_path("0" * 64)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encoded(change(json.loads(listing.to_json()))))
    found = only_ours(lambda: store.listing("0" * 64))
    if found is not None:
        kinds = {"path": str, "size": int, "executable": bool, "crc32": int, "mtime_ns": int}
        assert all(typed(file, kinds) for file in found.files)
        texts = [*found.directories, *(text for link in found.links for text in link)]
        assert all(type(text) is str for text in texts)


@SETTINGS
@given(changes())
def test_frame_set(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    frame = Frame(
        kind=FrameKind.HEAD,
        subject="x",
        sha256="0" * 64,
        size=1,
        content_size=2,
        files=3,
        content_sha256="1" * 64,
    )
    point = EntryPoint(name="n", module="m", attribute="a")
    full = FrameSet(key="k", frames=(frame,), paths=("a",), entry_points=(point,), pth=("x",))
    path = tmp_path / "k.json"
    path.write_bytes(encoded(change(json.loads(dump_frame_set(full)))))
    try:
        found = read_set(path)
    except ValueError:
        return
    kinds = {"name": str, "module": str, "attribute": str, "gui": bool}
    assert all(typed(one, kinds) for one in found.entry_points)
    counts = {"size": int, "content_size": int, "files": int}
    assert all(typed(one, counts | {"subject": str, "sha256": str}) for one in found.frames)
    assert type(found.licence) in {str, type(None)}
    assert all(type(text) is str for text in (found.key, *found.paths, *found.pth))


@SETTINGS
@given(changes())
def test_added_wheels(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    wheel = LockedFile(name="a-1-py3-none-any.whl", size=1, sha256="0" * 64)
    path = tmp_path / "added.json"
    original = tmp_path / "original"
    if not original.exists():
        write_added(tmp_path, [AddedWheel(wheel=wheel, dependencies=("b>=1",), extras=("e",))])
        path.rename(original)
    path.write_bytes(encoded(change(json.loads(original.read_bytes()))))
    for item in only_ours(lambda: read_added(tmp_path)) or []:
        assert typed(item.wheel, {"name": str, "size": int, "sha256": str})
        assert all(type(text) is str for text in (*item.dependencies, *item.extras))
        assert item.name
        assert item.version


@SETTINGS
@given(changes())
def test_addresses(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    addresses = Addresses(tmp_path)
    sha256 = "0" * 64
    path = tmp_path / "00" / f"{sha256}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encoded(change({"url": "https://h/f", "size": 1})))
    found = addresses.get(sha256)
    assert found is None or (type(found) is Address and typed(found, {"url": str, "size": int}))


@SETTINGS
@given(changes())
def test_kept_wheels(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    kept = Kept(tmp_path)
    wheel = tmp_path / "a-1-py3-none-any.whl"
    if not wheel.exists():
        wheel.write_bytes(b"x")
        kept.put("k", wheel, {"libz.so": "zlib"})
        kept.remember_requires("r", ["setuptools"])
        for path in (tmp_path / "keys/k.json", tmp_path / "recipes/r.json"):
            path.rename(path.with_suffix(".original"))
    for path in (tmp_path / "keys/k.json", tmp_path / "recipes/r.json"):
        original = json.loads(path.with_suffix(".original").read_bytes())
        path.write_bytes(encoded(change(original)))
    found = kept.get("k")
    assert found is None or type(found) is KeptWheel
    if found is not None:
        pairs = found.foreign.items()
        assert all(type(text) is str for pair in pairs for text in pair)
    requires = kept.requires("r")
    assert requires is None or all(type(text) is str for text in requires)
