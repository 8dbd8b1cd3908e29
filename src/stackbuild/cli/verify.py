"""`stackbuild verify`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.cli.console import Console
from stackbuild.cli.main import add_json_argument, add_spec_argument, path_argument
from stackbuild.cli.output import print_json, print_lines
from stackbuild.errors import UsageError, VerifyError, quoted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from stackbuild.install.report import Difference, VerifyReport
    from stackbuild.install.state import State
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace

EXAMPLES = """\
Examples:
  stackbuild verify                                   what `stackbuild build` has made here
  stackbuild verify atls --root ~/envs                an installed layer and its chain
  stackbuild verify atls --installed --root ~/envs    whether files were changed since

Every native module is imported in a process of its own, with the interpreter of the layer;
the files of each distribution are compared with its RECORD, its requirements looked up in the
chain, text searched for paths of this machine, and every shared library for those it needs.
What the spec knows of (`allow-import-errors`) is no finding. Layers for another platform are
checked without running anything: their programs and libraries are read in the format of that
platform, and must be for its processor.

With --installed, every file is read and compared with what was unpacked instead: edited,
missing and added files, changed links and modes are listed; `stackbuild repair` brings them
anew, and so does the next `stackbuild install` of the layer.

Exit code 9 when there are any findings.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Check deployed layers, and the layers below them."
    parser.epilog = EXAMPLES
    parser.add_argument("layers", nargs="*", metavar="LAYER", help="(default: all)")
    parser.add_argument(
        "--installed", action="store_true", help="compare files with what was published"
    )
    parser.add_argument(
        "--root",
        type=path_argument,
        metavar="DIR",
        help="the root (default: the one of `stackbuild build` for the platform)",
    )
    parser.add_argument(
        "--platform", metavar="PLATFORM", help="what the layers are for (default: host)"
    )
    add_spec_argument(parser)
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check, print what was found, and fail when there is anything."""
    from stackbuild.platforms import parse_platform
    from stackbuild.workspace import open_workspace

    platform = parse_platform(arguments.platform) if arguments.platform else None
    workspace = open_workspace(arguments.spec.absolute().parent, read_only=True)
    root = arguments.root or _build_root(arguments.spec, workspace, platform)
    if arguments.installed:
        return _installed(arguments, root, platform)
    return _deployed(arguments, root, platform, workspace)


def _build_root(spec: Path, workspace: Workspace, platform: Platform | None) -> Path:
    from stackbuild.platforms import host_platform

    root = workspace.build / (platform or host_platform())
    if not root.is_dir():
        raise UsageError(
            f"nothing was built for {platform or host_platform()} beside {spec}",
            expected=f"a root in {root}",
            remedy="name the root with --root, or make this one: stackbuild build"
            + (f" --platform {platform}" if platform else ""),
        )
    return root


def _deployed(
    arguments: argparse.Namespace, root: Path, platform: Platform | None, workspace: Workspace
) -> int:
    from stackbuild.install.root import Root
    from stackbuild.spec.reader import load_stack
    from stackbuild.verify.check import check_deployed
    from stackbuild.verify.expected_failures import rules_of
    from stackbuild.verify.text import summary

    console = Console()
    rules = {}
    places = [workspace.cache]
    # A root can be checked without the spec: then nothing is known beforehand. A file that
    # was named by --spec and is not there is an error.
    if arguments.spec.exists() or arguments.spec != Path("venvstacks.toml"):
        stack = load_stack(arguments.spec)
        state = Root(root).installed_state()
        rules = rules_of(stack, state.platform)
        for text in accepted_conflicts(stack, workspace, state, arguments.layers):
            console.warn(text)
        places.append(workspace.project)
    report = check_deployed(
        arguments.layers,
        root,
        console,
        rules=rules,
        platform=platform,
        places=places,
        jobs=workspace.jobs,
    )
    if arguments.json:
        print_json(asdict(report))
    else:
        print_lines(summary(report))
    if report.findings:
        count = len(report.findings)
        raise VerifyError(f"{count} finding{'' if count == 1 else 's'}", file=root)
    return 0


def accepted_conflicts(
    stack: Stack, workspace: Workspace, state: State, layers: Sequence[str]
) -> list[str]:
    """The conflicts between frameworks that the locks of the deployed layers accept."""
    from stackbuild.lock.current import Locks
    from stackbuild.resolve.report import describe_conflicts

    locks = Locks(stack, workspace)
    deployed = [
        lock
        for manifest in state.layers.values()
        if not layers or manifest.layer in layers
        if (lock := locks.get(manifest.layer, state.platform)) and lock.digest == manifest.lock
    ]
    return describe_conflicts(deployed)


def _installed(arguments: argparse.Namespace, root: Path, platform: Platform | None) -> int:
    from stackbuild.install.root import Root
    from stackbuild.install.verify import verify_installed
    from stackbuild.verify.check import check_platform

    check_platform(Root(root), platform)
    report = verify_installed(arguments.layers, root, Console())
    if arguments.json:
        print_json(asdict(report))
    else:
        print_lines(_text(report))
    if report.differences:
        count = len(report.differences)
        raise VerifyError(
            f"{count} difference{'s' * (count != 1)} from what was installed",
            file=root,
            remedy=f"stackbuild repair {quoted(root)} --from PLACE",
        )
    return 0


def _text(report: VerifyReport) -> list[str]:
    lines = [_line(difference) for difference in report.differences]
    if not lines:
        lines.append(f"{', '.join(report.layers)}: {report.files} files as they were published")
    if report.bytecode:
        lines.append(f"{report.bytecode} bytecode files were written by an interpreter since")
    return lines


def _line(difference: Difference) -> str:
    if difference.kind == "frame not in the store":
        return f"{difference.kind}: {difference.distribution} of {difference.layer}"
    owner = f" ({difference.distribution})" if difference.distribution else ""
    notes = [f"expected {difference.expected}"] if difference.expected else []
    notes += [f"found {difference.found}"] if difference.found else []
    detail = f": {', '.join(notes)}" if notes else ""
    return f"{difference.kind}: {difference.layer}/{difference.file}{owner}{detail}"
