"""The parts of an import, each by itself."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.errors import UsageError
from stackbuild.importers.commits import with_full_commit
from stackbuild.importers.config import read_config
from stackbuild.importers.jsonfile import JsonTable
from stackbuild.importers.merge import effective
from stackbuild.importers.model import Config, Note, Variant
from stackbuild.importers.overlays import (
    overlay_settings,
    package_root_paths,
    sources,
    write_overlays,
)
from stackbuild.importers.plan import Environment, Planned
from stackbuild.importers.policy import _matching, clean
from stackbuild.importers.registries import owner, registries_of
from stackbuild.importers.runenv import layer_name, read_repository
from stackbuild.importers.spec import runtime_names, stack_text
from stackbuild.importers.wishes import read_requirement
from stackbuild.platforms import Platform
from stackbuild.reading import Problems
from stackbuild.spec.model import LayerKind
from tests.support.runenv import make_git_package, package_json, write_file, write_json

LINUX = Platform.LINUX_X64


def config(packages: object, **others: object) -> Config:
    """A configuration that is right."""
    problems = Problems()
    table = JsonTable({"packages": packages, **others}, "", problems, [])
    found = read_config(table, "config.json")
    assert problems.found == []
    return found


def texts(found: Config) -> list[str]:
    return [str(wish.requirement) for wish in found.dependencies]


@pytest.mark.parametrize(
    ("text", "requirement"),
    [
        ("fa2_modified==0.4", "fa2_modified==0.4"),
        (
            "git+https://example.org/x/parapred-pytorch.git@e0548be",
            "parapred-pytorch @ git+https://example.org/x/parapred-pytorch.git@e0548be",
        ),
        ("git+ssh://git@example.org/x/tool", "tool @ git+ssh://git@example.org/x/tool"),
        (
            "git+https://example.org/mono@v1#egg=part&subdirectory=src/part",
            "part @ git+https://example.org/mono@v1#subdirectory=src/part",
        ),
        ("name @ https://example.org/name.whl", "name @ https://example.org/name.whl"),
    ],
)
def test_dependencies_are_requirements(text: str, requirement: str) -> None:
    assert str(read_requirement(text, "", Problems())) == requirement


def test_blank_and_repeated_dependencies_count_once() -> None:
    assert texts(config({"dependencies": ["numpy==2", "  ", " numpy==2 ", ""]})) == ["numpy==2"]


def test_settings_of_a_build_are_pairs() -> None:
    found = config(
        {
            "buildWheel": {
                "A_b": {"linux-x64": {"configSettings": ["x=1=2", "y=", "x=3"]}},
                "c": {"linux-x64": {"reason": "R", "configSettings": {"k": "v"}}},
            }
        }
    ).build_wheel
    first = found[canonicalize_name("a-b")][LINUX]
    assert first.config_settings == {"x": ("1=2", "3"), "y": ""}
    assert first.reason == "as in the older configuration"
    assert found[canonicalize_name("c")][LINUX].config_settings == {"k": "v"}


def test_what_names_no_platform_is_noted() -> None:
    unknown: list[Note] = []
    packages = {
        "skip": {"a": {"linux-x86": "x", "linux-x64": "y"}},
        "platformSpecific": {
            "solaris": {"dependencies": ["a"]},
            "tf": {"linux-x64": {"action": "no"}},
        },
    }
    table = JsonTable({"packages": packages}, "", Problems(), unknown)
    found = read_config(table, "config.json")
    assert found.skip == {"a": {LINUX: "y"}}
    assert [(note.place, note.text) for note in unknown] == [
        (
            "packages.platformSpecific.solaris",
            "no platform is called 'solaris', so this has no effect",
        ),
        (
            "packages.platformSpecific.tf.linux-x64",
            "no action is called 'no', so this has no effect",
        ),
        ("packages.skip.a.linux-x86", "no platform is called 'linux-x86', so this has no effect"),
    ]


def test_merging_follows_the_older_rules() -> None:
    shared = config(
        {
            "dependencies": ["numpy==2.2.6", "scipy>=1"],
            "skip": {
                "a": {"linux-x64": "shared", "windows-x64": "shared"},
                "b": {"linux-x64": "x"},
            },
            "noDeps": ["x"],
            "resolution": {"strictMissing": True, "allowSourceList": ["a_b"]},
        },
        build={"timeout": 300, "enableLogging": True},
    )
    own = config(
        {
            "skip": {"a": {"linux-x64": "own"}},
            "overrides": {"numpy": "1.26.4", "scipy": "1.13.0"},
            "noDeps": ["x", "y"],
            "resolution": {"strictMissing": False, "allowSourceList": ["a-b", "c"]},
        },
        build={"timeout": 600},
    )
    merged = effective(shared, own)
    # A pin is replaced; what is no pin was left alone there.
    assert texts(merged) == ["numpy==1.26.4", "scipy>=1"]
    # Package by package, and the whole entry of a package.
    assert merged.skip == {"a": {LINUX: "own"}, "b": {LINUX: "x"}}
    assert merged.no_deps == ("x", "y")
    assert merged.resolution.strict_missing is False
    assert merged.resolution.allow_source_list == ("a-b", "c")
    assert (merged.build.timeout, merged.build.logging) == (600, True)
    assert texts(effective(shared, config({"dependencies": ["six==1"]}))) == ["six==1"]


def test_registries_are_known_by_what_they_are_for() -> None:
    cpu, cuda = "https://wheels.pytorch.example/whl/cpu", "https://wheels.pytorch.example/whl/cu126"
    nvidia, other = "https://pypi.nvidia.example", "https://user:pw@packages.example.org/simple"
    found = registries_of([cpu, nvidia, cuda, other, cpu])
    assert [item.name for item in found.values()] == [
        "pytorch-cpu",
        "nvidia",
        "pytorch-cu126",
        "example",
    ]
    assert found[other].url == "https://packages.example.org/simple"
    everything = tuple(found.values())

    def of(name: str, version: str | None = None) -> str | None:
        wanted = Version(version) if version else None
        registry = owner(canonicalize_name(name), wanted, everything)
        return registry.name if registry else None

    assert of("torch", "2.7.0+cpu") == "pytorch-cpu"
    assert of("torchvision", "0.22.0+cu126") == "pytorch-cu126"
    # None is named: the last one, which is the variant's own.
    assert of("torch", "2.7.0") == "pytorch-cu126"
    assert of("libcudf-cu12") == "nvidia"
    assert of("nx-cugraph-cu12", "25.4.0") == "nvidia"
    assert of("numpy", "2.2.6") is None
    assert of("cu12-tools") is None


def test_two_registries_of_one_name_are_told_apart() -> None:
    found = registries_of(["https://a.example.org/simple", "https://b.example.org/simple"])
    assert [item.name for item in found.values()] == ["example", "example-2"]


def environment(directory: Path, found: Config) -> Environment:
    variant = Variant(directory=directory, name="x", python=Version("3.12.10"), own=found)
    return Environment(variant=variant, config=found, registries=())


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"from": "./files/", "to": "./bin/"}, {"from": "files/", "to": "bin/"}),
        ({"from": "files", "to": "/lib/x"}, {"from": "files", "to": "lib/x"}),
        ({"from": "files\\\\a.txt", "to": "bin\\\\a"}, {"from": "files/a.txt", "to": "bin/a"}),
        ({"from": "files", "to": "./{site-packages}"}, {"from": "files", "to": "{site-packages}/"}),
        (
            {"from": "files/", "to": "{site-packages}/pkg/"},
            {"from": "files/", "to": "{site-packages}/pkg/"},
        ),
        ({"from": "files", "to": "/"}, {"from": "files", "to": "./"}),
        ({"from": "../files", "to": "bin"}, None),
        ({"from": "files/[ab].txt", "to": "bin"}, None),
        ({"from": "files", "to": "bin/../../etc"}, None),
        ({"from": "files", "to": "lib/{site-packages}/x"}, None),
        ({"from": "files", "to": "{site-packages}/../../x"}, None),
    ],
)
def test_overlays_stay_inside(tmp_path: Path, entry: Any, expected: Any) -> None:
    write_file(tmp_path / "files" / "a.txt")
    entry = {key: value.replace("\\\\", "\\") for key, value in entry.items()}
    notes: list[Note] = []
    found = overlay_settings(environment(tmp_path, config({"copyFiles": [entry]})), notes)
    if expected is None:
        assert found == {}
        assert [note.kind for note in notes] == ["question"]
    else:
        assert found == {"": [expected]}
        assert notes == []


def test_overlays_for_other_platforms_are_left_out(tmp_path: Path) -> None:
    entries = {"windows-aarch64": {"copyFiles": [{"from": "files", "to": "bin"}]}}
    notes: list[Note] = []
    found = config({"platformSpecific": entries})
    assert overlay_settings(environment(tmp_path, found), notes) == {}
    assert [note.text for note in notes] == ["left out: x is not made for windows-aarch64"]


def test_files_behind_the_root_of_the_package_are_found(tmp_path: Path) -> None:
    write_file(tmp_path / "with space" / "a.txt")
    settings = [
        "a={packageRoot}/cmake/x.cmake;{packageRoot}/y.txt",
        "b={packageRoot}",
        "c=-I{packageRoot}/with space -O2:{packageRoot}/z",
        "d={packageRoot}/../out",
    ]
    found = config({"buildWheel": {"tool": {"linux-x64": {"configSettings": settings}}}})
    item = environment(tmp_path, found)
    assert [path for _, path in package_root_paths(item)] == [
        "cmake/x.cmake",
        "y.txt",
        ".",
        "with space",
        "z",
        None,
    ]
    notes: list[Note] = []
    overlay_settings(item, notes)
    assert [note.text for note in notes] == [
        "{packageRoot}: cmake/x.cmake does not exist",
        "{packageRoot}: y.txt does not exist",
        "{packageRoot}: z does not exist",
        "{packageRoot}: leaves the variant's directory, so that it was left out",
    ]
    assert list(sources(item, {})) == [".", "with space"]


def test_an_overlay_that_was_cut_short_is_completed(tmp_path: Path) -> None:
    origin, project = tmp_path / "origin", tmp_path / "project"
    for name in ("a.txt", "b.txt"):
        write_file(origin / "files" / name, name, executable=True)
    item = environment(origin, config({}))
    write_file(project / "overlays" / "x" / "files" / "a.txt", "a.txt")
    assert write_overlays(item, ["files/", "files"], project) == [
        "overlays/x/files/",
        "overlays/x/files",
    ]
    copied = sorted((project / "overlays" / "x" / "files").iterdir())
    assert [(path.name, os.access(path, os.X_OK)) for path in copied] == [
        ("a.txt", True),
        ("b.txt", True),
    ]
    write_file(copied[0], "mine")
    with pytest.raises(UsageError, match="a file of the overlay is there already"):
        write_overlays(item, ["files/"], project)
    assert copied[0].read_text() == "mine"


def test_links_of_an_overlay_lead_into_it_or_are_followed(tmp_path: Path) -> None:
    origin, project = tmp_path / "project" / "origin", tmp_path / "project"
    write_file(origin / "lib" / "real.so.1", "library")
    write_file(tmp_path / "elsewhere" / "tool", "tool")
    (origin / "lib" / "real.so").symlink_to("real.so.1")
    (origin / "lib" / "absolute.so").symlink_to(origin / "lib" / "real.so.1")
    (origin / "lib" / "tools").symlink_to(tmp_path / "elsewhere")
    (origin / "lib" / "gone").symlink_to("nowhere")
    (origin / "lib" / "again").symlink_to(".")
    item = environment(origin, config({}))
    # What leads out of the directory cannot be taken from it in place.
    assert write_overlays(item, ["lib/"], project) == ["overlays/x/lib/"]
    lib = project / "overlays" / "x" / "lib"
    assert (lib / "real.so").readlink() == Path("real.so.1")
    assert not (lib / "absolute.so").is_symlink()
    assert (lib / "absolute.so").read_text() == "library"
    assert (lib / "tools" / "tool").read_text() == "tool"
    assert not (lib / "tools").is_symlink()
    assert not os.path.lexists(lib / "gone")


@pytest.mark.parametrize(
    ("text", "kept", "told"),
    [
        (
            "six @ https://u:secret@h/six-1.17.0-py2.py3-none-any.whl?token=secret",
            "six==1.17.0",
            "six comes from https://h/six-1.17.0-py2.py3-none-any.whl, and is required as "
            "six==1.17.0 here: `stackbuild wheel add` takes wheels",
        ),
        (
            "six @ file:///somewhere",
            None,
            "six comes from file:///somewhere, and was left out: "
            "`stackbuild wheel add` takes wheels",
        ),
        (
            "git+https://secret@h/o/tool.git@v1",
            "tool @ git+https://h/o/tool.git@v1",
            "the user in the address of tool was left out: "
            "git's own credential helper or netrc has to tell it",
        ),
        ("tool @ git+ssh://git@h/o/tool.git@v1", "tool @ git+ssh://git@h/o/tool.git@v1", None),
        (
            "x @ git+--upload-pack=/evil@abcdef1",
            None,
            "x comes from git+--upload-pack=/evil@abcdef1, and was left out: "
            "`stackbuild wheel add` takes wheels",
        ),
    ],
)
def test_addresses_of_dependencies(text: str, kept: str | None, told: str | None) -> None:
    unknown: list[Note] = []
    table = JsonTable({"packages": {"dependencies": [text]}}, "", Problems(), unknown)
    found = read_config(table, "config.json")
    assert [str(wish.requirement) for wish in found.dependencies] == ([kept] if kept else [])
    assert [note.text for note in unknown] == ([told] if told else [])


def test_an_address_of_a_registry_is_carried_over_without_its_query() -> None:
    unknown: list[Note] = []
    url = "https://h/simple?token=secret"
    table = JsonTable({"registries": {"additional": [url]}}, "", Problems(), unknown)
    assert read_config(table, "config.json").registries == ("https://h/simple",)
    (note,) = unknown
    assert note.text == "what follows https://h/simple may be a secret, and was left out"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("atls", "atls"),
        ("cuda+torch", "cuda-torch"),
        ("a b", "a-b"),
        ("ünï", "n"),
        ("con", "env-con"),
        ("-dash", "dash"),
        ("ü", "env"),
        ("x" * 200, "x" * 60),
    ],
)
def test_layers_get_names_that_layers_can_have(text: str, name: str) -> None:
    assert layer_name(text) == name


def test_layers_have_names_of_their_own(tmp_path: Path) -> None:
    write_json(tmp_path / "shared-config.json", {})
    for name in ("-Foo", "-foo", "-cpython-3.12", "-a b"):
        write_json(tmp_path / f"python-3.12.10{name}" / "config.json", {})
    write_json(tmp_path / "python-3.11.9-foo" / "config.json", {})
    repository = read_repository(tmp_path)
    assert sorted(variant.name for variant in repository.variants) == [
        "3.11.9-foo",
        "3.12.10-Foo",
        "3.12.10-foo-2",
        "a-b",
        "cpython-3.12-2",
    ]
    assert "the layer is called a-b, as no layer can be called 'a b'" in {
        note.text for note in repository.notes
    }


def test_nothing_of_a_package_json_is_dropped_in_silence(tmp_path: Path) -> None:
    write_json(tmp_path / "shared-config.json", {})
    package = package_json("3.12.10", "")
    package["myTool"] = {}
    package["block-software"]["target"] = "x"
    write_json(tmp_path / "python-3.12.10" / "package.json", package)
    write_json(
        tmp_path / "catalogue" / "package.json",
        {"name": "c", "version": "1", "more": 1, "block-software": {"entrypoints": {"3.12.10": 1}}},
    )
    write_json(tmp_path / "checker" / "whitelists" / "python-3.9.1" / "linux-x64.json", {})
    notes = read_repository(tmp_path).notes
    assert [(note.kind, note.place) for note in notes] == [
        ("unknown", "checker/whitelists/python-3.9.1"),
        ("without-counterpart", "python-3.12.10/package.json: version"),
        ("unknown", "python-3.12.10/package.json: myTool"),
        ("unknown", "python-3.12.10/package.json: block-software.target"),
        ("unknown", "catalogue/package.json: more"),
    ]


def test_shortened_commits_become_whole(tmp_path: Path) -> None:
    commit = make_git_package(tmp_path / "tool", "tool")
    url = f"git+file://{tmp_path}/tool"
    short = Requirement(f"tool @ {url}@{commit[:8]}#subdirectory=a")
    assert str(with_full_commit(short)) == f"tool @ {url}@{commit}#subdirectory=a"
    # Older than any branch, which only a repository on this machine tells.
    write_file(tmp_path / "tool" / "more.py")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*git, "add", "."], cwd=tmp_path / "tool", check=True)
    subprocess.run([*git, "commit", "-qm", "Second"], cwd=tmp_path / "tool", check=True)
    assert str(with_full_commit(short)) == f"tool @ {url}@{commit}#subdirectory=a"
    assert with_full_commit(Requirement(f"tool @ {url}@0123abc")) is None
    for text in (f"tool @ {url}@main", f"tool @ {url}@{commit}", "tool==1"):
        assert with_full_commit(Requirement(text)) == Requirement(text)


def test_names_of_variants_stay_apart(tmp_path: Path) -> None:
    write_json(tmp_path / "shared-config.json", {})
    for name in ("3.12.10", "3.12.10-a", "3.10.21-a", "3.12.10-b"):
        write_json(tmp_path / f"python-{name}" / "config.json", {})
    write_json(tmp_path / "python-next" / "package.json", package_json("3.13.1", ""))
    found = read_repository(tmp_path)
    # Variants of one name keep the version; the newest Python comes first.
    assert [(item.name, str(item.python)) for item in found.variants] == [
        ("python-3.12.10", "3.12.10"),
        ("3.12.10-a", "3.12.10"),
        ("b", "3.12.10"),
        ("3.10.21-a", "3.10.21"),
        ("python-next", "3.13.1"),
    ]


def test_keys_written_twice_are_noted(tmp_path: Path) -> None:
    write_json(tmp_path / "shared-config.json", {})
    write_file(
        tmp_path / "python-3.12.10" / "config.json", '{"build": {"timeout": 1, "timeout": 2}}'
    )
    found = read_repository(tmp_path)
    assert found.variants[0].own.build.timeout == 2
    assert [note.text for note in found.notes] == [
        "'timeout' is written twice; the last one counts, as it did there"
    ]


def test_runtimes_are_called_by_as_much_as_they_need() -> None:
    versions = [Version(text) for text in ("3.12.10", "3.12.6", "3.10.11")]
    assert list(runtime_names(versions).values()) == [
        "cpython-3.12.10",
        "cpython-3.12.6",
        "cpython-3.10",
    ]


def test_the_text_holds_any_value_as_it_is() -> None:
    layer = Planned(
        kind=LayerKind.APPLICATION, name="x", python=Version("3.12.10"), platforms=(LINUX,)
    )
    layer.requests["numpy==2"].add(LINUX)
    reason = 'A "quoted" reason with \\ and é\nin two lines'
    shared = {"skip": {"a.b": {"linux-x64": reason}}}
    settings = {
        "allow-import-errors": {"a-*.whl": {"a.b": reason}},
        "build-wheel": {"a": {"linux-x64": {"reason": reason, "config-settings": {"k.l": ["1"]}}}},
        "platform-specific": {"linux-x64": {"dependencies": ["six==1"]}},
    }
    text = stack_text([layer], {"x": "a\ncomment"}, [], {}, shared, {"x": settings})
    tables = tomllib.loads(text)
    assert tables["tool"]["stackbuild"] == {"shared": shared, "layers": {"x": settings}}
    assert tables["applications"][0]["platforms"] == ["linux_x86_64"]
    assert tables["applications"][0]["requirements"] == ["numpy==2"]


def test_what_is_empty_is_left_out() -> None:
    table = {"a": {}, "b": {"c": None, "d": []}, "e": False, "f": 0, "g": ""}
    assert clean(table) == {"e": False, "f": 0, "g": ""}


@pytest.mark.parametrize(
    ("wheel", "expected"),
    [
        ("six-1.17.0-py3-none-any.whl", True),
        ("six*", True),
        ("*", True),
        ("ruamel.yaml-*", True),
        ("sixer-*", False),
    ],
)
def test_patterns_for_wheels_name_distributions(wheel: str, *, expected: bool) -> None:
    names = [canonicalize_name("six"), canonicalize_name("ruamel.yaml")]
    assert _matching(wheel, names) is expected
