"""`make demo`: this repository's own stack from its locks to a program that runs, and is moved.

Only the public command line is used, and each command is shown before it runs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from stackbuild.platforms import Platform, host_platform
from stackbuild.workspace import open_workspace
from tools.standin import (
    PROJECT,
    RUNTIME,
    copy_stack_for_another_python,
    interpreter_archive,
    other_versions,
)

DEMO = PROJECT / "demo"
ROOT = DEMO / "root"
MOVED = DEMO / "déjà déplacé"
SEQUENCES = DEMO / "sequences.fasta"

EXAMPLE = """\
>candidate_1
QVQLVQSGAEVKKPGASVKVSCKASGYTFTNYGMNWVRQAPGQGLEWMGWINTNTGEPTYAEEFKGRFVFSLDTSVSTAYLQISSLKAEDTAVYYC
ARNGSDPMDVWGQGTTVTVSS
"""


def main() -> int:
    """Run the demo; the result is the exit code of the first command that fails."""
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir()
    SEQUENCES.write_text(EXAMPLE, encoding="utf-8")
    stack = PROJECT
    application = _application()
    say(f"The stack is venvstacks.toml; the demo takes its application {application}.")
    run(stack, "show")
    say("Get the interpreter: download it, or pack a CPython 3.12 of this machine; publish it.")
    if interpreter_archive(open_workspace(stack)):
        run(stack, "publish", "--layer", RUNTIME, "--platform", "host")
    else:
        stack = _stand_in()
    _lock(stack, application)
    run(stack, "fetch", "--layer", application, "--platform", "host")
    say("Compose the layers and write their archives.")
    run(stack, "publish", "--layer", application, "--platform", "host")
    say("Install them, as somebody does who has nothing but the archives.")
    run(stack, "install", application, "--from", stack / "exports", "--root", ROOT)
    _use(ROOT, application)
    say("Move the root to a directory with a space and accents in its name, and run again.")
    print(f"$ mv {shell(ROOT)} {shell(MOVED)}", flush=True)
    ROOT.rename(MOVED)
    _use(MOVED, application)
    _tell_how_to_go_on(stack, application)
    return 0


def _application() -> str:
    made_for = (Platform.LINUX_X64, Platform.MACOSX_AARCH64)
    return "atls" if host_platform() in made_for else "pgen"


def _lock(stack: Path, application: str) -> None:
    if stack == PROJECT:
        say("Choose distributions (nothing to do: the locks are committed) and fetch the wheels.")
        run(stack, "lock")
        return
    say("Choose distributions for this platform and fetch the wheels.")
    # Only what is needed: another application would have something built from source.
    run(stack, "lock", "--layer", application, "--platform", "host")
    if others := other_versions(stack, application):
        taken = [f"{name} {version} (not {pinned})" for name, (pinned, version) in others.items()]
        say(f"The nearest versions with wheels for this Python: {', '.join(taken)}.")


def _stand_in() -> Path:
    stack, version = copy_stack_for_another_python(DEMO / "stack")
    say(f"Neither can be done here: go on in {shell(stack)}, a copy for CPython {version}.")
    return stack


def _use(root: Path, application: str) -> None:
    layer = root / application / "bin"
    execute(layer / "python", "-m", application)
    if application == "atls":
        execute(layer / "antibody-liabilities", SEQUENCES)


def _tell_how_to_go_on(stack: Path, application: str) -> None:
    program = shell(Path(sys.executable).parent / "stackbuild")
    spec = "" if stack == PROJECT else f" --spec {shell(stack / 'venvstacks.toml')}"
    say(
        "Done. The root can be moved or copied anywhere; nothing in it names this directory.",
        "To go on:",
        f"  {program} --help",
        f"  {program} run {application} --root {shell(MOVED)} -- python",
        f"  {program} show{spec}",
        f"  {program} build{spec} --layer {application}",
        f"  {program} clean{spec}",
    )


def run(stack: Path, *arguments: str | Path) -> None:
    """Run `stackbuild` in the directory of a stack; stop the demo if it fails."""
    execute(Path(sys.executable).parent / "stackbuild", *arguments, directory=stack)


def execute(*command: str | Path, directory: Path = PROJECT) -> None:
    """Show a command and run it; stop the demo if it fails."""
    where = f"cd {shell(directory)} && " if directory != PROJECT else ""
    words = " ".join(shell(word, directory) for word in command)
    print(f"$ {where}{words}", flush=True)
    code = subprocess.run(list(map(str, command)), cwd=directory, check=False).returncode
    if code:
        print(f"\nThe demo ends here: the command above failed with exit code {code}.")
        sys.exit(code)


def say(*lines: str) -> None:
    """Print lines that stand out from the output of commands."""
    print("", *(f"# {line}" for line in lines), sep="\n", flush=True)


def shell(word: str | Path, directory: Path = PROJECT) -> str:
    """A word of a command line as it is typed in `directory`; paths of the project are short."""
    if isinstance(word, Path) and word.is_relative_to(PROJECT):
        word = os.path.relpath(word, directory)
    return shlex.quote(os.fspath(word))


if __name__ == "__main__":
    sys.exit(main())
