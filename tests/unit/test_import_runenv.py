"""The parts of an import, each by itself."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from stackbuild.cli.import_ import lines
from stackbuild.errors import SpecError, UsageError
from stackbuild.importers.runenv.config import read_config, read_requirement
from stackbuild.importers.runenv.convert import import_runenv, nested, runtime_names
from stackbuild.importers.runenv.jsonfile import Findings, JsonTable
from stackbuild.importers.runenv.model import Config, Note, Variant
from stackbuild.importers.runenv.overlays import (
    overlay_settings,
    package_root_paths,
    sources,
    write_overlays,
)
from stackbuild.importers.runenv.registries import given, registries_of
from stackbuild.importers.runenv.repository import layer_name, read_repository
from stackbuild.platforms import Platform
from stackbuild.reading import Item
from stackbuild.spec.model import Catalogue
from stackbuild.spec.reader import load_stack
from stackbuild.spec.writer import spec_text
from tests.support.runenv import package_json, write_file, write_json, write_variant

LINUX = Platform.LINUX_X64


def config(packages: object, **others: object) -> Config:
    """A configuration that is right."""
    findings = Findings()
    table = JsonTable({"packages": packages, **others}, "", findings)
    found = read_config(table, "config.json")
    assert findings.found == []
    return found


def texts(found: Config) -> list[str]:
    return [str(item.requirement) for item in found.dependencies.get(None, ())]


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
    assert str(read_requirement(Item("", text))) == requirement


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
    ).replaced
    first = found["build-wheel", "a-b"]["linux-x64"]
    assert first["config-settings"] == {"x": ["1=2", "3"], "y": ""}
    assert first["reason"] == "as in the older configuration"
    assert found["build-wheel", "c"]["linux-x64"]["config-settings"] == {"k": "v"}


def test_what_names_no_platform_is_noted() -> None:
    findings = Findings()
    packages = {
        "skip": {"a": {"linux-x86": "x", "linux-x64": "y"}},
        "platformSpecific": {
            "solaris": {"dependencies": ["a"]},
            "tf": {"linux-x64": {"action": "no"}},
        },
    }
    table = JsonTable({"packages": packages}, "", findings)
    found = read_config(table, "config.json")
    assert found.replaced == {("skip", "a"): {"linux-x64": "y"}}
    assert [(note.place, note.text) for note in findings.notes] == [
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


def test_merging_follows_the_older_rules(tmp_path: Path) -> None:
    shared = {
        "dependencies": ["numpy==2.2.6", "scipy>=1", "a", "b"],
        "skip": {
            "a": {"linux-x64": "shared", "windows-x64": "shared"},
            "b": {"linux-x64": "x"},
        },
        "noDeps": ["x"],
        "resolution": {"strictMissing": True, "allowSourceList": ["a_b"]},
        "platformSpecific": {"linux-x64": {"dependencies": ["click"]}},
    }
    own = {
        "skip": {"a": {"linux-x64": "own"}},
        "overrides": {"numpy": "1.26.4", "scipy": "1.13.0"},
        "noDeps": ["x", "y"],
        "resolution": {"strictMissing": False, "allowSourceList": ["a-b", "c"]},
        "platformSpecific": {"linux-x64": {"dependencies": ["rich"]}},
    }
    build = {"timeout": 300, "enableLogging": True}
    write_json(tmp_path / "older" / "shared-config.json", {"packages": shared, "build": build})
    write_variant(tmp_path / "older", "-own", {"packages": own, "build": {"timeout": 600}})
    write_variant(tmp_path / "older", "-plain", {})
    write_variant(tmp_path / "older", "-six", {"packages": {"dependencies": ["six==1"]}})
    import_runenv(tmp_path / "older", tmp_path / "stack")
    layers = load_stack(tmp_path / "stack" / "venvstacks.toml").layers
    policy = layers["own"].policy(LINUX)
    # A pin is replaced; a range was not changed in the older project.
    required = [str(item) for item in layers["own"].requirements_on(LINUX)]
    assert required == ["numpy==1.26.4", "scipy>=1", "a", "b", "click", "rich"]
    # Package by package, and the whole entry of a package.
    assert policy.skip == {"a": "own", "b": "x"}
    assert layers["own"].policy(Platform.WINDOWS_X64).skip == {}
    assert policy.no_deps == ("x", "y")
    assert policy.resolution.strict_missing is False
    assert policy.resolution.allow_source_list == ("a-b", "c")
    # It did not limit builds.
    assert (policy.build.timeout, policy.build.logging) == (3600, True)
    assert layers["plain"].policy(Platform.WINDOWS_X64).skip == {"a": "shared"}
    assert layers["plain"].policy(LINUX).overrides == {}
    six = [str(item) for item in layers["six"].requirements_on(LINUX)]
    assert six == ["six==1", "click"]


def test_a_variant_can_take_back_a_shared_entry(tmp_path: Path) -> None:
    skip = {"a": {"linux-x64": "shared"}}
    write_json(tmp_path / "older" / "shared-config.json", {"packages": {"skip": skip}})
    own = {"dependencies": ["a"], "skip": {"a": {}}}
    write_variant(tmp_path / "older", "-own", {"packages": own})
    write_variant(tmp_path / "older", "-plain", {"packages": {"dependencies": ["a"]}})
    import_runenv(tmp_path / "older", tmp_path / "stack")
    layers = load_stack(tmp_path / "stack" / "venvstacks.toml").layers
    assert layers["own"].policy(LINUX).skip == {}
    assert layers["plain"].policy(LINUX).skip == {"a": "shared"}


def test_a_shared_entry_stays_shared_if_the_own_one_has_all_its_platforms(tmp_path: Path) -> None:
    shared = {"a": {"linux-x64": "shared", "windows-x64": "shared"}}
    own = {"a": {"linux-x64": "own", "windows-x64": "own", "macosx-x64": "own"}}
    write_json(tmp_path / "older" / "shared-config.json", {"packages": {"skip": shared}})
    packages = {"dependencies": ["a"]}
    write_variant(tmp_path / "older", "-own", {"packages": {**packages, "skip": own}})
    write_variant(tmp_path / "older", "-plain", {"packages": packages})
    report = import_runenv(tmp_path / "older", tmp_path / "stack")
    tool = tomllib.loads(report.text)["tool"]["stackbuild"]
    assert tool["shared"] == {"skip": shared}
    assert [table.get("skip") for table in tool["layers"].values()] == [own, None]
    layers = load_stack(report.spec).layers
    for platform, found in (("linux-x64", "own"), ("windows-x64", "own"), ("macosx-x64", "own")):
        assert layers["own"].policy(Platform(platform)).skip == {"a": found}
    assert layers["plain"].policy(Platform.MACOSX_X64).skip == {}


def test_a_shared_build_is_replaced_as_a_whole(tmp_path: Path) -> None:
    def packages(reason: str, **settings: str) -> dict[str, object]:
        build = {"reason": reason, "configSettings": settings}
        return {"dependencies": ["a"], "buildWheel": {"a": {"linux-x64": build}}}

    shared = {"packages": packages("shared", x="1")}
    write_json(tmp_path / "older" / "shared-config.json", shared)
    write_variant(tmp_path / "older", "-own", {"packages": packages("own", y="2")})
    write_variant(tmp_path / "older", "-plain", {"packages": {"dependencies": ["a"]}})
    layers = load_stack(import_runenv(tmp_path / "older", tmp_path / "stack").spec).layers
    for name, settings in (("own", {"y": "2"}), ("plain", {"x": "1"})):
        (build,) = layers[name].policy(LINUX).build_wheel.values()
        assert build.config_settings == settings


def test_a_variant_without_dependencies_uses_no_index(tmp_path: Path) -> None:
    registries = {"additional": ["https://wheels.pytorch.example/whl/cpu"]}
    write_json(tmp_path / "older" / "shared-config.json", {"registries": registries})
    write_variant(tmp_path / "older", "-empty", {})
    write_variant(tmp_path / "older", "-some", {"packages": {"dependencies": ["six"]}})
    layers = load_stack(import_runenv(tmp_path / "older", tmp_path / "stack").spec).layers
    assert layers["empty"].package_indexes == {}
    # Something may require torch.
    assert layers["some"].package_indexes.keys() == {"torch", "torchaudio", "torchvision"}


@pytest.mark.parametrize("whole", [True, False])
def test_a_directory_is_linked_in_place_if_nothing_in_it_is_left_out(
    tmp_path: Path, *, whole: bool
) -> None:
    origin = tmp_path / "origin"
    write_file(origin / "lib" / "a.txt")
    if not whole:
        (origin / "lib" / "gone").symlink_to("nowhere")
    write_overlays(variant(origin, config({})), ["lib/"], tmp_path)
    assert (tmp_path / "overlays" / "x").is_symlink() is whole
    assert (tmp_path / "overlays" / "x" / "lib" / "a.txt").is_file()


def test_shared_import_errors_are_written_once(tmp_path: Path) -> None:
    write_json(tmp_path / "older" / "shared-config.json", {})
    for name in ("-one", "-two"):
        write_variant(tmp_path / "older", name, {"packages": {"dependencies": ["six"]}})
    lists = tmp_path / "older" / "checker" / "whitelists"
    shared = {"a-*.whl": {"a.b": "shared"}, "c-*.whl": {"c": "shared"}}
    write_json(lists / "linux-x64.json", shared)
    write_json(lists / "python-3.12.10-one" / "linux-x64.json", {"a-*.whl": {"a.x": "own"}})
    report = import_runenv(tmp_path / "older", tmp_path / "stack")
    assert report.text.count('"c-*.whl"') == 1
    layers = load_stack(report.spec).layers
    # The entry of a wheel is replaced as a whole.
    assert layers["one"].policy(LINUX).allow_import_errors == {
        "a-*.whl": {"a.x": "own"},
        "c-*.whl": {"c": "shared"},
    }
    assert layers["two"].policy(LINUX).allow_import_errors == shared


@pytest.mark.parametrize("named", [True, False])
def test_a_shared_override_counts_for_the_variants_that_name_it(
    tmp_path: Path, *, named: bool
) -> None:
    older = tmp_path / "older"
    write_json(older / "shared-config.json", {"packages": {"overrides": {"six": "1.17.0"}}})
    write_variant(older, "-one", {"packages": {"dependencies": ["six==1.16.0"]}})
    write_variant(older, "-two", {"packages": {"dependencies": ["six>1"] if named else []}})
    report = import_runenv(older, tmp_path / "stack")
    layers = load_stack(report.spec).layers
    assert [str(item) for item in layers["one"].requirements] == ["six==1.17.0"]
    assert layers["one"].policy(LINUX).overrides == {"six": "==1.17.0"}
    assert layers["two"].policy(LINUX).overrides == ({"six": "==1.17.0"} if named else {})
    assert ("[tool.stackbuild.shared]" in report.text) is named
    place = "shared-config.json: packages.overrides.six"
    assert [note.kind for note in report.notes if note.place == place] == ["became"]


def test_entries_concern_the_dependencies_of_a_variant_only(tmp_path: Path) -> None:
    entry = {"linux-x64": "shared"}
    build = {"linux-x64": {"reason": "shared"}}
    shared = {
        "skip": {"a": entry, "b": entry, "gone": entry},
        "forceSource": {"a": entry, "b": entry, "gone": entry},
        "buildWheel": {"b": build, "gone": build},
    }
    write_json(tmp_path / "older" / "shared-config.json", {"packages": shared})
    own = {"dependencies": ["a"], "skip": {"b": {"linux-x64": "own"}, "c": entry}}
    write_variant(tmp_path / "older", "-a", {"packages": own})
    write_variant(tmp_path / "older", "-ab", {"packages": {"dependencies": ["a", "b"]}})
    report = import_runenv(tmp_path / "older", tmp_path / "stack")
    layers = load_stack(report.spec).layers
    one, both = (layers[name].policy(LINUX) for name in ("a", "ab"))
    # `skip` says nothing of what others require, so it may be shared.
    assert both.skip == one.skip == {"a": "shared", "b": "shared"}
    # Something may require b.
    assert one.force_source == {"a": "shared"}
    assert both.force_source == {"a": "shared", "b": "shared"}
    assert (list(one.build_wheel), list(both.build_wheel)) == ([], ["b"])
    assert "gone" not in report.text
    notes = {(note.kind, note.place): note.text for note in report.notes}
    for field in ("skip", "forceSource", "buildWheel"):
        text = "1 left out, as they are no dependencies of any variant: gone"
        assert notes["needless", f"shared-config.json: packages.{field}"] == text
    text = "2 left out, as they are no dependencies of the variant: b, c"
    assert notes["needless", "python-3.12.10-a/config.json: packages.skip"] == text
    assert notes["became", "shared-config.json: packages.forceSource"] == (
        "force-source in [tool.stackbuild.shared]: a;"
        " force-source in the layers that require them: b"
    )


def test_import_errors_of_wheels_that_no_variant_can_have_are_left_out(tmp_path: Path) -> None:
    older = tmp_path / "older"
    write_json(older / "shared-config.json", {"packages": {"skip": {"s": {"linux-x64": "x"}}}})
    dependencies = ["a==1.5", "b>=2", "c==1; python_version < '3'", "s==1"]
    folders = [
        write_variant(older, "-some", {"packages": {"dependencies": dependencies}}),
        write_variant(older, "-empty", {}),
    ]
    possible = (
        "a-1.5-py3-none-any.whl",
        "a-1.5+cpu-cp312-cp312-manylinux_2_28_x86_64.whl",
        "a-2.*.whl",  # a pattern may be of any version
        "b-2.0-cp39-abi3-manylinux_2_28_x86_64.whl",
        "c-2.0-py3-none-any.whl",
        "s-2.0-py3-none-any.whl",  # something may require it
        "other-1.0-py3-none-any.whl",
    )
    impossible = (
        "A-1.4-py3-none-any.whl",
        "b-1.9-py3-none-any.whl",
        "other-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
    )
    errors = {wheel: {"m": "text"} for wheel in (*possible, *impossible)}
    lists = older / "checker" / "whitelists"
    write_json(lists / "linux-x64.json", errors)
    write_json(lists / "windows-aarch64.json", errors)
    for folder in folders:
        own = {f"{wheel}*": {"own": "text"} for wheel in impossible}
        write_json(lists / folder.name / "linux-x64.json", {**errors, **own})
    report = import_runenv(older, tmp_path / "stack")
    settings = tomllib.loads(report.text)["tool"]["stackbuild"]
    (entries,) = settings["shared"]["platform-specific"].values()
    assert entries["allow-import-errors"].keys() == set(possible)
    table = settings["layers"]["some"]["platform-specific"]["linux-x64"]["allow-import-errors"]
    # What is the same as in the shared list is not written again.
    assert table.keys() == {f"{wheel}*" for wheel in impossible}
    assert "platform-specific" not in settings["layers"]["empty"]
    counts = {
        note.place: note.text.partition(",")[0]
        for note in report.notes
        if "are no wheels of" in note.text
    }
    assert counts == {
        "shared-config.json: checker/whitelists/linux-x64": "3 left out",
        "shared-config.json: checker/whitelists/windows-aarch64": "10 left out",
        "python-3.12.10-empty/config.json: checker/whitelists/linux-x64": "3 left out",
    }


def test_entries_for_other_platforms_are_left_out_and_noted(tmp_path: Path) -> None:
    other = {
        "dependencies": ["six"],
        "resolution": {"strictMissing": False},
        "copyFiles": [{"from": "a", "to": "b"}],
    }
    packages = {
        "dependencies": ["a"],
        "platformSpecific": {"windows-x64": other},
        "skip": {"a": {"windows-x64": "x"}},
    }
    write_json(tmp_path / "older" / "shared-config.json", {})
    write_variant(tmp_path / "older", "-x", {"packages": packages}, platforms=("linux-x64",))
    whitelist = tmp_path / "older" / "checker" / "whitelists" / "python-3.12.10-x"
    write_json(whitelist / "windows-x64.json", {"a-*.whl": {"a": "b"}})
    report = import_runenv(tmp_path / "older", tmp_path / "stack")
    load_stack(report.spec)
    assert "windows" not in report.text
    noted = sorted(note.place for note in report.notes if note.kind == "needless")
    file = "python-3.12.10-x/config.json"
    assert noted == [
        f"{file}: checker/whitelists/windows-x64: a-*.whl",
        f"{file}: packages.platformSpecific.windows-x64.copyFiles[0]",
        f"{file}: packages.platformSpecific.windows-x64.dependencies",
        f"{file}: packages.platformSpecific.windows-x64.resolution",
        f"{file}: packages.skip.a",
    ]
    assert not any(note.text.startswith("skip in") for note in report.notes)


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

    def of(*texts: str) -> dict[str, str]:
        chosen = given(map(Requirement, texts), list(found.values()))
        return {name: item.name for name, item in chosen.items()}

    # What others may require comes from the same index.
    assert of("torch==2.7.0+cpu") == dict.fromkeys(
        ("torch", "torchaudio", "torchvision"), "pytorch-cpu"
    )
    assert of("torchvision==0.22.0+cu126")["torchvision"] == "pytorch-cu126"
    # None is named: the last one, which is the variant's own.
    assert of("torch==2.7.0")["torch"] == "pytorch-cu126"
    assert (
        of("libcudf-cu12", "nx-cugraph-cu12==25.4.0", "numpy==2.2.6", "cu12-tools").items()
        >= {
            "libcudf-cu12": "nvidia",
            "nx-cugraph-cu12": "nvidia",
        }.items()
    )
    assert {"numpy", "cu12-tools"}.isdisjoint(of("numpy", "cu12-tools"))
    # Its address says where it comes from.
    assert "a-cu12" not in of("a-cu12 @ https://h/a_cu12-1.0-py3-none-any.whl")


def test_two_registries_of_one_name_are_told_apart() -> None:
    found = registries_of(["https://a.example.org/simple", "https://b.example.org/simple"])
    assert [item.name for item in found.values()] == ["example", "example-2"]


def variant(directory: Path, found: Config) -> Variant:
    """A variant with this configuration, merged with an empty shared one."""
    own = Config().merged(found)
    return Variant(directory=directory, name="x", python=Version("3.12.10"), own=found, config=own)


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
    found = overlay_settings(variant(tmp_path, config({"copyFiles": [entry]})), notes)
    if expected is None:
        assert found == {}
        assert [note.kind for note in notes] == ["question"]
    else:
        assert found == {("copy-files",): [expected]}
        assert notes == []


def test_an_overlay_may_replace_files_of_its_packages(tmp_path: Path) -> None:
    for path in ("linux-x64/bin/PDB_Fixer", "linux-x64/bin/other", "site/numpy/x.py", "bin/tool"):
        write_file(tmp_path / path)
    copies = [
        {"from": "linux-x64/bin/", "to": "bin/"},
        {"from": "site/", "to": "{site-packages}/"},
        {"from": "bin/", "to": "bin/"},
        {"from": "site/", "to": "share/"},
    ]
    packages = {"dependencies": ["pdb-fixer==1", "numpy", "share"], "copyFiles": copies}
    notes: list[Note] = []
    found = overlay_settings(variant(tmp_path, config(packages)), notes)["copy-files",]
    assert [entry.get("overwrite") for entry in found] == [True, True, None, None]
    assert [note.text for note in notes] == [
        f"its files replace those of {name} (overwrite = true)" for name in ("pdb-fixer", "numpy")
    ]


@pytest.mark.parametrize(
    ("link", "target", "beside"),
    [
        ("files/secret", "out/secret", True),
        ("files/secret", "out/secret", False),
        ("files/secret", "out", False),
        ("files", "out", False),
    ],
)
def test_a_link_out_of_the_repository_is_refused(
    tmp_path: Path, link: str, target: str, beside: bool
) -> None:
    write_file(tmp_path / "out" / "secret")
    write_json(tmp_path / "older" / "shared-config.json", {})
    copies = {"packages": {"copyFiles": [{"from": "files/", "to": "bin/"}]}}
    folder = write_variant(tmp_path / "older", "-a", copies)
    if beside:
        write_file(folder / "files" / "tool")
    (folder / link).parent.mkdir(exist_ok=True)
    (folder / link).symlink_to(tmp_path / target)
    with pytest.raises(SpecError) as caught:
        import_runenv(tmp_path / "older", tmp_path / "stack")
    assert str(caught.value).endswith(
        f"python-3.12.10-a/{link}: a link that leads out of the repository;"
        " put a copy of the file in its place, or remove it"
    )
    assert not (tmp_path / "stack").exists()


def test_import_errors_of_several_variants_are_shared(tmp_path: Path) -> None:
    write_json(tmp_path / "older" / "shared-config.json", {})
    own = {"a": {"m": "x", "a": "only"}, "b": {"m": "x", "n": "b"}, "c": {"n": "c"}, "d": {}}
    for name, entry in own.items():
        packages = {"packages": {"dependencies": ["numba"]}}
        folder = write_variant(tmp_path / "older", f"-{name}", packages)
        path = tmp_path / "older" / "checker" / "whitelists" / folder.name / "linux-x64.json"
        write_json(path, {"numba-*.whl": entry})
    report = import_runenv(tmp_path / "older", tmp_path / "stack")
    assert report.text.count('m = "x"') == 1
    layers = load_stack(report.spec).layers
    errors = {name: layers[name].policy(LINUX).allow_import_errors for name in own}
    assert errors == {name: {"numba-*.whl": {"m": "x"} | entry} for name, entry in own.items()}


@pytest.mark.parametrize(
    ("existing", "missing"),
    [
        ("build/\n/exports/*\n!/exports/README.md\n", ["/wheelhouse/", "/.stackbuild/"]),
        ("wheelhouse\n/build\nexports/\n.stackbuild/\n", []),
    ],
)
def test_git_ignores_what_commands_write(tmp_path: Path, existing: str, missing: list[str]) -> None:
    write_json(tmp_path / "older" / "shared-config.json", {})
    write_variant(tmp_path / "older", "-a", {})
    ignored = "/wheelhouse/\n/build/\n/exports/\n/.stackbuild/\n"
    report = import_runenv(tmp_path / "older", tmp_path / "stack")
    assert ".gitignore" in report.written
    assert (tmp_path / "stack" / ".gitignore").read_text() == ignored
    file = tmp_path / "older" / ".gitignore"
    file.write_text(existing)
    report = import_runenv(tmp_path / "older", tmp_path / "older")
    assert file.read_text() == existing
    assert ".gitignore" not in report.written
    text = f"add the lines {' '.join(missing)} for what commands write"
    notes = [(note.kind, note.text) for note in report.notes if note.place == ".gitignore"]
    assert notes == ([("question", text)] if missing else [])


def test_a_python_that_was_not_released_is_noted(tmp_path: Path) -> None:
    write_json(tmp_path / "shared-config.json", {})
    write_variant(tmp_path, "-a", {}, version="3.99.0")
    write_variant(tmp_path, "-b", {}, version="3.9.99")
    notes = [note for note in read_repository(tmp_path).notes if note.kind == "question"]
    for folder, minor in (("python-3.99.0-a", "3."), ("python-3.9.99-b", "3.9.")):
        (text,) = (note.text for note in notes if note.place == folder)
        assert f"has no CPython {folder[7:-2]}, but it has {minor}" in text


def test_overlays_for_other_platforms_are_left_out(tmp_path: Path) -> None:
    entries = {"windows-aarch64": {"copyFiles": [{"from": "files", "to": "bin"}]}}
    notes: list[Note] = []
    found = config({"platformSpecific": entries})
    assert overlay_settings(variant(tmp_path, found), notes) == {}
    assert [note.text for note in notes] == ["x is not made for windows-aarch64"]


def test_files_behind_the_root_of_the_package_are_found(tmp_path: Path) -> None:
    write_file(tmp_path / "with space" / "a.txt")
    settings = [
        "a={packageRoot}/cmake/x.cmake;{packageRoot}/y.txt",
        "b={packageRoot}",
        "c=-I{packageRoot}/with space -O2:{packageRoot}/z",
        "d={packageRoot}/../out",
    ]
    found = config({"buildWheel": {"tool": {"linux-x64": {"configSettings": settings}}}})
    item = variant(tmp_path, found)
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
        "{packageRoot}: the path leaves the variant's directory",
    ]
    assert list(sources(item, {})) == [".", "with space"]


def test_an_overlay_that_was_cut_short_is_completed(tmp_path: Path) -> None:
    origin, project = tmp_path / "origin", tmp_path / "project"
    for name in ("a.txt", "b.txt"):
        write_file(origin / "files" / name, name, executable=True)
    item = variant(origin, config({}))
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
    with pytest.raises(UsageError, match="a file of the overlay exists already"):
        write_overlays(item, ["files/"], project)
    assert copied[0].read_text() == "mine"


def test_links_of_an_overlay_lead_into_it_or_are_followed(tmp_path: Path) -> None:
    origin, project = tmp_path / "project" / "origin", tmp_path / "project"
    write_file(origin / "lib" / "real.so.1", "library")
    write_file(project / "elsewhere" / "tool", "tool")
    write_file(tmp_path / "secret", "secret")
    (origin / "lib" / "real.so").symlink_to("real.so.1")
    (origin / "lib" / "absolute.so").symlink_to(origin / "lib" / "real.so.1")
    (origin / "lib" / "tools").symlink_to("../../elsewhere")
    (origin / "lib" / "secret").symlink_to(tmp_path / "secret")
    (origin / "lib" / "outside").symlink_to(tmp_path)
    (origin / "lib" / "gone").symlink_to("nowhere")
    (origin / "lib" / "again").symlink_to(".")
    item = variant(origin, config({}))
    # What leads out of the directory cannot be taken from it in place.
    assert write_overlays(item, ["lib/"], project) == ["overlays/x/lib/"]
    lib = project / "overlays" / "x" / "lib"
    assert (lib / "real.so").readlink() == Path("real.so.1")
    assert not (lib / "absolute.so").is_symlink()
    assert (lib / "absolute.so").read_text() == "library"
    assert (lib / "tools" / "tool").read_text() == "tool"
    assert not (lib / "tools").is_symlink()
    assert not any(os.path.lexists(lib / name) for name in ("gone", "secret", "outside"))
    # Nothing is left out without a word.
    notes: list[Note] = []
    copies = config({"copyFiles": [{"from": "lib/", "to": "lib/"}]})
    overlay_settings(variant(origin, copies), notes)
    assert [note.text for note in notes] == [
        "left out: origin/lib/gone is a broken link",
        "left out: origin/lib/outside is a link that leads out of the repository",
        "left out: origin/lib/secret is a link that leads out of the repository",
    ]


@pytest.mark.parametrize(
    ("text", "kept", "told"),
    [
        (f"six @ https://h/six-1.17.0-py3-none-any.whl#sha256={'0' * 64}", *[None] * 2),
        ('x @ https://h/x-1.0.tar.gz ; os_name == "nt"', *[None] * 2),
        ("x @ https://h/x-1.0.zip", *[None] * 2),
        (
            "six @ https://u:secret@h/six-1.17.0-py2.py3-none-any.whl?token=secret",
            "six @ https://h/six-1.17.0-py2.py3-none-any.whl",
            "the address of six is carried over without its user and query;"
            " put credentials into a netrc file",
        ),
        (
            "six @ file:///wheels/six-1.17.0-py3-none-any.whl",
            "six==1.17.0",
            "six from file:///wheels/six-1.17.0-py3-none-any.whl is now required as six==1.17.0;"
            " add its wheel with `stackbuild wheel add`",
        ),
        ("six @ file:wheels/six-1.17.0.tar.gz", "", "six from file:wheels/six-1.17.0.tar.gz"),
        ("x @ https://u:secret@h/archive/v1.0.zip?secret", "", "x from https://h/archive/v1.0.zip"),
        (
            "git+https://secret@h/o/tool.git@v1",
            "tool @ git+https://h/o/tool.git@v1",
            "the address of tool is carried over without its user;"
            " put credentials into git's credential helper or netrc",
        ),
        ("tool @ git+ssh://git@h/o/tool.git@v1", *[None] * 2),
        ("x @ git+--upload-pack=/evil@abcdef1", "", "x from git+--upload-pack=/evil@abcdef1"),
    ],
)
def test_addresses_of_dependencies(text: str, kept: str | None, told: str | None) -> None:
    """`kept` is None for `text` as it is, and empty for a requirement that is left out."""
    if kept == "":
        told = (
            f"{told} was left out, as a stack cannot require this address; require its git"
            " repository, or its version, and add the wheel with `stackbuild wheel add`"
        )
    findings = Findings()
    table = JsonTable({"packages": {"dependencies": [text]}}, "", findings)
    found = read_config(table, "config.json")
    assert texts(found) == ([text if kept is None else kept] if kept != "" else [])
    assert [note.text for note in findings.notes] == ([told] if told else [])


def test_an_address_of_a_registry_is_carried_over_without_its_query() -> None:
    findings = Findings()
    url = "https://h/simple?token=secret"
    table = JsonTable({"registries": {"additional": [url]}}, "", findings)
    assert read_config(table, "config.json").registries == ("https://h/simple",)
    (note,) = findings.notes
    assert note.text == "the query of https://h/simple may hold a secret, and was left out"


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
    assert "the layer is called a-b; 'a b' is not available as a name" in {
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
        ("unknown", "python-3.12.10/package.json: myTool"),
        ("unknown", "python-3.12.10/package.json: block-software.target"),
        ("needless", "catalogue/package.json: version"),
        ("unknown", "catalogue/package.json: more"),
    ]


@pytest.mark.parametrize(
    ("variants", "kept", "question"),
    [
        ({"3.12.10": [], "3.11.9": []}, [], None),
        (
            {"3.12.10": ["six"], "3.11.9": []},
            [],
            'add `keep = ["pip"]` to [tool.stackbuild.layers."cpython-3.12"] and',
        ),
        (
            {"3.12.10": ["olga==1.3.0"], "3.11.9": ["six"]},
            ["cpython-3.12"],
            'add `keep = ["pip"]` to [tool.stackbuild.layers."cpython-3.11"] and',
        ),
        (
            {"3.12.10": ["OLGA"]},
            ["cpython-3.12"],
            "add `packages = true` to the table of each layer",
        ),
    ],
)
def test_pip_is_kept_for_what_runs_it_and_asked_about_for_blocks(
    tmp_path: Path, variants: dict[str, list[str]], kept: list[str], question: str | None
) -> None:
    write_json(tmp_path / "older" / "shared-config.json", {})
    for version, names in variants.items():
        packages = {"packages": {"dependencies": names}}
        write_variant(tmp_path / "older", "-a", packages, version=version)
    report = import_runenv(tmp_path / "older", tmp_path / "stack")
    layers = load_stack(report.spec).layers
    keeping = {
        layer.name: layer.runtime_settings.keep
        for layer in layers.values()
        if layer.runtime_settings and layer.runtime_settings.keep
    }
    assert keeping == dict.fromkeys(kept, ("pip",))
    texts = [note.text for note in report.notes if note.place.endswith("/packages")]
    assert len(texts) == (1 if question else 0)
    assert all(question in text for text in texts if question)
    carried = [note.text for note in report.notes if "runs `python -m pip`" in note.text]
    assert carried == [
        f'olga runs `python -m pip`: keep = ["pip"] in [tool.stackbuild.layers."{name}"]'
        for name in kept
    ]


def test_what_is_the_same_in_several_places_is_one_line_of_the_report(tmp_path: Path) -> None:
    write_json(tmp_path / "shared-config.json", {"odd": 1, "even": 1})
    for name in ("-a", "-b"):
        write_variant(tmp_path, name, {"odd": 1})
    report = import_runenv(tmp_path, tmp_path, write=False)
    found = [line for line in lines(report, verbose=False) if "unknown key" in line]
    assert found == [
        "  shared-config.json: odd and 2 more: an unknown key: 1",
        "  shared-config.json: even: an unknown key: 1",
    ]
    found = [line for line in lines(report, verbose=True) if "unknown key" in line]
    assert len(found) == 4
    assert "  python-3.12.10-b/config.json: odd: an unknown key: 1" in found


def test_what_a_catalogue_says_of_a_variant_is_that_of_its_layer(tmp_path: Path) -> None:
    older = tmp_path / "older"
    write_json(older / "shared-config.json", {})
    for name in ("-a", "-b", "-c"):
        write_variant(older, name, {})
    package = package_json("3.12.10", "-c") | {"description": "", "deprecated": True}
    write_json(older / "python-3.12.10-c" / "package.json", package)
    entries = {
        "3.12.10-a": {"reference": "x/main.sw.json", "title": "A", "deprecated": "use b"},
        "3.12.10-b": {"description": "Of the catalogue", "label": "B"},
        "3.12.10-c": "x/main.sw.json",
    }
    catalogue = {"name": "all", "version": "1", "block-software": {"entrypoints": entries}}
    write_json(older / "catalogue" / "package.json", catalogue)
    report = import_runenv(older, tmp_path / "stack")
    layers = load_stack(report.spec).layers
    assert [layers[name].catalogue for name in "abc"] == [
        Catalogue(title="A", description="Python 3.12.10 run environment a", deprecated="use b"),
        Catalogue(description="Of the catalogue"),
        Catalogue(),
    ]
    notes = {note.place: note for note in report.notes}
    place = "python-3.12.10-a/package.json"
    table = "[tool.stackbuild.layers.a.catalogue]"
    assert notes[place] == Note("became", place, f"description, title, deprecated in {table}")
    places = [note.place for note in report.notes if note.kind in {"unknown", "question"}]
    assert "python-3.12.10-c/package.json: deprecated" in places
    assert 'catalogue/package.json: block-software.entrypoints."3.12.10-b".label' in places
    # One line for all variants.
    assert [note.place for note in report.notes if note.kind == "without-counterpart"] == [
        "python-*/package.json: version"
    ]


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


def test_a_directory_that_is_not_imported_is_noted(tmp_path: Path) -> None:
    write_json(tmp_path / "shared-config.json", {})
    write_json(tmp_path / "python-3.12.10" / "config.json", {})
    write_file(tmp_path / "python-3.12.10-bare" / "README.md")
    write_file(tmp_path / "python-notes")
    found = read_repository(tmp_path)
    assert [item.directory.name for item in found.variants] == ["python-3.12.10"]
    assert [note.place for note in found.notes] == ["python-3.12.10-bare"]


def test_keys_written_twice_are_noted(tmp_path: Path) -> None:
    write_json(tmp_path / "shared-config.json", {})
    write_file(
        tmp_path / "python-3.12.10" / "config.json",
        '{"build": {"enableLogging": false, "enableLogging": true}}',
    )
    found = read_repository(tmp_path)
    assert found.variants[0].own.joined == {("build", "logging"): True}
    assert [note.text for note in found.notes] == [
        "'enableLogging' is written twice; the last value counts, as in the older project"
    ]


def test_runtimes_are_called_by_as_much_as_they_need() -> None:
    versions = [Version(text) for text in ("3.12.10", "3.12.6", "3.10.11")]
    assert list(runtime_names(versions).values()) == [
        "cpython-3.12.10",
        "cpython-3.12.6",
        "cpython-3.10",
    ]


def test_the_text_holds_any_value_as_it_is() -> None:
    reason = 'A "quoted" reason with \\ and é\nin two lines'
    layer = {"name": "x", "requirements": ["numpy==2"], "package_indexes": {"a": "b"}}
    shared = {"skip": {"a.b": {"linux-x64": reason}}}
    settings = {
        "allow-import-errors": {"a-*.whl": {"a.b": reason}},
        "build-wheel": {"a": {"linux-x64": {"reason": reason, "config-settings": {"k.l": ["1"]}}}},
        "platform-specific": {"linux-x64": {"dependencies": ["six==1"]}},
    }
    text = spec_text(
        {"frameworks": [], "applications": [layer]},
        shared=shared,
        settings={"x": settings},
    )
    tables = tomllib.loads(text)
    assert tables["tool"]["stackbuild"] == {"shared": shared, "layers": {"x": settings}}
    assert tables["applications"] == [layer]
    assert "frameworks" not in tables


def test_what_is_empty_is_left_out() -> None:
    table = {("a", "b"): {}, ("c", "d"): [], ("e",): False, ("f",): 0, ("g", "h"): ""}
    assert nested(table) == {"e": False, "f": 0, "g": {"h": ""}}


@pytest.mark.parametrize(
    ("packages", "is_built"),
    [
        ({"dependencies": ["a"]}, False),
        ({"dependencies": ["six"]}, True),
        ({"dependencies": ["a"], "resolution": {"allowSourceAll": True}}, True),
        ({"dependencies": ["a"], "resolution": {"forceNoBinaryList": ["a"]}}, True),
        ({"dependencies": ["a"], "forceSource": {"a": {"linux-x64": "x"}}}, True),
        ({"dependencies": ["a"], "forceSource": {"b": {"linux-x64": "x"}}}, False),
        ({"dependencies": ["git+https://example.org/x/a.git@e0548be"]}, True),
        ({"dependencies": ["a @ https://h/a-1.0.zip"]}, True),
        ({"dependencies": ["a @ https://h/a-1.0-py3-none-any.whl#sha256=" + "0" * 64]}, False),
    ],
)
def test_builds_from_source_have_the_variables_of_their_variant(
    tmp_path: Path, packages: dict[str, object], *, is_built: bool
) -> None:
    shared = {"packages": {"resolution": {"allowSourceList": ["six"]}}}
    write_json(tmp_path / "older" / "shared-config.json", shared)
    variables = ["MODE=ABI", "PATH=/opt/bin:$PATH"]
    config = {"packages": packages, "build": {"enableLogging": True}}
    write_variant(tmp_path / "older", "-a", config, envVars=variables)
    report = import_runenv(tmp_path / "older", tmp_path / "stack")
    policy = load_stack(report.spec).layers["a"].policy(LINUX)
    assert list(policy.environment) == ["MODE", "PATH"]
    assert policy.build.environment == (policy.environment if is_built else {})
    assert policy.build.logging
    places = {note.place for note in report.notes if note.kind == "became"}
    assert ("python-3.12.10-a/package.json: envVars" in places) is is_built


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("MODE=A=B:C", "MODE", "= A=B:C"),
        ("EMPTY=", "EMPTY", "= "),
        ("PATH=/a:/b:$PATH", "PATH", "prepend /a, /b"),
        ("PATH=${PATH}:/a", "PATH", "append /a"),
        ("PATH=/a:$PATH:/b", "PATH", "prepend /a; append /b"),
        ("PATH=/a:$HOME", None, "`$` and `{` are not read in the value"),
        ("DATA={pkg}/data", None, "`$` and `{` are not read in the value"),
        ("PYTHONHOME=/a", None, "reserved"),
        ("A B=1", None, "not the name of an environment variable"),
        ("MODE", None, "not a variable"),
        ("P=$P:", None, "an empty entry"),
        ("P=/a::$P", None, "an empty entry"),
        ("P=/a: :$P", None, "empty"),
        ("P=$P", None, "only the value that P has"),
        ("P=$P:$P", None, "`$` and `{` are not read in the value"),
        ("A= ", None, "empty"),
        ("path=1", None, "PATH and path differ only in case"),
        ("URL=https://me:secret@example.org", None, "a user or password in an address"),
    ],
)
def test_variables_of_a_variant_are_those_of_its_layer(
    tmp_path: Path, text: str, name: str | None, found: str
) -> None:
    write_json(tmp_path / "older" / "shared-config.json", {})
    first = ["PATH=/bin:$PATH"] if text.startswith("path=") else []
    write_variant(tmp_path / "older", "-a", {}, envVars=[*first, text])
    report = import_runenv(tmp_path / "older", tmp_path / "stack")
    variables = load_stack(report.spec).layers["a"].policy(LINUX).environment
    if name:
        assert str(variables[name]) == found
    else:
        assert len(variables) == len(first)
        (note,) = (
            note for note in report.notes if note.kind == "question" and "envVars" in note.place
        )
        assert "was left out: " + found in note.text
        assert "secret" not in note.text


def test_of_two_values_of_a_variable_the_last_is_imported(tmp_path: Path) -> None:
    write_json(tmp_path / "older" / "shared-config.json", {})
    write_variant(tmp_path / "older", "-a", {}, envVars=["A=1", "B=1", "A=2"])
    report = import_runenv(tmp_path / "older", tmp_path / "stack")
    variables = load_stack(report.spec).layers["a"].policy(LINUX).environment
    assert {name: str(one) for name, one in variables.items()} == {"A": "= 2", "B": "= 1"}
    notes = {
        note.place.rpartition(".")[2]: note for note in report.notes if "envVars" in note.place
    }
    assert {place: note.kind for place, note in notes.items()} == {
        "envVars[0]": "question",
        "envVars[1]": "became",
        "envVars[2]": "became",
    }
    assert notes["envVars[0]"].text == "'A=1' was left out: envVars[2] sets A, too"
