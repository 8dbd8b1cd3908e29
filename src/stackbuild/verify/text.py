"""The report of a check, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackbuild.verify.model import CheckReport, Finding, KnownError, StaleEntry

_DETAIL_LINES = 12
_LONGEST_LINE = 400
"""In characters, for what a module says."""


def summary(report: CheckReport) -> Iterator[str]:
    """What was looked at, each finding in a line, and what to do about them."""
    for finding in report.findings:
        yield from _finding(finding)
    yield from map(_known, report.known)
    yield from map(_stale, report.stale)
    if report.entries:
        yield from ("", "# If these failures are to be expected, this allows them in the spec:")
        yield from (*report.entries.split("\n"), "")
    counts = report.counts
    yield (
        f"{', '.join(report.layers)} ({report.platform}): {counts.distributions} distributions, "
        f"{counts.files} files, {counts.binaries} programs and libraries, "
        f"{_modules(report)} in {report.seconds:.1f} s"
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_LINE else f"{text[: _LONGEST_LINE - 1]}…"


def _modules(report: CheckReport) -> str:
    if report.not_imported:
        return f"no module imported ({report.not_imported})"
    return f"{report.counts.modules} native modules ({len(report.left_out)} left out)"


def _finding(finding: Finding) -> Iterator[str]:
    place = f"{finding.layer}/{finding.file}" if finding.file else finding.layer
    subject = f"{finding.layer}: {finding.module}" if finding.module else place
    owner = f" ({finding.distribution})" if finding.distribution else ""
    notes = [f"expected {finding.expected}"] if finding.expected else []
    if finding.found:  # the error of a module speaks for itself
        notes.append(_cut(finding.found) if finding.module else f"found {finding.found}")
    detail = f": {', '.join(notes)}" if notes else ""
    yield f"{finding.check}: {subject}{owner} {finding.message}{detail}"
    yield from (f"    {_cut(line)}" for line in finding.detail.splitlines()[-_DETAIL_LINES:])


def _known(known: KnownError) -> str:
    first = _cut(known.text.splitlines()[0])
    return f"known: {known.layer}: {known.module} ({known.distribution}): {first}"


def _stale(entry: StaleEntry) -> str:
    return f"stale: {entry.place}: {_cut(entry.reason)}"
