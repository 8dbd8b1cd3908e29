"""Projects and files of the repository that a spec names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name

from stackbuild.errors import SpecError
from stackbuild.reading import Item, ReadError
from stackbuild.spec.reader import load_stack
from stackbuild.spec.sources import as_local, direct_files, file_in, is_of_project, local_path

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """\
[[runtimes]]
name = "py"
python_implementation = "cpython@3.12.10"
requirements = []
platforms = ["linux_x86_64"]
[tool.uv.sources]
"""
WHEEL = "two-1.0-py3-none-any.whl"
ONE, TWO = canonicalize_name("one"), canonicalize_name("two")


def write(directory: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A uv workspace in a git work tree, with directories that are no members of it."""
    (tmp_path / ".git").write_text("gitdir: x")
    named = '[project]\nname = "{}"\n'
    workspace = '[tool.uv.workspace]\nmembers = ["libs/*", "more"]\nexclude = ["libs/not*"]\n'
    write(
        tmp_path,
        {
            "pyproject.toml": named.format("Top") + workspace,
            "libs/one/pyproject.toml": named.format("One"),
            "libs/not/pyproject.toml": named.format("two"),
            "libs/empty/readme": "",
            "libs/later/pyproject.toml": "",
            "stacks/pyproject.toml": named.format("stacks"),
        },
    )
    return tmp_path


def member(directory: Path, name: str) -> str:
    """The address of the member `name` for a spec in `directory`."""
    path = directory / "venvstacks.toml"
    path.write_text(f"{SPEC}{name} = {{ workspace = true }}\n")
    return load_stack(path).sources[canonicalize_name(name)]


def test_members_of_a_workspace(workspace: Path) -> None:
    assert member(workspace, "one") == "file:libs/one"
    assert member(workspace, "top") == "file:."
    assert member(workspace / "stacks", "One") == "file:../libs/one"
    for name in ("two", "stacks"):
        with pytest.raises(SpecError) as caught:
            member(workspace, name)
        assert (
            f"tool.uv.sources.{name}.workspace: no member of the workspace in "
            f"{workspace / 'pyproject.toml'} has this name (expected one of one, top"
        ) in str(caught.value).replace("top, one", "one, top")


def test_a_member_of_no_workspace(workspace: Path) -> None:
    (workspace / "pyproject.toml").write_text("[tool.uv.workspace]\n")
    with pytest.raises(SpecError) as caught:
        member(workspace, "one")
    assert "has this name (found 'one')" in str(caught.value)
    (workspace / "pyproject.toml").write_text("[tool]\n")
    with pytest.raises(SpecError) as caught:
        member(workspace / "stacks", "one")
    assert (
        "tool.uv.sources.one.workspace: there is no workspace (expected [tool.uv.workspace] in "
        "pyproject.toml here or above, in this git work tree, found 'one')"
    ) in str(caught.value)


def test_a_workspace_above_the_work_tree_is_of_others(workspace: Path) -> None:
    inner = workspace / "libs/one"
    (inner / ".git").write_text("gitdir: x")
    with pytest.raises(SpecError, match="there is no workspace"):
        member(inner, "one")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"file:{WHEEL}", WHEEL),
        ("file:libs/two-1.0.tar.gz", "two-1.0.tar.gz"),
        ("https://h/x/two-1.0%2Bcu1-py3-none-any.whl", "two-1.0+cu1-py3-none-any.whl"),
        (f"https://h/{WHEEL}#sha256=ab/cd", WHEEL),
        ("https://h/two-1.0.zip", "two-1.0.zip"),
        ("file:libs/two", None),
        ("git+https://h/two-1.0.zip", None),
        ("https://h/archive.tar", None),
    ],
)
def test_the_file_of_an_address(text: str, name: str | None) -> None:
    assert file_in(text) == name


def test_files_and_directories_in_each_others_place(tmp_path: Path) -> None:
    write(tmp_path, {WHEEL: "", "two/setup.cfg": "", "sub/two-1.0.tar.gz/file": ""})

    def problem(path: str, name: str = "two") -> str:
        with pytest.raises(ReadError) as caught:
            as_local(Item("place", path), canonicalize_name(name), tmp_path)
        found = caught.value
        return f"{found.message} ({found.expected}, found {found.found})"

    assert as_local(Item("place", f"./two/../{WHEEL}"), TWO, tmp_path) == WHEEL
    assert as_local(Item("place", "two/"), TWO, tmp_path) == "two"
    form = "(a wheel or source distribution, relative to this file, found"
    assert problem("sub/two-1.0.tar.gz") == f"not a file {form} sub/two-1.0.tar.gz)"
    assert problem("none.whl") == f"does not exist {form} none.whl)"
    assert problem(str(tmp_path / WHEEL)).startswith("an absolute path, which other machines")
    other = f"a file of another distribution, two (one of one, found {WHEEL})"
    assert problem(WHEEL, "one") == other
    (tmp_path / "wheel.whl").touch()
    assert problem("wheel.whl").startswith("not the file name of a wheel or source distribution")


def test_the_files_of_all_requirements(tmp_path: Path) -> None:
    write(tmp_path, {f"the wheels/{WHEEL}": "", "three/setup.py": "", "four-1.tar.gz": ""})
    path = tmp_path / "venvstacks.toml"
    more = (
        f"two = {{ path = 'the wheels/{WHEEL}' }}\nthree = {{ path = 'three' }}\n"
        "[tool.stackbuild.layers.py]\n"
        "platform-specific.linux-x64.dependencies = ['four @ file:four-1.tar.gz']\n"
    )
    address = f"one @ https://h/files/one-1.0-py3-none-any.whl#sha256={'a' * 64}"
    path.write_text(SPEC.replace("[]", f'["{address}", "five @ https://h/five-1.zip"]') + more)
    stack = load_stack(path)
    assert stack.sources == {"two": f"file:the%20wheels/{WHEEL}", "three": "file:three"}
    one = "one-1.0-py3-none-any.whl"
    assert direct_files(stack, stack.layers["py"]) == {
        one: f"https://h/files/{one}",
        "five-1.zip": "https://h/five-1.zip",
        "four-1.tar.gz": (tmp_path / "four-1.tar.gz").as_uri(),
        WHEEL: (tmp_path / "the wheels" / WHEEL).as_uri(),
    }
    assert local_path("file:./the%20wheels/../a/") == "a"


def test_paths_of_a_project_without_git(tmp_path: Path) -> None:
    write(tmp_path, {"stack/inner/a": "", "beside/a": ""})
    stack = tmp_path / "stack"
    (stack / "link").symlink_to("../beside")
    (tmp_path / "beside/back").symlink_to("../stack")
    (tmp_path / "other").symlink_to("beside")
    for path, expected in {
        "inner": True,
        "link": False,
        "../beside": True,
        "../other": False,
        "../beside/back/inner": True,
    }.items():
        assert is_of_project(path, stack) is expected, path
    (tmp_path / ".git").write_text("gitdir: x")
    assert is_of_project("../other", stack)
    assert not is_of_project("link", stack)
    assert not is_of_project("../..", stack)


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("git = 'https://h/a.git'", "git+https://h/a.git"),
        ("git = 'ssh://git@h/a', rev = 'abcd'", "git+ssh://git@h/a@abcd"),
        (
            "git = 'https://h/a', tag = 'v1', subdirectory = 'x y'",
            "git+https://h/a@v1#subdirectory=x%20y",
        ),
        ("git = 'https://h/a', branch = 'main'", "git+https://h/a@main"),
        (f"url = 'https://h/{WHEEL}'", f"https://h/{WHEEL}"),
    ],
)
def test_the_address_of_a_commit_or_file(tmp_path: Path, entry: str, address: str) -> None:
    path = tmp_path / "venvstacks.toml"
    path.write_text(f"{SPEC}two = {{ {entry} }}\n")
    assert load_stack(path).sources == {TWO: address}


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("git = 'https://h/a', rev = 'a', tag = 'b'", "two: has several revisions"),
        ("git = 'https://h/a', path = 'b'", "two: has several sources"),
        ("git = 'https://u:p@h/a'", "two.git: a user or password in an address"),
        ("git = '../a'", "two.git: not a supported address"),
        ("url = 'https://h/one-1.0.tar.gz'", "two.url: a file of another distribution, one"),
        (f"url = 'https://h/{WHEEL}', rev = 'a'", "two.rev: not supported yet"),
    ],
)
def test_an_address_that_cannot_be_used(tmp_path: Path, entry: str, problem: str) -> None:
    path = tmp_path / "venvstacks.toml"
    path.write_text(f"{SPEC}two = {{ {entry} }}\n")
    with pytest.raises(SpecError) as caught:
        load_stack(path)
    assert f"tool.uv.sources.{problem}" in str(caught.value)
