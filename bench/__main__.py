"""`python -m bench`: set both sides up, measure, print the table, keep it as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from bench.inputs import Spec, pack_interpreter, read_spec, served, write_project
from bench.lines import GROUPS, Bench
from bench.measure import BenchError
from bench.ours import Ours
from bench.peer import Peer, prepare_peer
from bench.table import Line, as_dict, markdown

if TYPE_CHECKING:
    from collections.abc import Sequence

BUSY = 0.5
"""A load average of the last minute above this spoils the figures of two cores."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the groups asked for. 0 also where a target is missed: the table says so."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=[*GROUPS], help="only this group")
    parser.add_argument("--work", type=Path, default=Path(".bench"), help="default: .bench")
    parsed = parser.parse_args(arguments)
    if not sys.platform.startswith("linux"):
        parser.error("the bench reads /proc and uses GNU cp and tar: run it on Linux")
    try:
        lines = _measure(read_spec(Path("venvstacks.toml").absolute()), parsed.work, parsed.only)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(markdown(lines))
    return 0


def _measure(spec: Spec, work: Path, only: list[str] | None) -> list[Line]:
    work = work.absolute()
    start, load = time.monotonic(), os.getloadavg()[0]
    if load > BUSY:
        _tell(f"load average {load:.2f}: other work will show in the figures")
    ours = Ours(directory=work / "ours", spec=spec)
    ours.project.mkdir(parents=True, exist_ok=True)
    archive = pack_interpreter(spec, work / "mirror", ours.place, ours.program)
    with served(archive.path.parent) as mirror:
        peer = Peer(directory=work / "peer", mirror=mirror, spec=spec)
        prepare_peer(peer, archive)
        for project in (ours.project, peer.project):
            write_project(spec, archive, mirror, project)
        scratch = work / "scratch"
        scratch.mkdir(exist_ok=True)
        bench = Bench(ours=ours, peer=peer, scratch=scratch)
        _warm(bench, only or list(GROUPS))
        lines: list[Line] = []
        for name in only or GROUPS:
            _tell(f"measuring: {name}")
            lines += GROUPS[name](bench)
    facts = _facts(peer, archive.path.name, load) | {"seconds": round(time.monotonic() - start)}
    result = {"facts": facts, "lines": [as_dict(line) for line in lines]}
    (work / "results.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print("\n".join(f"{key}: {value}" for key, value in facts.items()), end="\n\n")
    return lines


def _warm(bench: Bench, groups: Sequence[str]) -> None:
    """Fill the caches of both sides, so that no measured command waits for a download."""
    _tell("preparing: locks, wheels and build environments of both sides")
    bench.ours.lock()
    bench.peer.lock("--if-needed")
    if set(groups) - {"lock", "upgrades"}:
        bench.ours.fetch()
        bench.peer.build()


def _facts(peer: Peer, runtime: str, load: float) -> dict[str, object]:
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "load average at the start": round(load, 2),
        "stackbuild": version("stackbuild"),
        "peer": peer.version,
        "runtime archive of both": runtime,
    }


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
