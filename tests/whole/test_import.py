"""`stackbuild import runenv` on repositories of that kind; locking and installing the result."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tomllib
import warnings
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest
from packaging.version import Version

from stackbuild.cli.main import main
from stackbuild.errors import LockError
from stackbuild.importers.runenv.convert import import_runenv
from stackbuild.lock.files import lock_path, read_lock
from stackbuild.messages import Silent
from stackbuild.platforms import Platform, host_platform
from stackbuild.resolve.lock_stack import lock_stack
from stackbuild.spec.reader import load_stack
from stackbuild.workspace import CACHE_VARIABLE, Workspace, open_workspace
from tests.support import building
from tests.support.interpreters import packable
from tests.support.runenv import (
    ALL,
    Indexes,
    make_older_repository,
    make_repository,
    open_indexes,
    write_file,
    write_json,
    write_variant,
)
from tests.support.stack import run
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackbuild.importers.runenv.convert import ImportReport


@dataclass
class Imported:
    """The repository with twelve variants, imported into a directory of its own."""

    base: Path
    repository: Path
    workspace: Workspace
    indexes: Indexes
    report: ImportReport

    @property
    def spec(self) -> dict[str, Any]:
        return tomllib.loads((self.workspace.project / "venvstacks.toml").read_text())

    def layer(self, name: str) -> dict[str, Any]:
        """A layer as the file has it."""
        spec = self.spec
        return next(table for table in spec["applications"] if table["name"] == name)

    def settings(self, name: str) -> dict[str, Any]:
        """`[tool.stackbuild.layers.<name>]`."""
        layers: dict[str, dict[str, Any]] = self.spec["tool"]["stackbuild"]["layers"]
        return layers.get(name, {})

    def notes(self, kind: str) -> str:
        """The lines of one part of the report."""
        return "\n".join(
            f"{note.place}: {note.text}" for note in self.report.notes if note.kind == kind
        )


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imported]:
    """Tests must not change it."""
    base = tmp_path_factory.mktemp("import")
    with open_indexes(base / "indexes") as indexes:
        repository = make_repository(base, indexes)
        workspace = open_workspace(base / "stack", cache=base / "cache")
        report = import_runenv(repository, workspace.project, index=indexes.default.url)
        yield Imported(base, repository, workspace, indexes, report)


def test_every_variant_is_a_layer_of_a_stack_that_others_can_read(imported: Imported) -> None:
    stack = load_stack(imported.workspace.project / "venvstacks.toml")
    assert len(imported.report.environments) == 12
    names = {layer for _, layer in imported.report.environments}
    assert names == {layer["name"] for layer in imported.spec["applications"]}
    assert names <= stack.layers.keys()
    versions = {str(version) for version in stack.python_versions.values()}
    assert versions == {"3.12.10", "3.11.9"}
    # One layer for each variant, and no frameworks.
    assert stack.layers.keys() - names == {"cpython-3.12", "cpython-3.11"}


def test_venvstacks_reads_the_stack(imported: Imported, tmp_path: Path) -> None:
    spec = imported.workspace.project / "venvstacks.toml"
    if Version(metadata.version("venvstacks")) < Version("0.8.0a0"):
        # It came with 0.8.
        text = re.sub(r"(?m)^(package|priority)_indexes = .*\n", "", spec.read_text())
        (tmp_path / "launch").mkdir()
        shutil.copy(spec.parent / "launch" / "run_environment.py", tmp_path / "launch")
        spec = tmp_path / "venvstacks.toml"
        spec.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        from venvstacks.stacks import StackSpec

        found = StackSpec.load(spec)
    names = {str(env.name) for env in found.all_environment_specs()}
    assert names == {
        *(layer for _, layer in imported.report.environments),
        *load_stack(imported.workspace.project / "venvstacks.toml").python_versions,
    }


def test_an_import_asks_no_network_and_starts_no_program(
    imported: Imported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    report = import_runenv(imported.repository, tmp_path, index=imported.indexes.default.url)
    assert report.text == imported.report.text


def test_what_cuda_packages_need_is_locked_from_their_index(imported: Imported) -> None:
    stack = load_stack(imported.workspace.project / "venvstacks.toml")
    lock_stack(stack, imported.workspace, Silent(), layers=["rapids"])
    lock = imported.workspace.layers / "rapids" / "pylock.linux-x64.toml"
    packages = tomllib.loads(lock.read_text())["packages"]
    # libcudf-cu12 is named by nobody: it comes with cudf-cu12, and from where that does.
    assert [package["name"] for package in packages] == [
        "cudf-cu12",
        "libcudf-cu12",
        "numpy",
        "scipy",
    ]


def test_fields_keep_their_meaning(imported: Imported) -> None:
    shared = imported.spec["tool"]["stackbuild"]["shared"]
    assert shared["build"] == {"logging": True, "parallel-downloads": False}
    assert "build.timeout: 300 s did not limit builds of wheels" in imported.notes("differs")
    assert shared["resolution"] == {"strict-missing": False, "only-binary-list": ["numpy", "scipy"]}
    assert set(shared["skip"]["cudf-cu12"]) == set(ALL) - {"linux-x64"}
    # No variant names parasail.
    assert "force-source" not in shared
    assert shared["registries"] == {"additional": ["nvidia"]}
    main_settings = imported.settings("python-3.12.10")
    build = main_settings["build-wheel"]["freesasa"]["windows-x64"]
    assert build["reason"] == "No wheel there"
    assert build["build-requires"] == ["setuptools", "wheel"]
    assert build["config-settings"] == {
        "cmake.define.TOOLS": "{packageRoot}/cmake/tools.cmake",
        "build.verbose": "true",
    }
    overlays = imported.workspace.overlays
    assert (overlays / "python-3.12.10" / "cmake" / "tools.cmake").is_file()
    errors = main_settings["platform-specific"]["linux-x64"]["allow-import-errors"]
    assert errors["scipy-1.*.whl"] == {"scipy.linalg._matfuncs": "circular import"}
    assert imported.settings("hilary")["no-deps"] == ["hilary"]
    assert imported.settings("sccoda")["overrides"] == {"numpy": "2.0.2"}
    assert set(imported.settings("clustering")["build-wheel"]["kalign-python"]) == {
        "linux-aarch64",
        "windows-x64",
    }


def test_each_package_is_given_to_the_index_that_exists_for_it(imported: Imported) -> None:
    indexes = {index.get("name"): index for index in imported.spec["tool"]["uv"]["index"]}
    assert indexes["nvidia"]["url"] == imported.indexes.nvidia.url
    assert indexes["nvidia"]["explicit"]
    assert indexes[None] == {"url": imported.indexes.default.url, "default": True}
    assert imported.layer("rapids")["package_indexes"] == {"cudf-cu12": "nvidia"}
    assert imported.layer("rapids")["priority_indexes"] == ["nvidia"]
    assert "priority_indexes" not in imported.layer("h5ad")
    assert imported.layer("parapred")["package_indexes"] == dict.fromkeys(
        ("torch", "torchaudio", "torchvision"), "pytorch-cpu"
    )
    question = "the index 'example' is not used: its purpose is not known"
    assert question in imported.notes("question")


def test_a_git_requirement_is_named_after_its_repository(imported: Imported) -> None:
    (text,) = [t for t in imported.layer("parapred")["requirements"] if "git+file" in t]
    assert text.startswith("parapred-pytorch @ git+file://")
    assert imported.settings("parapred")["no-deps"] == ["parapred-pytorch"]


def test_overlays_are_copied_for_a_stack_elsewhere(imported: Imported) -> None:
    tool = imported.workspace.overlays / "atls" / "linux-x64" / "bin" / "tool"
    assert tool.stat().st_mode & 0o111
    settings = imported.settings("atls")
    assert settings["copy-files"] == [{"from": "any/notes.txt", "to": "share/notes.txt"}]
    assert settings["platform-specific"]["macosx-aarch64"]["copy-files"] == [
        {"from": "macosx-aarch64/bin/", "to": "bin/"},
        {"from": "macosx-aarch64/lib/", "to": "lib/"},
        {"from": "macosx-aarch64/site-packages/", "to": "{site-packages}/"},
    ]
    assert imported.layer("atls")["platforms"] == ["linux_x86_64", "macosx_arm64"]
    # Given for each of its two platforms, so for the whole of it.
    assert imported.layer("atls")["requirements"] == [
        "biopython==1.85",
        "openmm==8.3.1",
        "numpy==2.2.6",
    ]


def test_nothing_is_dropped_in_silence(imported: Imported) -> None:
    unknown = imported.notes("unknown")
    assert "python-3.12.10-hilary/config.json: packages.forceSources: an unknown key" in unknown
    assert "python-3.12.10-hilary/config.json: extra: an unknown key" in unknown
    assert "artifact.theme: an unknown key: 'dark'" in unknown
    assert "linux-amd64.json: _comment: a comment" in unknown
    assert "envVars[0]: environment.LD_LIBRARY_PATH of the layer" in imported.notes("became")
    assert (
        "envVars[2]: 'PYTHONHOME=/opt' was left out: reserved: the interpreter finds the layer by"
        " such variables"
    ) in imported.notes("question")
    questions = imported.notes("question")
    assert "missing/ does not exist in python-3.12.10-" in questions
    assert "it names python-3.12.10-gone, and there is no such directory" in questions
    assert "it does not name python-3.12.10-pgen, which was imported" in questions


def test_what_platforms_exclude_anyway_can_go(imported: Imported) -> None:
    needless = imported.notes("needless")
    assert (
        "python-3.12.10-atls/config.json: packages.skip.biopython: the variant is not made"
        " for linux-aarch64, macosx-x64, windows-x64"
    ) in needless
    assert "packages.overrides.olga: it replaced" in needless
    assert "skip" not in imported.settings("atls")


@pytest.fixture
def command(
    imported: Imported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Runs `stackbuild` in this process: exit code, stdout, stderr."""
    monkeypatch.setenv(CACHE_VARIABLE, str(imported.workspace.cache))

    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_dry_run_only_prints(imported: Imported, command: Any, tmp_path: Path) -> None:
    make_older_repository(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    words = ["import", "runenv", tmp_path / "older", "--index", imported.indexes.default.url]
    code, out, err = command(*words, "--dry-run")
    assert (code, err) == (0, "")
    assert sorted(tmp_path.rglob("*")) == before
    assert "nothing was written" in out
    assert out.splitlines()[0] == f"{tmp_path / 'older'}: 3 variants"
    code, out, _ = command(*words, "--dry-run", "--json")
    report = json.loads(out)
    assert code == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert report["written"] == []
    assert "[[applications]]" in report["text"]


def test_a_report_begins_with_what_is_important(imported: Imported, command: Any) -> None:
    words = ["import", "runenv", imported.repository, "--dry-run"]
    lines = command(*words)[1].splitlines()
    headings = [line for line in lines if line.endswith(":") and line[0] != " "]
    assert headings == ["will behave differently:", "needs an answer:"]
    became, needless = (imported.notes(kind).count("\n") + 1 for kind in ("became", "needless"))
    counts = f"settings: {became} carried over, {needless} had no effect; --verbose lists them"
    assert counts in lines
    out = command(*words, "--verbose")[1]
    assert out.partition("\ncarried over:\n")[2].partition("\n\n")[0].count("\n") + 1 == became
    assert counts not in out


def test_the_older_form_with_shared_dependencies(
    imported: Imported, command: Any, tmp_path: Path
) -> None:
    root = make_older_repository(tmp_path)
    code, out, err = command("import", "runenv", root, "--index", imported.indexes.default.url)
    assert code == 0, err
    assert "next: stackbuild show" in out
    stack = load_stack(root / "venvstacks.toml")
    required = {
        name: [str(item) for item in layer.requirements_on(Platform.LINUX_X64)]
        for name, layer in stack.layers.items()
    }
    assert required["python-3.12.10"] == ["pandas==2.2.3", "numpy==2.2.6", "polars-lts-cpu==1.33.1"]
    assert required["old"] == ["pandas==2.2.3", "numpy==2.0.2", "polars-lts-cpu==1.33.1"]
    assert required["own"] == ["polars-lts-cpu==1.33.1"]
    skips = {
        layer.policy(Platform.LINUX_AARCH64).skip.get("polars-lts-cpu")  # type: ignore[call-overload]  # a plain name
        for layer in stack.layers.values()
    }
    assert skips == {"Experimental there"}
    code, _, err = command("import", "runenv", root)
    assert code == 2
    assert "there is a stack already" in err


def test_in_the_repository_itself_overlays_are_links(
    imported: Imported, command: Any, tmp_path: Path
) -> None:
    root = tmp_path / "runenv"
    shutil.copytree(imported.repository, root)
    code, out, err = command("import", "runenv", root, "--index", imported.indexes.default.url)
    assert code == 0, err
    link = root / "overlays" / "atls"
    assert link.is_symlink()
    assert "overlays/atls -> ../python-3.12.10-atls" in out
    stack = load_stack(root / "venvstacks.toml")
    assert len(stack.layers["atls"].overlays(Platform.LINUX_X64)) == 4


def test_what_was_imported_is_built_published_installed_and_run(
    imported: Imported, command: Any, tmp_path: Path
) -> None:
    python = packable()
    sources = building.source_files(building.pure(), dependencies=("nowhere-to-be-had",))
    commit = building.make_repository(tmp_path / "git" / "tiny", sources)
    older, stack = tmp_path / "older", tmp_path / "stack"
    write_json(older / "shared-config.json", {})
    folder = write_variant(
        older,
        "-tool",
        {
            "packages": {
                "dependencies": [
                    "numpy==2.2.6",
                    "biopython==1.85",
                    f"git+file://{tmp_path / 'git' / 'tiny'}@{commit[:8]}",
                ],
                "noDeps": ["tiny"],
                "resolution": {"allowSourceList": ["tiny"]},
                "copyFiles": [{"from": "tools/", "to": "bin/"}],
            }
        },
        version=str(python.version),
    )
    script = '#!/bin/sh\nexec "$(dirname "$0")/python" -c "import tiny; print(tiny.value)"\n'
    write_file(folder / "tools" / "value", script, executable=True)
    for name in ("-plain", "-other"):
        config = {"packages": {"dependencies": ["numpy==2.2.6", "click==8.1.8"]}}
        write_variant(older, name, config, version=str(python.version))
    index = imported.indexes.default.url
    code, _, err = command("import", "runenv", older, "--to", stack, "--index", index)
    assert code == 0, err
    with (stack / "venvstacks.toml").open("a") as file:
        runtime = f"cpython-{python.version.major}.{python.version.minor}"
        file.write(
            f'\n[tool.stackbuild.layers."{runtime}"]\nsources = ["local"]\n'
            f'path = "{python.prefix.as_posix()}"\n'
        )
    here = ("--spec", stack / "venvstacks.toml", "--platform", "host")
    for verb in ("lock", "publish"):
        code, _, err = command(verb, *here)
        assert code == 0, err
    lock = (stack / "layers" / "tool" / f"pylock.{host_platform()}.toml").read_text()
    assert commit in lock
    root = tmp_path / "root"
    code, _, err = command("install", "tool", "--from", stack / "exports", "--root", root)
    assert code == 0, err
    assert run(root / "tool" / "bin" / "value").stdout == "1\n"
    numpy = "import numpy; print(list(numpy.__path__)[0])"
    assert "/tool/lib/" in run(root / "tool" / "bin" / "python", "-c", numpy).stdout


def test_pins_that_contradict_each_other_can_be_installed_as_before(tmp_path: Path) -> None:
    """The older build downloaded each requirement by itself."""
    root = make_older_repository(tmp_path)
    pins = {"cudf-cu12": "25.6.0", "pyarrow": "24.0.0", "scipy": "1.15.3"}
    dependencies = [f"{name}=={version}" for name, version in pins.items()]
    write_json(
        root / "python-3.12.10-own" / "config.json", {"packages": {"dependencies": dependencies}}
    )
    with open_indexes(tmp_path / "indexes") as indexes:
        directory = indexes.default.directory
        make_wheel(directory, "cudf-cu12", "25.6.0", {}, requires=("pyarrow>=14,<20",))
        for version in ("19.0.0", "24.0.0"):
            make_wheel(directory, "pyarrow", version, {})
        report = import_runenv(root, root, index=indexes.default.url)
        stack = load_stack(report.spec)
        assert [str(one) for one in stack.layers["own"].requirements] == dependencies
        workspace = open_workspace(root, cache=tmp_path / "cache")
        with pytest.raises(LockError, match="the requirements of own contradict") as caught:
            lock_stack(stack, workspace, Silent(), layers=["own"], platforms=["linux-x64"])
        details = dict(caught.value.details)
        assert details["found"] == (
            "own requires pyarrow==24.0.0, but pyarrow<20,>=14 through cudf-cu12"
        )
        header, _, line = details["to fix"].rpartition("[tool.stackbuild.layers.own]: ")
        assert "install pyarrow 24.0.0 all the same, with this line in " in header
        text = report.spec.read_text()
        assert "[tool.stackbuild.layers.own]" not in text
        report.spec.write_text(f"{text}\n[tool.stackbuild.layers.own]\n{line}\n")
        stack = load_stack(report.spec)
        lock_stack(stack, workspace, Silent(), layers=["own"], platforms=["linux-x64"])
    lock = read_lock(lock_path(workspace, "own", Platform.LINUX_X64))
    locked = {one.name: str(one.version) for one in lock.distributions}
    assert locked.items() >= pins.items()
