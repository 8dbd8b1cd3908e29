"""`stackbuild verify`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.cli.console import Console
from stackbuild.cli.main import add_json_argument
from stackbuild.errors import VerifyError

if TYPE_CHECKING:
    import argparse

    from stackbuild.install.verify import Difference, VerifyReport

EXAMPLES = """\
Example:
  stackbuild verify atls --installed --root ~/envs

Every installed file is read and compared with what was unpacked: edited, missing and added
files, changed links and modes are listed. Exit code 9 when there are any; the next
`stackbuild install` of the layer brings them anew.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Check installed layers, and the layers below them."
    parser.epilog = EXAMPLES
    parser.add_argument("layers", nargs="*", metavar="LAYER", help="(default: all)")
    parser.add_argument(
        "--installed", action="store_true", required=True, help="compare what is installed"
    )
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="the root")
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compare, print the differences, and fail when there are any."""
    from stackbuild.install.verify import verify_installed

    report = verify_installed(arguments.layers, arguments.root, Console())
    print(
        json.dumps(asdict(report), indent=2, ensure_ascii=False)
        if arguments.json
        else _text(report)
    )
    if report.differences:
        count = len(report.differences)
        broken = " ".join(dict.fromkeys(difference.layer for difference in report.differences))
        raise VerifyError(
            f"{count} file{' differs' if count == 1 else 's differ'} from what was installed",
            file=arguments.root,
            remedy=f"stackbuild install {broken} --from PLACE --root {arguments.root}",
        )
    return 0


def _text(report: VerifyReport) -> str:
    lines = [_line(difference) for difference in report.differences]
    if not lines:
        lines.append(f"{', '.join(report.layers)}: {report.files} files as they were published")
    if report.bytecode:
        lines.append(f"{report.bytecode} bytecode files were written by an interpreter since")
    return "\n".join(lines)


def _line(difference: Difference) -> str:
    owner = f" ({difference.distribution})" if difference.distribution else ""
    notes = [f"expected {difference.expected}"] if difference.expected else []
    notes += [f"found {difference.found}"] if difference.found else []
    detail = f": {', '.join(notes)}" if notes else ""
    return f"{difference.kind}: {difference.layer}/{difference.file}{owner}{detail}"
