"""`stackbuild verify`."""

from __future__ import annotations

import os
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.api import (
    Project,
    UsageError,
    VerifyError,
    build_root,
    find_root,
    verify,
    verify_files,
)
from stackbuild.cli.console import Console
from stackbuild.cli.options import LAYER_HELP, add_flag, add_shared, add_value
from stackbuild.cli.output import print_answer
from stackbuild.errors import quoted
from stackbuild.mark import MARK

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from stackbuild.api.types import (
        Difference,
        FilesReport,
        Finding,
        KnownError,
        StaleEntry,
        VerifyReport,
    )

EXAMPLES = """\
Examples:
  stackbuild verify                                   the layers that `stackbuild build` made here
  stackbuild verify atls --root ~/envs                an installed layer and its chain
  stackbuild verify atls --installed --root ~/envs    whether installed files were changed

Each native module is imported in a separate process, with the interpreter of
the layer. The files of each distribution are compared with its RECORD, and its
requirements are looked up in the chain. Native modules, bytecode and the tags of
wheels must be for the Python and platform of the layer, and the libraries that
each shared library needs must be available. Text files are searched for paths of
this machine. Code and settings of the project, and of wheels that were built from
source, are searched for paths to the homes of people. Errors listed in
`allow-import-errors` are no findings. For layers of another platform nothing is
run, but all other checks are made.

With --installed, every file is instead compared with its recorded size and
CRC-32. Edited, missing and added files and changed links and modes are listed;
`stackbuild repair` and the next `stackbuild install` of the layer restore them.

The exit code is 9 if there are findings.
"""


_DETAIL_LINES = 12
_LONGEST_LINE = 400
"""In characters, for the error of a module."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Check deployed layers, and the layers below them."
    parser.epilog = EXAMPLES
    parser.add_argument("layers", nargs="*", metavar="LAYER", help=f"{LAYER_HELP} (default: all)")
    add_flag(parser, "--installed", "compare installed files with the published ones")
    text = "the root (default: that of this directory, else that of `stackbuild build`)"
    add_value(parser, "--root", "DIR", text)
    add_value(parser, "--platform", "PLATFORM", "the platform of the layers (default: host)")
    add_flag(parser, "--verbose", "list modules that nothing needs and `exclude-files` breaks")
    add_shared(parser, "--spec", "--json")


def run(arguments: argparse.Namespace) -> int:
    """Check, print the findings, and fail if there are any."""
    platform = arguments.platform
    for word in arguments.layers:
        _refuse_root(word)
    root = arguments.root or find_root() or build_root(arguments.spec.parent, platform or "host")
    if arguments.installed:
        return _installed(arguments, root)
    console, project = Console(quiet=arguments.quiet), None
    # A root can be checked without the spec: then no errors are expected. A missing file
    # that --spec names is an error.
    if arguments.spec.exists() or arguments.spec != Path("venvstacks.toml"):
        project = Project.load(arguments.spec)
    report = verify(root, arguments.layers, project=project, platform=platform, messages=console)
    print_answer(report, summary(report, verbose=arguments.verbose), as_json=arguments.json)
    if count := len(report.findings):
        raise VerifyError(f"{count} finding{'s' * (count != 1)}", file=root)
    return 0


def _refuse_root(word: str) -> None:
    """Raise UsageError if `word`, which is taken as a layer, is a directory (as for `repair`)."""
    if "/" in word or os.sep in word or os.path.lexists(Path(word, MARK)):
        raise UsageError(
            f"{word!r} is taken as the name of a layer, and is a path",
            remedy=f"to check the layers in a root: stackbuild verify --root {quoted(word)}",
        )


def summary(report: VerifyReport, *, verbose: bool = False) -> Iterator[str]:
    """Each finding in a line, the entries that allow them, and what was checked."""
    for finding, following in zip_longest(report.findings, report.findings[1:]):
        yield from _finding(finding, report.platform)
        # Once for findings in a row.
        if finding.remedy and (following is None or following.remedy != finding.remedy):
            yield f"    to fix: {finding.remedy}"
    yield from (_known("known", one) for one in report.known)
    if verbose:
        yield from (_known("unused", one) for one in report.unused)
    elif count := len(report.unused):
        yield (
            f"{count} module{'s' * (count != 1)} that nothing imports "
            f"need{'s' * (count == 1)} files that `exclude-files` leaves out; --verbose lists "
            f"{'them' if count > 1 else 'it'}"
        )
    yield from map(_stale, report.stale)
    if report.entries:
        yield from ("", "# If these errors are expected, allow them in the spec:")
        yield from (*report.entries.split("\n"), "")
    counts = report.counts
    yield (
        f"{', '.join(report.layers)} ({report.platform}): {counts.distributions} distributions, "
        f"{counts.files} files, {counts.binaries} programs and libraries, "
        f"{_modules(report)} in {report.seconds:.1f} s"
    )
    for layer, items in report.omitted.items():
        yield from (f"omitted {item.name} in {layer}: {item.reason}" for item in items)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_LINE else f"{text[: _LONGEST_LINE - 1]}…"


def _modules(report: VerifyReport) -> str:
    if report.not_imported:
        return f"no module imported ({report.not_imported})"
    count = report.counts.modules
    return f"{count} native module{'s' * (count != 1)} ({len(report.left_out)} left out)"


def _finding(finding: Finding, platform: str) -> Iterator[str]:
    place = f"{finding.layer}/{finding.file}" if finding.file else finding.layer
    subject = f"{finding.layer}: {finding.module}" if finding.module else place
    owner = f" ({finding.distribution}, {platform})" if finding.distribution else f" ({platform})"
    notes = [f"expected {finding.expected}"] if finding.expected else []
    if finding.found:  # the error of a module needs no "found"
        notes.append(_cut(finding.found) if finding.module else f"found {finding.found}")
    detail = f": {', '.join(notes)}" if notes else ""
    yield f"{finding.check}: {subject}{owner} {finding.message}{detail}"
    yield from (f"    {_cut(line)}" for line in finding.detail.splitlines()[-_DETAIL_LINES:])


def _known(word: str, known: KnownError) -> str:
    first = _cut(known.text.splitlines()[0])
    owner = f" ({known.distribution})" if known.distribution else ""
    return f"{word}: {known.layer}: {known.module}{owner}: {first}"


def _stale(entry: StaleEntry) -> str:
    return f"stale: {entry.place}: {_cut(entry.reason)}"


def _installed(arguments: argparse.Namespace, root: Path) -> int:
    report = verify_files(
        root, arguments.layers, platform=arguments.platform, messages=Console(quiet=arguments.quiet)
    )
    print_answer(report, _installed_text(report), as_json=arguments.json)
    if count := len(report.differences):
        raise VerifyError(
            f"{count} difference{'s' * (count != 1)} from what was installed",
            file=root,
            remedy=f"stackbuild repair {quoted(root)} --from PLACE",
        )
    return 0


def _installed_text(report: FilesReport) -> list[str]:
    lines = [_line(difference) for difference in report.differences]
    if not lines:
        lines.append(f"{', '.join(report.layers)}: {report.files} files are unchanged")
    if report.bytecode:
        lines.append(f"{report.bytecode} bytecode files were written by an interpreter later")
    return lines


def _line(difference: Difference) -> str:
    if difference.kind == "frame not in the store":
        return f"{difference.kind}: {difference.distribution} of {difference.layer}"
    owner = f" ({difference.distribution})" if difference.distribution else ""
    notes = [f"expected {difference.expected}"] if difference.expected else []
    notes += [f"found {difference.found}"] if difference.found else []
    detail = f": {', '.join(notes)}" if notes else ""
    return f"{difference.kind}: {difference.layer}/{difference.file}{owner}{detail}"
