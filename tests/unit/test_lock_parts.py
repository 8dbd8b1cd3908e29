"""The parts of locking that need neither uv nor an index."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.pylock import Pylock
from packaging.tags import Tag
from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.cli.lock import summary
from stackbuild.errors import LockError
from stackbuild.lock.files import (
    lock_text,
    read_lock,
    read_runtime_lock,
    runtime_lock_path,
    write_locks,
)
from stackbuild.lock.indexes import IndexSettings, without_secrets
from stackbuild.lock.inputs import contents
from stackbuild.lock.model import (
    Build,
    BuildRequirement,
    Inherited,
    LayerLock,
    LeftOut,
    LockedDistribution,
    LockedFile,
    ProjectSource,
    RuntimeLock,
    VcsSource,
    content_digest,
)
from stackbuild.lock.projects import digest_of_files, files_of
from stackbuild.lock.runtime import is_current, lock_runtime
from stackbuild.lock.targets import target_of
from stackbuild.mark import Kind, write_mark
from stackbuild.platforms import DEFAULT_PLATFORMS, Platform
from stackbuild.project.files import ProjectFiles
from stackbuild.resolve.lock_stack import LockReport, change_of
from stackbuild.resolve.request import ResolveRequest
from stackbuild.resolve.uv import Uv
from stackbuild.spec.model import Download, Layer, LayerKind, PackageIndex, RuntimeSettings
from stackbuild.strictjson import digest_of
from stackbuild.tomltext import fields, inline, section
from stackbuild.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackbuild.lock.model import Source

PYTHON = Version("3.12.10")


def _layer(**fields: object) -> Layer:
    values: dict[str, object] = {
        "name": "fw",
        "kind": LayerKind.FRAMEWORK,
        "requirements": (),
        "platforms": tuple(Platform),
        "runtime": "rt",
        "frameworks": (),
    }
    return Layer(**(values | fields))  # type: ignore[arg-type]  # any field, for brevity


def _runtime(**settings: object) -> Layer:
    chosen = RuntimeSettings(**settings)  # type: ignore[arg-type]  # any field, for brevity
    return _layer(name="rt", kind=LayerKind.RUNTIME, runtime_settings=chosen)


def _lock(
    distributions: Sequence[LockedDistribution] = (),
    inherited: Sequence[Inherited] = (),
    interpreter: str | None = None,
) -> LayerLock:
    return LayerLock(
        layer="fw",
        platform=Platform.LINUX_X64,
        python_version=PYTHON,
        requirements=("base>=1",),
        inputs="0" * 64,
        version=3,
        locked_at="2026-01-02T03:04:05Z",
        distributions=tuple(distributions),
        inherited=tuple(inherited),
        digest=content_digest(distributions, interpreter),
        interpreter=interpreter,
    )


def _distribution(name: str, version: str, sha256: str = "a" * 64) -> LockedDistribution:
    wheel = LockedFile(
        name=f"{name.replace('-', '_')}-{version}-py3-none-any.whl", size=7, sha256=sha256
    )
    return LockedDistribution(name=canonicalize_name(name), version=Version(version), wheel=wheel)


NAMES = st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,5})?", fullmatch=True)
VERSIONS = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}(rc1|\.post2|\+cu124)?", fullmatch=True)
SHA256 = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
DISTRIBUTIONS = st.lists(
    st.builds(_distribution, NAMES, VERSIONS, SHA256), max_size=6, unique_by=lambda item: item.name
)
INHERITED = st.lists(
    st.builds(
        Inherited,
        name=NAMES.map(canonicalize_name),
        version=VERSIONS.map(Version),
        layer=st.sampled_from(["rt", "base-1.0"]),
    ),
    max_size=3,
)


def _write(path: Path, lock: LayerLock) -> None:
    write_locks(Workspace(project=path.parents[2], cache=path, jobs=1), [], [lock])


@settings(max_examples=40)  # each writes a file
@given(DISTRIBUTIONS, INHERITED, st.none() | SHA256, st.lists(st.text(max_size=20), max_size=3))
def test_a_lock_reads_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    distributions: list[LockedDistribution],
    inherited: list[Inherited],
    interpreter: str | None,
    requirements: list[str],
) -> None:
    lock = replace(_lock(distributions, inherited, interpreter), requirements=tuple(requirements))
    path = tmp_path_factory.mktemp("project") / "layers/fw/pylock.linux-x64.toml"
    _write(path, lock)
    assert read_lock(path) == lock
    assert path.read_text(encoding="utf-8") == lock_text(lock, path.name)


@settings(max_examples=40)
@given(DISTRIBUTIONS)
def test_every_lock_is_valid_pep_751(distributions: list[LockedDistribution]) -> None:
    text = lock_text(_lock(distributions), "pylock.linux-x64.toml")
    lock = Pylock.from_dict(tomli.loads(text))
    assert [package.name for package in lock.packages] == [item.name for item in distributions]


LAYERS = Path(__file__).parents[2] / "layers"


@pytest.mark.parametrize(
    "path",
    sorted(LAYERS.glob("*/pylock.*.toml")),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_a_lock_is_written_byte_for_byte_as_it_was(path: Path) -> None:
    assert lock_text(read_lock(path), path.name) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path", sorted(LAYERS.glob("*/runtime.toml")), ids=lambda path: path.parent.name
)
def test_the_lock_of_a_runtime_is_written_byte_for_byte_as_it_was(
    path: Path, tmp_path: Path
) -> None:
    lock = read_runtime_lock(
        Workspace(project=LAYERS.parent, cache=tmp_path, jobs=1), path.parent.name
    )
    written = Workspace(project=tmp_path, cache=tmp_path, jobs=1)
    write_locks(written, [lock], [])
    assert runtime_lock_path(written, lock.layer).read_bytes() == path.read_bytes()


def test_all_locks_are_written_or_none(tmp_path: Path) -> None:
    workspace = Workspace(project=tmp_path, cache=tmp_path, jobs=1)
    runtime = RuntimeLock(layer="rt", python_version=PYTHON, archives={})
    locks = [replace(_lock([]), layer=layer) for layer in ("first", "second", "third")]
    write_locks(workspace, [runtime], locks[:1])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.toml")}
    (tmp_path / "layers/second").touch()
    newer = replace(runtime, python_version=Version("3.12.1"))
    with pytest.raises(OSError, match="second"):
        write_locks(workspace, [newer], [replace(lock, version=9) for lock in locks])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path: path.read_bytes() for path in files if path.name != "second"} == before


def test_the_lock_of_a_runtime_without_archives_is_read_again(tmp_path: Path) -> None:
    workspace = Workspace(project=tmp_path, cache=tmp_path, jobs=1)
    lock = RuntimeLock(layer="rt", python_version=PYTHON, archives={})
    write_locks(workspace, [lock], [])
    assert read_runtime_lock(workspace, "rt") == lock


TOML_VALUES = st.recursive(
    st.text() | st.integers(-(2**63), 2**63 - 1) | st.booleans(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), TOML_VALUES, max_size=4), st.booleans())
def test_toml_reads_as_it_was_written(values: dict[str, object], multiline: bool) -> None:
    assert tomli.loads(fields(values, multiline=multiline)) == values
    assert tomli.loads(section("[a.b]", values)) == {"a": {"b": values}}


def test_control_characters_are_escaped_in_toml() -> None:
    assert inline('\x00\x1f\x7f\t"\\é') == r'"\u0000\u001f\u007f\t\"\\é"'


def test_the_digest_of_a_project_covers_names_modes_contents_and_links(tmp_path: Path) -> None:
    file, link = tmp_path / "one.py", tmp_path / "two.py"
    file.write_text("1")
    link.symlink_to("one.py")
    digests = [digest_of_files(tmp_path, [file])]
    file.chmod(0o645)
    assert digest_of_files(tmp_path, [file]) == digests[0], "not executable for its owner"
    digests.append(digest_of_files(tmp_path, [file, link]))
    file.chmod(0o755)
    digests.append(digest_of_files(tmp_path, [file]))
    file.write_text("2")
    digests.append(digest_of_files(tmp_path, [file]))
    assert len({*digests}) == len(digests)
    # Locks contain such digests.
    one = hashlib.sha256(b"1").hexdigest()
    link_to_one = ("two.py", "link", "one.py")
    assert digests[1] == digest_of([("one.py", "file", one), link_to_one])
    assert digests[2] == digest_of([("one.py", "executable", one)])
    with pytest.raises(LockError) as caught:
        digest_of_files(tmp_path, [tmp_path / "gone"])
    assert str(caught.value).splitlines()[1:] == [
        f"  file: {tmp_path / 'gone'}",
        "  to fix: make it readable, or let git ignore it",
    ]
    (tmp_path / "inner").mkdir()
    for target in ("../one.py", str(tmp_path / "inner/file")):
        out = tmp_path / "inner/out"
        out.unlink(missing_ok=True)
        out.symlink_to(target)
        with pytest.raises(LockError, match="a link leads out of a project") as caught:
            digest_of_files(tmp_path / "inner", [out])
        assert str(caught.value).splitlines() == [
            "a link leads out of a project that a wheel is built from",
            f"  file: {out}",
            "  expected: a relative link to a file in inner",
            f"  found: a link to {target}",
            "  to fix: replace the link by a copy of the file, or let git ignore it",
        ]


@pytest.mark.skipif(os.name == "nt", reason="named pipes")
def test_what_commands_made_is_no_source_of_a_project(tmp_path: Path) -> None:
    source, pipe = tmp_path / "pyproject.toml", tmp_path / "pipe"
    source.touch()
    os.mkfifo(pipe)
    for kind in (Kind.WHEELS, Kind.LAYERS, Kind.ROOT):
        write_mark(tmp_path / "made" / kind, kind)
        (tmp_path / "made" / kind / "inner").mkdir()
        (tmp_path / "made" / kind / "inner/file").touch()
    (tmp_path / "pydist").mkdir()
    (tmp_path / "pydist/.linux-x64.lock").touch()
    assert files_of(".", ProjectFiles(tmp_path)) == [source]
    with pytest.raises(LockError, match="cannot be read") as caught:
        digest_of_files(tmp_path, [pipe])
    assert "it is a named pipe" in str(caught.value)


COMMIT = st.from_regex(r"[0-9a-f]{40}", fullmatch=True)
FILES = st.builds(LockedFile, name=st.just("zz-1.tar.gz"), size=st.integers(0, 9), sha256=SHA256)
SOURCES = (
    FILES
    | st.builds(
        VcsSource,
        url=st.just("https://git.example/ours.git"),
        commit=COMMIT,
        requested=st.none() | st.just("main"),
        subdirectory=st.none() | st.just("python/ours"),
    )
    | st.builds(ProjectSource, path=st.just("services/ours"), sha256=SHA256)
)
LEFT_OUT = st.lists(
    st.builds(LeftOut, name=NAMES.map(canonicalize_name), reason=st.text(min_size=1, max_size=20)),
    max_size=2,
).map(tuple)


BUILDS = st.builds(
    Build,
    recipe=SHA256,
    requirements=st.none()
    | st.lists(
        st.builds(
            BuildRequirement,
            name=NAMES.map(canonicalize_name),
            version=VERSIONS.map(Version),
            sha256=SHA256,
        ),
        max_size=2,
    ).map(tuple),
    dependencies=st.sampled_from([(), ("numpy>=2; python_version > '3'", "b[c]")]),
    extras=st.sampled_from([(), ("c",)]),
)


@settings(max_examples=40)
@given(SOURCES, BUILDS, st.sampled_from([None, "more"]), LEFT_OUT, LEFT_OUT)
def test_sources_and_what_is_left_out_read_as_written(
    tmp_path_factory: pytest.TempPathFactory,
    source: Source,
    build: Build,
    index: str | None,
    skipped: tuple[LeftOut, ...],
    omitted: tuple[LeftOut, ...],
) -> None:
    distributions = [replace(_distribution("zz", "1"), source=source, build=build, index=index)]
    lock = replace(_lock(distributions), skipped=skipped, omitted=omitted)
    path = tmp_path_factory.mktemp("project") / "layers/fw/pylock.linux-x64.toml"
    _write(path, lock)
    assert read_lock(path) == lock
    names = [package.name for package in Pylock.from_dict(tomli.loads(path.read_text())).packages]
    assert names == ["zz"]
    plain = [replace(item, source=None, build=None) for item in distributions]
    assert lock.digest != content_digest(plain, None)


def test_locks_of_older_formats_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not name their inputs."""
    project = ProjectSource(path="services/ours", sha256="b" * 64)
    item, build = _distribution("zz", "1"), Build(recipe="c" * 64)
    path = tmp_path / "layers/fw/pylock.linux-x64.toml"
    for lock, format_ in (
        (_lock([item]), 1),
        (_lock([replace(item, source=project, build=build)]), 2),
        (replace(_lock([item]), parts=("the target 1234abcd",)), 3),
    ):
        with monkeypatch.context() as patched:
            patched.setattr("stackbuild.lock.files.FORMAT", format_)
            _write(path, lock)
        assert f"\nformat = {format_}\n" in path.read_text()
        assert read_lock(path) == lock


def test_a_file_that_no_lock_can_name_is_not_written(tmp_path: Path) -> None:
    file = LockedFile(name="zz-1-beta.tar.gz", size=1, sha256="b" * 64)
    built = Build(recipe="c" * 64)
    path = tmp_path / "layers/fw/pylock.linux-x64.toml"
    with pytest.raises(LockError, match="a resolved file cannot be written to a lock") as caught:
        _write(path, _lock([replace(_distribution("zz", "1"), source=file, build=built)]))
    assert "found: packages[0].sdist is not as PEP 751 says" in str(caught.value)
    assert not path.exists()


def test_a_source_without_how_it_was_built_is_damage(tmp_path: Path) -> None:
    file = LockedFile(name="zz-1.tar.gz", size=1, sha256="b" * 64)
    lock = _lock([replace(_distribution("zz", "1"), source=file)])
    path = tmp_path / "layers/fw/pylock.linux-x64.toml"
    _write(path, lock)
    with pytest.raises(LockError, match="needs a source and how it was built, or neither"):
        read_lock(path)


@given(DISTRIBUTIONS, DISTRIBUTIONS)
def test_different_contents_have_different_digests(
    one: list[LockedDistribution], two: list[LockedDistribution]
) -> None:
    assert (content_digest(one, None) == content_digest(two, None)) == (one == two)
    assert content_digest(one, None) != content_digest(one, "a" * 64)


@pytest.mark.parametrize(
    ("target", "uv_platform"),
    [
        (None, "x86_64-manylinux_2_28"),
        ("glibc@2.17", "x86_64-manylinux_2_17"),
        ("glibc@2.30", "x86_64-manylinux_2_28"),
        ("glibc@2.34", "x86_64-manylinux_2_34"),
        ("glibc@2.99", "x86_64-manylinux_2_40"),
    ],
)
def test_uv_is_asked_for_no_newer_glibc(target: str | None, uv_platform: str) -> None:
    chosen = target_of(_layer(linux_target=target), Platform.LINUX_X64, PYTHON)
    assert chosen.uv_platform == uv_platform


def test_a_glibc_that_no_wheel_can_be_chosen_for() -> None:
    with pytest.raises(LockError, match="`linux_target` is not supported") as caught:
        target_of(_layer(linux_target="glibc@2.12"), Platform.LINUX_X64, PYTHON)
    assert "expected: glibc@2.17 or higher" in str(caught.value)


@pytest.mark.parametrize(
    ("platform", "fits", "does_not"),
    [
        (Platform.LINUX_X64, "manylinux_2_28_x86_64", "manylinux_2_29_x86_64"),
        (Platform.LINUX_X64, "manylinux1_x86_64", "manylinux2014_aarch64"),
        (Platform.LINUX_X64, "linux_x86_64", "musllinux_1_2_x86_64"),
        (Platform.LINUX_AARCH64, "manylinux2014_aarch64", "manylinux2010_aarch64"),
        (Platform.MACOSX_X64, "macosx_13_0_x86_64", "macosx_14_0_x86_64"),
        (Platform.MACOSX_X64, "macosx_10_9_universal2", "macosx_11_0_arm64"),
        (Platform.MACOSX_AARCH64, "macosx_11_0_arm64", "macosx_10_9_x86_64"),
        (Platform.WINDOWS_X64, "win_amd64", "win_arm64"),
        (Platform.WINDOWS_AARCH64, "win_arm64", "win_amd64"),
    ],
)
def test_tags_of_a_target(platform: Platform, fits: str, does_not: str) -> None:
    tags = target_of(_layer(), platform, PYTHON).tags()
    for interpreter, abi in (("cp312", "cp312"), ("cp39", "abi3"), ("py3", "none")):
        assert Tag(interpreter, abi, fits) in tags
        assert Tag(interpreter, abi, does_not) not in tags
    assert Tag("py3", "none", "any") in tags
    assert Tag("cp313", "cp313", fits) not in tags
    assert Tag("cp311", "cp311", fits) not in tags


def test_a_target_of_macos_reaches_uv() -> None:
    target = target_of(_layer(macosx_target="12"), Platform.MACOSX_AARCH64, PYTHON)
    assert target.uv_environment == {"MACOSX_DEPLOYMENT_TARGET": "12.0"}
    assert target.uv_platform == "aarch64-apple-darwin"
    assert target_of(_layer(), Platform.LINUX_X64, PYTHON).uv_environment == {}


def test_the_difference_of_two_locks() -> None:
    old = _lock([_distribution("a", "1"), _distribution("b", "1"), _distribution("c", "1")])
    new = _lock(
        [_distribution("a", "2"), _distribution("c", "1", "b" * 64), _distribution("d", "1")]
    )
    change = change_of(new, old)
    assert change.state == "changed"
    assert change.added == (("d", "1"),)
    assert change.removed == (("b", "1"),)
    assert change.upgraded == (("a", "1", "2"),)
    assert change.refiled == (("c", "1"),)
    assert change_of(old, new).downgraded == (("a", "2", "1"),)
    assert change_of(new, None).state == "new"
    assert change_of(new, new).state == "current"
    assert change_of(replace(new, inputs="1" * 64), new).state == "renewed"


def test_a_line_for_each_layer() -> None:
    first = _lock([_distribution("a", "1"), _distribution("b", "1")])
    upgraded = change_of(_lock([_distribution("a", "2"), _distribution("c", "1")]), first)
    elsewhere = (Platform.WINDOWS_X64, Platform.LINUX_AARCH64)
    changes = [upgraded, *(replace(change_of(first, first), platform=one) for one in elsewhere)]
    changes += [replace(change_of(first, None), layer="other", platform=one) for one in elsewhere]
    changes.append(replace(upgraded, layer="third", interpreter=True, own=True, version=3))
    difference = "upgraded a 1 -> 2, added c 1, removed b 1"
    assert list(summary(LockReport(changes=tuple(changes)))) == [
        f"fw     changed on linux-x64: {difference}; current on windows-x64, linux-aarch64",
        "other  new: 2 distributions",
        "third  changed: a different archive of the interpreter, "
        f"modules, overlays or a version below (now version 3), {difference}",
        "6 locks: 2 new, 2 changed, 2 current",
    ]


def test_the_table_names_a_stripped_archive_for_each_platform() -> None:
    lock = lock_runtime(_runtime(), PYTHON, DEFAULT_PLATFORMS, None, lambda *_: True)
    for platform in DEFAULT_PLATFORMS:
        archive = lock.archives[platform]
        assert "3.12.10" in archive.url
        assert archive.url.endswith("-install_only_stripped.tar.gz")
        assert len(archive.sha256) == 64


def test_an_environment_variable_does_not_change_the_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PBS_INSTALLER_BASE_URL", "https://hostile.example/")
    lock = lock_runtime(_runtime(), PYTHON, [Platform.LINUX_X64], None, lambda *_: True)
    assert "hostile" not in lock.archives[Platform.LINUX_X64].url


def test_an_archive_of_the_spec_comes_first() -> None:
    own = Download(url="https://mirror.example/python.tar.gz", sha256="a" * 64)
    layer = _runtime(downloads={Platform.LINUX_X64: own})
    lock = lock_runtime(layer, Version("3.99.0"), [Platform.LINUX_X64], None, lambda *_: True)
    assert lock.archives == {Platform.LINUX_X64: own}
    assert is_current(layer, Version("3.99.0"), Platform.LINUX_X64, lock)
    other = _runtime(downloads={Platform.LINUX_X64: replace(own, sha256="b" * 64)})
    assert not is_current(other, Version("3.99.0"), Platform.LINUX_X64, lock)
    assert not is_current(layer, Version("3.99.1"), Platform.LINUX_X64, lock)
    with pytest.raises(LockError, match=r"has no CPython 3\.99\.0"):
        lock_runtime(layer, Version("3.99.0"), [Platform.MACOSX_X64], lock, lambda *_: True)


def test_an_archive_that_the_spec_names_no_longer_goes() -> None:
    own = Download(url="https://mirror.example/python.tar.gz", sha256="a" * 64)
    named = _runtime(downloads={Platform.LINUX_X64: own})
    old = lock_runtime(named, PYTHON, [Platform.LINUX_X64], None, lambda *_: True)
    assert not is_current(_runtime(), PYTHON, Platform.LINUX_X64, old)
    new = lock_runtime(_runtime(), PYTHON, [Platform.LINUX_X64], old, lambda *_: True)
    assert "install_only_stripped" in new.archives[Platform.LINUX_X64].url
    assert new.from_spec == frozenset()


def test_archives_stay_until_somebody_changes_them() -> None:
    old = lock_runtime(_runtime(), PYTHON, [Platform.LINUX_X64], None, lambda *_: True)
    changed = replace(
        old, archives={Platform.LINUX_X64: Download(url="https://x.example/", sha256="f" * 64)}
    )
    layer = _runtime()
    kept = lock_runtime(layer, PYTHON, [Platform.LINUX_X64], changed, lambda *_: True)
    assert kept == changed
    again = lock_runtime(layer, PYTHON, [Platform.LINUX_X64], changed, lambda *_: False)
    assert again == old


def test_a_local_runtime_has_no_archives() -> None:
    layer = _runtime(sources=("local",))
    lock = lock_runtime(layer, Version("3.99.0"), list(Platform), None, lambda *_: True)
    assert lock.archives == {}
    assert is_current(layer, Version("3.99.0"), Platform.LINUX_X64, lock)


def test_credentials_go_to_their_own_index_only() -> None:
    index = PackageIndex(name="own", url="https://user:word@index.example:8443/simple/")
    settings = IndexSettings(indexes=(index,), sources={})
    own = "index.example:8443/files/a.whl"
    assert settings.with_credentials(f"https://{own}") == f"https://user:word@{own}"
    for other in ("http://index.example:8443/a", "https://index.example/a", "https://o.example/a"):
        assert settings.with_credentials(other) == other
    assert "word" not in str(settings.described())


def test_every_index_may_be_remembered_and_the_default_one_too() -> None:
    index = PackageIndex(name="own", url="https://index.example/simple/")
    settings = IndexSettings(indexes=(index,), sources={})
    default = "https://default.example/simple"
    remembered = {"api": "max-age=600", "files": "max-age=365000000"}
    assert settings.tables(default=default) == [
        {"name": "own", "url": index.url, "cache-control": remembered},
        {"url": default, "default": True, "cache-control": remembered},
    ]
    # With a rule, uv would ignore `--refresh`.
    fresh = settings.tables(default=default, refresh=True)
    assert [table["url"] for table in fresh] == [index.url, default]
    assert "cache-control" not in str(fresh)
    assert "cache-control" not in str(settings.described())


def test_uv_tells_its_default_index(tmp_path: Path) -> None:
    workspace = Workspace(project=tmp_path, cache=tmp_path / "cache", jobs=1)
    settings = IndexSettings(indexes=(), sources={})
    target = target_of(_layer(), Platform.LINUX_X64, PYTHON)
    request = ResolveRequest(layer="fw", requirements=(), target=target, indexes=settings)
    (table,) = Uv(workspace).index_tables(request)
    assert table["default"] is True
    assert str(table["url"]).startswith("https://")
    own = PackageIndex(name=None, url="https://index.example/simple/", default=True)
    request = replace(request, indexes=replace(settings, indexes=(own,)))
    assert [table["url"] for table in Uv(workspace).index_tables(request)] == [own.url]


def test_secrets_are_cut_out_of_text() -> None:
    text = "cannot read `https://user:w@rd@a.example/x` nor https://b.example/y@z"
    assert without_secrets(text) == "cannot read `https://a.example/x` nor https://b.example/y@z"


def test_the_path_of_a_wheel_leads_to_the_wheelhouse() -> None:
    text = lock_text(_lock([_distribution("a", "1")]), "pylock.linux-x64.toml")
    path = Path("project/layers/fw") / "../../wheelhouse/a-1-py3-none-any.whl"
    assert 'path = "../../wheelhouse/a-1-py3-none-any.whl"' in text
    assert path.resolve() == Path("project/wheelhouse/a-1-py3-none-any.whl").resolve()


def test_a_directory_of_a_build_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/file").write_text("x")
    assert [name for name, _ in contents(tmp_path)] == ["deep/file"]
    assert contents(tmp_path / "nothing") == []
    scandir = os.scandir

    def refuse(path: str) -> object:  # as for a user who is not root
        if str(path).endswith("deep"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        contents(tmp_path)
