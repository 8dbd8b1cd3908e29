"""The policy of layers, heeded by locking: uv for real, indexes on loopback, git repositories."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import tomli
from packaging.pylock import Pylock

from stackbuild.cli.main import main
from stackbuild.errors import FetchError, LockError
from stackbuild.lock.wheelhouse import fetch
from stackbuild.messages import Silent
from stackbuild.platforms import Platform
from stackbuild.resolve.lock_stack import lock_stack
from tests.support.building import make_repository, make_sdist
from tests.support.index import IndexServer
from tests.support.interpreters import Listener
from tests.support.locking import (
    LINUX,
    MAC,
    WINDOWS,
    Project,
    application,
    framework,
    only,
    open_project,
)
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINUX_ONLY = only(Platform.LINUX_X64)
TWO = only(Platform.LINUX_X64, Platform.MACOSX_AARCH64)
OWN = "[tool.stackbuild.layers.fw]\n"
SHARED = "[tool.stackbuild.shared]\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with open_project(tmp_path) as opened:
        yield opened


def _left_out(items: tuple[object, ...]) -> list[tuple[str, str]]:
    return [(item.name, item.reason) for item in items]  # type: ignore[attr-defined]  # LeftOut


def _run(project: Project, *words: str) -> int:
    return main([*words, "--spec", str(project.directory / "venvstacks.toml")])


@pytest.fixture(autouse=True)
def _cache(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKBUILD_CACHE_DIR", str(project.workspace.cache))


# skip


def test_an_exclusion_leaves_out_a_dependency_on_its_platform_only(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.wheel("cuda", "1.0", LINUX, requires=("deep",))
    project.wheel("deep", "1.0")
    project.wheel("top", "1.0", requires=("cuda>=1",))
    skip = 'exclude.Cuda.macosx_arm64 = "no CUDA on macOS"\n'
    project.write(framework("fw", "top", extra=TWO) + SHARED + skip)
    assert _run(project, "lock") == 0
    out, err = capsys.readouterr()
    assert "skipped cuda in fw on macosx-aarch64: no CUDA on macOS\n" in out
    assert "warning" not in err
    assert set(project.versions("fw")) == {"cuda", "deep", "top"}
    assert set(project.versions("fw", "macosx-aarch64")) == {"top"}
    assert project.read("fw").skipped == ()
    skipped = project.read("fw", "macosx-aarch64").skipped
    assert _left_out(skipped) == [("cuda", "no CUDA on macOS")]
    Pylock.from_dict(project.raw("fw", "macosx-aarch64"))
    assert _run(project, "lock") == 0
    assert "skipped" not in capsys.readouterr().out


def test_a_skip_leaves_out_a_requirement_of_the_layer_itself(project: Project) -> None:
    project.wheel("top", "1.0")
    skip = 'skip.other.linux-x64 = "not here"\n'
    project.write(framework("fw", "top", "other[x]>=3; python_version > '3'", extra=LINUX_ONLY))
    with pytest.raises(LockError):
        project.lock()
    project.write(
        framework("fw", "top", "other[x]>=3; python_version > '3'", extra=LINUX_ONLY) + OWN + skip
    )
    project.lock()
    assert project.versions("fw") == {"top": "1.0"}
    assert _left_out(project.read("fw").skipped) == [("other", "not here")]


def test_a_skip_leaves_a_dependency_of_others(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ("1.0", "2.0"):
        project.wheel("tensor", version)
    project.wheel("top", "1.0", requires=("tensor",))
    layer = framework("fw", "top", "tensor==1.0", extra=TWO)
    project.write(layer + SHARED + 'skip.tensor.macosx_arm64 = "no wheel"\n')
    assert _run(project, "lock") == 0
    assert capsys.readouterr().err == ""
    assert project.versions("fw") == {"tensor": "1.0", "top": "1.0"}
    # Nothing says that it was left out, as it is there.
    assert project.versions("fw", "macosx-aarch64")["tensor"] == "1.0"
    assert project.read("fw", "macosx-aarch64").skipped == ()
    project.write(framework("fw", "top", extra=TWO) + OWN + 'skip.tensor.macosx_arm64 = "x"\n')
    assert _run(project, "lock") == 0
    assert _unused(capsys) == [
        "line 14: tool.stackbuild.layers.fw.skip.tensor.macosx_arm64: other distributions need"
        " tensor there; move this entry to `exclude`"
    ]


def test_a_skip_that_meets_nothing_is_warned_of(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.wheel("top", "1.0")
    project.wheel("used", "1.0")
    own = 'skip.cuda = {linux-x64 = "a", windows-x64 = "b"}\n'
    shared = 'skip.used.linux-x64 = "c"\nexclude.other.linux-x64 = "d"\n'
    layers = framework("fw", "top", extra=LINUX_ONLY) + application("app", "fw", "used")
    project.write(layers + OWN + own + SHARED + shared)
    for _ in range(2):
        assert _run(project, "lock", "--platform", "linux-x64") == 0
        assert _unused(capsys) == [
            "line 19: tool.stackbuild.layers.fw.skip.cuda.linux-x64 and 1 more: no distribution"
            " needs cuda there; remove this entry",
            "line 22: tool.stackbuild.shared.exclude.other.linux-x64: no distribution needs other"
            " there; remove this entry",
        ]


def _unused(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The warnings of settings without effect."""
    begin = "warning: venvstacks.toml, "
    lines = capsys.readouterr().err.splitlines()
    return [line.removeprefix(begin) for line in lines if line.startswith(begin)]


def test_names_that_no_lock_has_are_warned_of(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.wheel("numpy", "1.0")
    project.wheel("other", "1.0")
    layer = framework("fw", "numpy", "other; sys_platform == 'plan9'", extra=LINUX_ONLY)
    layers = layer + application("app", "fw") + framework("next", "other", extra=LINUX_ONLY)
    fields = (
        'overrides = {nunpy = "==1.0", other = "==1.0"}\n'
        'no-deps = ["nothing-like-it", "numpy"]\n'
        'force-source.numpi.linux-x64 = "a"\n'
        'build-wheel.numppy.linux-x64.reason = "b"\n'
        "platform-specific.linux-x64.resolution.only-binary-list = [\n"
        '    "numpy",\n    "nmpy",\n]\n'
        "[tool.stackbuild.layers.next]\n"
        'no-deps = ["numpy"]\n'
    )
    project.write(layers + OWN + fields)
    for words in ((), ("--check",)):
        assert _run(project, "lock", *words) == 0
        own = "tool.stackbuild.layers.fw"
        assert _unused(capsys) == [
            f"line 25: {own}.overrides.nunpy: neither fw nor a layer above it has nunpy; did you"
            " mean 'numpy'?",
            f"line 26: {own}.no-deps[0]: neither fw nor a layer above it has nothing-like-it;"
            " remove it, or correct the name",
            f"line 27: {own}.force-source.numpi.linux-x64: fw does not have numpi; did you mean"
            " 'numpy'?",
            f"line 28: {own}.build-wheel.numppy.linux-x64.reason: fw does not have numppy; did you"
            " mean 'numpy'?",
            f"line 29: {own}.platform-specific.linux-x64.resolution.only-binary-list[1]: fw does"
            " not have nmpy; did you mean 'numpy'?",
            "line 34: tool.stackbuild.layers.next.no-deps[0]: next does not have numpy; remove it,"
            " or correct the name",
        ]


def test_settings_of_uv_that_leave_out_or_match_nothing_are_warned_of(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.wheel("numpy", "1.0", requires=("other",))
    project.wheel("other", "1.0")
    settings = (
        "[tool.uv]\n"
        'exclude-dependencies = ["tool", "other"]\n'
        'exclude-newer-package = { nunpy = "2025-01-01" }\n'
        'constraint-dependencies = ["numpy<9", "absent<9"]\n'
        'dependency-metadata = [{ name = "nothing-like-it" }, { name = "numpy" }]\n'
        'no-build-package = ["numpy", "Two"]\nno-binary-package = ["nunpy"]\n'
    )
    project.write(framework("fw", "numpy", "Tool", extra=LINUX_ONLY) + settings)
    for words in ((), ("--check",)):
        assert _run(project, "lock", *words) == 0
        err = capsys.readouterr().err.splitlines()
        begin = "warning: venvstacks.toml, line"
        assert [line for line in err if line.startswith("warning")] == [
            f"{begin} 15: tool.uv.exclude-newer-package: no layer has nunpy; did you mean 'numpy'?",
            f"{begin} 16: tool.uv.constraint-dependencies: no layer has absent; remove it, or"
            " correct the name",
            f"{begin} 17: tool.uv.dependency-metadata[0]: no layer has nothing-like-it; remove it,"
            " or correct the name",
            f"{begin} 18: tool.uv.no-build-package[1]: no layer has two; remove it, or correct the"
            " name",
            f"{begin} 19: tool.uv.no-binary-package[0]: no layer has nunpy; did you mean 'numpy'?",
            "warning: fw requires tool, but exclude-dependencies in [tool.uv] leaves it out;"
            " remove one of the two",
        ]
    assert project.versions("fw") == {"numpy": "1.0"}


def test_an_index_that_always_needs_credentials(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.wheel("numpy", "1.0")
    project.write(framework("fw", "numpy", extra=LINUX_ONLY))
    spec = project.directory / "venvstacks.toml"
    spec.write_text(f"{spec.read_text()}name = 'own'\nauthenticate = 'always'\n")
    assert _run(project, "lock") == 4
    assert "set the credentials of own (authenticate = 'always')" in capsys.readouterr().err


def test_a_changed_reason_renews_a_lock_without_a_new_version(project: Project) -> None:
    project.wheel("top", "1.0", requires=("cuda",))
    layer = framework("fw", "top", extra=LINUX_ONLY) + OWN
    project.write(layer + 'exclude.cuda.linux-x64 = "a"\n')
    project.lock()
    before = project.read("fw")
    project.write(layer + 'exclude.cuda.linux-x64 = "b"\n')
    report = project.lock()
    assert {change.layer: change.state for change in report.changes}["fw"] == "renewed"
    after = project.read("fw")
    assert _left_out(after.skipped) == [("cuda", "b")]
    assert (after.version, after.locked_at, after.digest) == (1, before.locked_at, before.digest)


# overrides, no-deps, platform-specific dependencies


UPPER = """
[[frameworks]]
name = "upper"
frameworks = ["fw"]
requirements = ["b"]
"""


@pytest.mark.parametrize(
    ("policy", "upper", "inherited"),
    [
        ('exclude.x.linux-x64 = "not here"', {"b": "1.0"}, ["a"]),
        ('no-deps = ["a"]', {"b": "1.0"}, ["a"]),
        ('overrides = {x = "1.0"}', {"b": "1.0"}, ["a", "x"]),
    ],
)
def test_what_a_lower_layer_decided_holds_above_it(
    project: Project, policy: str, upper: dict[str, str], inherited: list[str]
) -> None:
    for version in ("1.0", "2.0"):
        project.wheel("x", version)
    project.wheel("a", "1.0", requires=("x>=2",))
    project.wheel("b", "1.0", requires=("a",))
    project.write(
        f'[[frameworks]]\nname = "fw"\nruntime = "rt"\nrequirements = ["a"]\n{LINUX_ONLY}\n'
        f"{UPPER}{LINUX_ONLY}\n[tool.stackbuild.layers.fw]\n{policy}\n"
    )
    project.lock()
    assert project.versions("upper", "linux-x64") == upper
    assert [item.name for item in project.read("upper", "linux-x64").inherited] == inherited


def test_a_requirement_of_another_platform_does_not_undo_an_exclusion(project: Project) -> None:
    project.wheel("tz", "1.0")
    project.wheel("a", "1.0", requires=("tz",))
    two = only(Platform.LINUX_X64, Platform.WINDOWS_X64)
    project.write(
        framework("fw", "a", extra=two)
        + application("app", "fw", "a", "tz; sys_platform == 'win32'", extra=two)
        + OWN
        + 'exclude.tz = {linux-x64 = "the system has the data", windows-x64 = "not yet"}\n'
    )
    project.lock()
    assert project.versions("app", "linux-x64") == {}
    assert project.versions("app", "windows-x64") == {"tz": "1.0"}


def test_a_requirement_of_another_platform_does_not_settle_where_a_distribution_comes_from(
    project: Project, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    make_wheel(tmp_path / "other", "torch", "9.0", {"torch.py": ""})
    project.wheel("torch", "1.0")
    project.wheel("a", "1.0", requires=("torch",))
    with IndexServer(tmp_path / "other") as other:
        project.write(
            framework(
                "fw",
                "a",
                "torch; sys_platform == 'win32'",
                extra=LINUX_ONLY + 'package_indexes = { torch = "other" }\n',
            )
            + f'[[tool.uv.index]]\nname = "other"\nurl = "{other.url}"\nexplicit = true\n'
        )
        project.lock()
    assert project.versions("fw") == {"a": "1.0", "torch": "9.0"}


def test_what_a_lower_layer_brings_cannot_be_excluded(project: Project) -> None:
    project.wheel("a", "1.0")
    project.wheel("b", "1.0", requires=("a",))
    project.write(
        f'[[frameworks]]\nname = "fw"\nruntime = "rt"\nrequirements = ["a"]\n{LINUX_ONLY}\n'
        f'{UPPER}{LINUX_ONLY}\n[tool.stackbuild.layers.upper]\nexclude.a.linux-x64 = "no"\n'
    )
    listener = Listener()
    lock_stack(project.stack, project.workspace, listener)
    assert "upper on linux-x64 cannot exclude a: it is in fw" in listener.warnings
    assert project.read("upper", "linux-x64").skipped == ()


def test_an_override_counts_instead_of_what_others_ask_for(project: Project) -> None:
    for version in ("1.0", "2.0", "3.0"):
        project.wheel("base", version)
    project.wheel("top", "1.0", requires=("base>=3",))
    for override, version in (("2.0", "2.0"), ("<2", "1.0")):
        spec = framework("fw", "top", "base==3.0", extra=LINUX_ONLY)
        project.write(spec + OWN + f'overrides.base = "{override}"\n')
        project.lock()
        assert project.versions("fw") == {"base": version, "top": "1.0"}


def test_dependencies_of_no_deps_are_not_followed(project: Project) -> None:
    project.wheel("lonely", "1.0", requires=("unknown", "base"))
    project.wheel("base", "1.0")
    project.wheel("top", "1.0", requires=("lonely", "more"))
    project.wheel("more", "1.0")
    project.write(framework("fw", "top", extra=LINUX_ONLY) + OWN + 'no-deps = ["Lonely"]\n')
    project.lock()
    assert set(project.versions("fw")) == {"lonely", "more", "top"}


def test_dependencies_of_one_platform(project: Project) -> None:
    project.wheel("top", "1.0")
    project.wheel("extra", "1.0")
    project.write(
        framework("fw", "top", extra=TWO)
        + OWN
        + 'platform-specific.macosx-aarch64.dependencies = ["extra==1.0"]\n'
    )
    project.lock()
    assert set(project.versions("fw")) == {"top"}
    assert set(project.versions("fw", "macosx-aarch64")) == {"top", "extra"}
    assert project.read("fw", "macosx-aarch64").requirements == ("top", "extra==1.0")
    assert project.lock(check=True).stale == ()


# registries


def test_an_additional_registry_serves_only_what_is_given_to_it(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's newer upload on the one index never wins over the other."""
    project.wheel("torch", "9.0")
    project.wheel("helper", "1.0", requires=("torch",))
    for name in ("torch", "helper"):
        make_wheel(tmp_path / "more", name, "2.0+cpu", {f"{name}.py": ""})
    with IndexServer(tmp_path / "more", user="me@here", password="s:cret") as other:
        index = f'[[tool.uv.index]]\nname = "cpu-wheels"\nurl = "{other.url}"\n'
        given = LINUX_ONLY + 'package_indexes = {torch = "cpu-wheels"}\n'
        registry = 'registries.additional = ["cpu-wheels"]\n'
        project.write(framework("fw", "helper", extra=given) + index + SHARED + registry)
        with pytest.raises(FetchError):
            project.lock()
        monkeypatch.setenv("UV_INDEX_CPU_WHEELS_USERNAME", "me@here")
        monkeypatch.setenv("UV_INDEX_CPU_WHEELS_PASSWORD", "s:cret")
        project.lock()
        assert project.versions("fw") == {"helper": "1.0", "torch": "2.0+cpu"}
        indexes = {item.name: item.index for item in project.read("fw").distributions}
        assert indexes == {"helper": None, "torch": "cpu-wheels"}
        assert other.count("GET", "/simple/helper/") == 0
        Pylock.from_dict(project.raw("fw"))
        files = fetch(project.stack, project.workspace, [project.read("fw")], Silent())
        assert len(files) == 2
        assert all(path.is_file() for path in files.values())
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.parent.name != "index":
            assert b"cret" not in path.read_bytes(), path


def test_an_index_for_some_platforms_serves_only_these(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project.wheel("torch", "1.0", MAC)
    project.wheel("helper", "1.0", requires=("torch",))
    for name, requires in (("torch", ()), ("helper", ("torch",))):
        files = {f"{name}.py": ""}
        make_wheel(tmp_path / "more", name, "1.0+cu126", files, requires=requires, tag=LINUX)
    with IndexServer(tmp_path / "more") as other:
        index = f'[[tool.uv.index]]\nname = "cuda"\nurl = "{other.url}"\nexplicit = true\n'
        given = TWO + 'package_indexes = {torch = "cuda"}\npriority_indexes = ["cuda"]\n'
        layer = framework("fw", "helper", extra=given) + index
        project.write(layer)
        with pytest.raises(LockError, match="has no wheel for macosx-aarch64"):
            project.lock()
        project.write(layer + '[tool.stackbuild]\nindex-platforms.cuda = ["linux_x86_64"]\n')
        assert _run(project, "lock") == 0
        mac = project.read("fw", "macosx-aarch64")
        fetched = fetch(project.stack, project.workspace, [mac], Silent())
    assert project.versions("fw") == {"helper": "1.0+cu126", "torch": "1.0+cu126"}
    assert project.versions("fw", "macosx-aarch64") == {"helper": "1.0", "torch": "1.0"}
    assert len(fetched) == 2
    assert project.lock(check=True).stale == ()


@pytest.mark.parametrize("override", ["2.0", "<3"])
def test_an_override_keeps_to_the_index_of_its_distribution(
    project: Project, tmp_path: Path, override: str
) -> None:
    project.wheel("torch", "9.0")
    project.wheel("user", "1.0", requires=("torch>=9",))
    for version in ("2.0", "3.0"):
        make_wheel(tmp_path / "more", "torch", version, {"torch.py": ""}, requires=("dep",))
    project.wheel("dep", "1.0")
    with IndexServer(tmp_path / "more", user="user", password="word") as other:
        url = other.url_with_credentials
        index = f'[[tool.uv.index]]\nname = "more"\nurl = "{url}"\nexplicit = true\n'
        given = LINUX_ONLY + 'package_indexes = {torch = "more"}\n'
        layer = framework("fw", "user", extra=given) + OWN + f'overrides.torch = "{override}"\n'
        project.write(layer + index)
        project.lock()
    assert project.versions("fw") == {"dep": "1.0", "torch": "2.0", "user": "1.0"}
    indexes = [item.index for item in project.read("fw").distributions]
    assert indexes == [None, "more", None]


def test_an_address_takes_its_secret_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").mkdir()
    with open_project(tmp_path / "x", user="user", password="p@ss/word") as project:
        project.wheel("base", "1.0")
        address = project.index.url.replace("://", "://user:${INDEX_TOKEN}@")
        project.write(framework("fw", "base", extra=LINUX_ONLY), address=address)
        monkeypatch.delenv("INDEX_TOKEN", raising=False)
        with pytest.raises(LockError, match="the environment variable INDEX_TOKEN is not set"):
            project.lock()
        monkeypatch.setenv("INDEX_TOKEN", "p@ss/word")
        project.lock()
        assert project.versions("fw") == {"base": "1.0"}
        monkeypatch.delenv("INDEX_TOKEN")
        assert project.lock(check=True).stale == ()


def test_a_netrc_opens_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").mkdir()
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password word\n")
    netrc.chmod(0o600)
    with open_project(tmp_path / "x", user="user", password="word") as project:
        project.wheel("base", "1.0")
        project.write(framework("fw", "base", extra=LINUX_ONLY))
        with pytest.raises(FetchError):
            project.lock()
        monkeypatch.setenv("NETRC", str(netrc))
        project.lock()
        assert project.versions("fw") == {"base": "1.0"}


def test_a_keyring_opens_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").mkdir()
    commands = tmp_path / "bin"
    commands.mkdir()
    keyring = commands / "keyring"
    with open_project(tmp_path / "x", user="user", password="word") as project:
        keyring.write_text(
            f'#!/bin/sh\n[ "$*" = "get {project.index.url} user" ] && echo word || exit 1\n'
        )
        keyring.chmod(0o755)
        monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
        project.wheel("base", "1.0")
        address = project.index.url.replace("://", "://user@")
        project.write(framework("fw", "base", extra=LINUX_ONLY), address=address)
        project.lock()
        assert project.versions("fw") == {"base": "1.0"}


# resolution


def test_what_cannot_be_had_is_omitted_where_the_spec_says_so(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.wheel("good", "1.0")
    project.wheel("native", "1.0", LINUX, WINDOWS)
    project.wheel("user", "1.0", requires=("native", "good"))
    missing = "native 1.0 has no wheel for macosx-aarch64"
    layer = framework("fw", "good", "user", "native>=1", "nowhere", extra=TWO)
    project.write(layer)
    with pytest.raises(LockError):
        project.lock()
    lenient = SHARED + "resolution.strict-missing = false\n"
    project.write(layer + lenient)
    with pytest.raises(LockError) as caught:
        project.lock()
    assert f"found: {missing}; no package index has nowhere\n" in str(caught.value)
    advice = '`optional-list = ["native", "nowhere", "user"]` to `resolution` in [tool.stackbuild.'
    assert f"leave native, nowhere, user out where not available, add {advice}" in str(caught.value)
    own = 'resolution.optional-list = ["native", "nowhere", "user"]\n'
    project.write(layer + lenient + OWN + own)
    for _ in range(2):
        assert _run(project, "lock") == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if line.startswith("omitted ")] == lines[-3:]
        assert lines[-3:] == [
            "omitted nowhere in fw on linux-x64, macosx-aarch64: no package index has nowhere",
            f"omitted native in fw on {Platform.MACOSX_AARCH64}: {missing}",
            f"omitted user in fw on {Platform.MACOSX_AARCH64}: {missing}",
        ]
    assert set(project.versions("fw")) == {"good", "native", "user"}
    assert set(project.versions("fw", "macosx-aarch64")) == {"good"}
    omitted = dict(_left_out(project.read("fw", "macosx-aarch64").omitted))
    assert set(omitted) == {"native", "nowhere", "user"}
    assert omitted["nowhere"] == "no package index has nowhere"
    assert omitted["user"].endswith("has no wheel for macosx-aarch64")


def test_a_version_that_no_index_has(project: Project) -> None:
    project.wheel("ok", "1.0")
    project.wheel("other", "1.0")
    layer = framework("fw", "ok==9", "other", extra=LINUX_ONLY)
    project.write(layer)
    with pytest.raises(LockError) as caught:
        project.lock()
    assert caught.value.message == "no package index has ok==9"
    lenient = OWN + 'resolution = {strict-missing = false, optional-list = ["Ok"]}\n'
    project.write(layer + lenient)
    project.lock()
    lock = project.read("fw")
    assert _left_out(lock.omitted) == [("ok", "no package index has ok==9")]
    assert [item.name for item in lock.distributions] == ["other"]


def test_an_optional_requirement_is_not_replaced_by_another_version(project: Project) -> None:
    project.wheel("numpy", "2.5.5")
    project.wheel("pandas", "2.2.3", requires=("numpy>=1",))
    lenient = 'resolution = {strict-missing = false, optional-list = ["numpy"]}\n'
    layer = framework("fw", "numpy==2.2.6+mkl", "pandas==2.2.3", extra=LINUX_ONLY)
    project.write(layer + OWN + lenient)
    with pytest.raises(LockError, match="numpy is not available, but another") as caught:
        project.lock()
    assert "expected: no numpy, as no package index has numpy==2.2.6+mkl" in str(caught.value)
    assert not project.path("fw").exists()


def test_a_contradiction_is_an_error_even_where_omissions_are_allowed(project: Project) -> None:
    for version in ("1.0", "2.0"):
        project.wheel("base", version)
    project.wheel("top", "1.0", requires=("base<2",))
    layer = framework("fw", "base>=2", "top", extra=LINUX_ONLY)
    project.write(layer + OWN + "resolution.strict-missing = false\n")
    with pytest.raises(LockError, match="contradict each other"):
        project.lock()


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ('force-source.native.linux-x64 = "broken wheel"\n', "force-source: broken wheel"),
        ('build-wheel.native.linux-x64.reason = "no wheel"\n', "build-wheel: no wheel"),
        (
            'resolution.force-no-binary-list = ["native"]\n',
            "it is in resolution.force-no-binary-list",
        ),
    ],
)
def test_what_must_be_built_is_refused_with_its_reason(
    project: Project, policy: str, reason: str
) -> None:
    project.wheel("native", "1.0", LINUX, MAC)
    project.wheel("top", "1.0", requires=("native",))
    project.wheel("other", "1.0")
    layers = framework("fw", "other", extra=TWO) + application("app", "fw", "top")
    lenient = "resolution.strict-missing = false\n"
    project.write(layers + OWN.replace("fw", "app") + policy + lenient)
    with pytest.raises(LockError) as caught:
        project.lock(platforms=["linux-x64"])
    assert str(caught.value) == (
        "native 1.0 has no source distribution to build it from\n"
        "  layer: app\n"
        "  platform: linux-x64\n"
        "  distribution: native\n"
        f"  found: {reason}\n"
        "  to fix: require a version that has one, or its repository (`git+https://…@revision`)"
    )
    # Nothing in fw needs it, so the same words are harmless there.
    project.write(layers + OWN + policy)
    project.lock(platforms=["linux-x64"])


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("resolution.allow-source-all = true", "native 1.0 must be built from source"),
        ('resolution.allow-source-list = ["native"]', "native 1.0 must be built from source"),
        ('resolution.allow-source-list = ["top"]', "native 1.0 must be built from source"),
        (
            'resolution = {allow-source-list = ["top"], only-binary-list = ["native"]}',
            "native 1.0 has no wheel for linux-x64",
        ),
        ('resolution.allow-source-list = ["other"]', "native 1.0 has no wheel for linux-x64"),
        (
            'resolution = {allow-source-all = true, only-binary-list = ["native"]}',
            "native 1.0 has no wheel for linux-x64",
        ),
        (
            "resolution.allow-source-all = true\n"
            "platform-specific.linux-x64.resolution.allow-source-all = false",
            "native 1.0 has no wheel for linux-x64",
        ),
    ],
)
def test_who_may_be_built_for_want_of_a_wheel(project: Project, policy: str, message: str) -> None:
    project.wheel("native", "1.0", MAC)
    make_sdist(project.index.directory, "native", "1.0", {})
    project.wheel("middle", "1.0", requires=("native",))
    project.wheel("top", "1.0", requires=("middle",))
    project.wheel("other", "1.0")
    project.write(
        framework("fw", "other", "top", extra=only(Platform.LINUX_X64)) + OWN + policy + "\n"
    )
    with pytest.raises(LockError) as caught:
        project.lock()
    assert caught.value.message.startswith(message)


# git


def test_a_requirement_from_git_names_its_commit(project: Project, tmp_path: Path) -> None:
    make_repository(tmp_path / "repository", {"pyproject.toml": ""})
    requirement = f"ours @ git+{(tmp_path / 'repository').as_uri()}@v1"
    project.write(framework("fw", requirement, extra=LINUX_ONLY))
    with pytest.raises(LockError) as caught:
        project.lock()
    assert caught.value.message.startswith("ours must be built from source")
    assert "; it is built from commit " in str(caught.value)


# leftovers, and locks that somebody edited


def test_locks_that_left_the_spec_are_told_and_removed(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.wheel("base", "1.0")
    old = framework("old", "base", extra=TWO)
    project.write(framework("fw", "base", extra=TWO) + old)
    project.lock()
    notes = project.directory / "layers/old/notes.toml"
    notes.write_text("[tool.stackbuild]\n")
    theirs = project.directory / "layers/fw/pylock.dev.toml"
    theirs.write_text('lock-version = "1.0"\n')
    project.write(framework("fw", "base", extra=LINUX_ONLY))
    gone = [
        "layers/fw/pylock.macosx-aarch64.toml",
        "layers/old/pylock.linux-x64.toml",
        "layers/old/pylock.macosx-aarch64.toml",
    ]
    capsys.readouterr()
    assert _run(project, "lock", "--check") == 4
    assert capsys.readouterr().out.splitlines() == [f"{path}: not in the spec" for path in gone]
    assert _run(project, "lock") == 0
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if "removed" in line] == [
        f"removed {path}, which is not in the spec" for path in gone
    ]
    assert not any((project.directory / path).exists() for path in gone)
    assert notes.exists()
    assert theirs.exists()
    notes.unlink()
    assert _run(project, "lock", "--check", "--json") == 0
    assert json.loads(capsys.readouterr().out)["leftovers"] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('{name = "base", version = "1.0"', '{name = "base", version = "2.0"'),
        ('requirements = [\n    "top",\n]', "requirements = []"),
        ('reason = "a"', 'reason = "b"'),
    ],
)
def test_any_edit_of_a_lock_is_noticed(project: Project, old: str, new: str) -> None:
    project.wheel("base", "1.0")
    project.wheel("top", "1.0", requires=("base", "cuda"))
    project.write(
        framework("fw", "base", extra=LINUX_ONLY)
        + application("app", "fw", "top")
        + SHARED
        + 'exclude.cuda.linux-x64 = "a"\n'
    )
    project.lock()
    path = project.path("app")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(LockError) as caught:
        project.lock()
    assert "tool.stackbuild.checksum does not match the contents of the lock" in str(caught.value)


def test_a_moved_project_with_a_folder_as_index_stays_locked(tmp_path: Path) -> None:
    locks = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        with open_project(tmp_path / place) as project:
            make_wheel(project.directory / "wheels", "base", "1.0", {"base.py": ""})
            folder = '[[tool.uv.index]]\nname = "ours"\nurl = "wheels"\nformat = "flat"\n'
            layer = framework("fw", "base", extra=LINUX_ONLY)
            project.write(layer + folder, address="https://index.example/simple")
            project.lock()
            locks.append(project.read("fw"))
    assert locks[0].inputs == locks[1].inputs
    assert locks[0].distributions[0].index == "ours"


# show --effective


TARGETS = 'linux_target = "glibc@2.34"\nmacosx_target = "14.0"\ndynlib_exclude = ["libz.so"]\n'


def test_show_tells_where_each_value_comes_from(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write(
        framework("fw", "base", extra=TWO + TARGETS)
        + SHARED
        + 'no-deps = ["a", "b"]\noverrides = {x = "1"}\nbuild = {timeout = 60, logging = true}\n'
        + 'skip.cuda = {linux-x64 = "shared", macosx-aarch64 = "elsewhere"}\n'
        + OWN
        + 'no-deps = ["c", "A"]\noverrides = {x = "2"}\nbuild.timeout = 90\n'
        + 'skip.cuda.linux_x86_64 = "own"\n'
        + 'platform-specific.linux-x64.dependencies = ["extra"]\n'
        + 'verify = {host-libraries = ["libx*"], environment.A = "b", time-limit = 9}\n'
        + '[tool.stackbuild]\nsibling-conflicts = "warn"\nindex-platforms.cuda = ["linux_x86_64"]\n'
        + "layers.rt.downloads.linux_x86_64 = "
        + f'{{url = "https://example.org/x", sha256 = "{"0" * 64}"}}\n'
        + '[[tool.uv.index]]\nname = "cuda"\nurl = "https://example.org/cuda"\n'
    )
    assert _run(project, "show", "--effective", "rt", "--platform", "linux-x64") == 0
    shown = capsys.readouterr().out
    assert "https://example.org/x" in shown
    assert "linux_target" not in shown
    assert _run(project, "show", "--effective", "fw", "--platform", "macosx-aarch64") == 0
    shown = capsys.readouterr().out
    assert "macosx_target = 14.0" in shown
    assert "linux_target" not in shown
    assert _run(project, "show", "--effective", "fw", "--platform", "linux-x64") == 0
    lines = [
        " ".join(line.split()).replace("tool.stackbuild.", "")
        for line in capsys.readouterr().out.splitlines()
    ]
    assert lines == [
        "fw on linux-x64",
        "requirements",
        "base # frameworks[0].requirements[0]",
        "linux_target = glibc@2.34 # frameworks[0].linux_target",
        "dynlib_exclude",
        "libz.so # frameworks[0].dynlib_exclude[0]",
        "platforms",
        "linux_x86_64 # frameworks[0].platforms[0]",
        "macosx_arm64 # frameworks[0].platforms[1]",
        "sibling-conflicts = warn # sibling-conflicts",
        "index-platforms",
        "cuda",
        "linux_x86_64 # index-platforms.cuda[0]",
        "verify",
        "host-libraries",
        "libx* # layers.fw.verify.host-libraries[0]",
        "environment",
        "A = b # layers.fw.verify.environment.A",
        "time-limit = 9 # layers.fw.verify.time-limit",
        "skip",
        "cuda = own # layers.fw.skip.cuda.linux_x86_64",
        "no-deps",
        "a # shared.no-deps[0]",
        "b # shared.no-deps[1]",
        "c # layers.fw.no-deps[0]",
        "overrides",
        "x = ==2 # layers.fw.overrides.x",
        "build",
        "logging = true # shared.build.logging",
        "timeout = 90 # layers.fw.build.timeout",
        "dependencies",
        "extra # layers.fw.platform-specific.linux-x64.dependencies[0]",
    ]
    assert _run(project, "show", "--effective", "fw", "--platform", "linux-x64", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["build"]["timeout"] == {
        "value": 90,
        "from": "tool.stackbuild.layers.fw.build.timeout",
    }
    assert _run(project, "show", "--platform", "linux-x64") == 2
    assert _run(project, "show", "--effective", "fw", "--platform", "windows-x64") == 2


def test_nothing_of_the_policy_is_lost_in_a_lock(project: Project) -> None:
    """`raw` reads what other tools see."""
    project.wheel("top", "1.0", requires=("cuda",))
    project.write(
        framework("fw", "top", "gone", extra=LINUX_ONLY)
        + OWN
        + 'exclude.cuda.linux-x64 = "a \\"b\\" é"\n'
        'resolution = {strict-missing = false, optional-list = ["gone"]}\n'
    )
    project.lock()
    tool = tomli.loads(project.path("fw").read_text(encoding="utf-8"))["tool"]["stackbuild"]
    assert tool["skipped"] == [{"name": "cuda", "reason": 'a "b" é'}]
    assert tool["omitted"] == [{"name": "gone", "reason": "no package index has gone"}]
