"""What an upgrade to a patch release costs: bytes and seconds, with patches and without."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tomlkit

from bench.inputs import APPLICATION
from bench.measure import MIB, run
from bench.ours import Ours
from bench.table import Kind, Line, Target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.lines import Bench
    from bench.measure import Run

PAIRS = {
    "scikit-learn": ("1.6.0", "1.6.1"),
    "matplotlib": ("3.10.0", "3.10.1"),
    "scipy": ("1.15.2", "1.15.3"),
    "numpy": ("2.2.5", "2.2.6"),
    "pandas": ("2.2.2", "2.2.3"),
    "pyarrow": ("19.0.0", "19.0.1"),
    "polars": ("1.33.0", "1.33.1"),
    "pydantic-core": ("2.33.1", "2.33.2"),
}
"""Distributions with compiled modules, and two versions of each."""
OLD, NEW = 0, 1
MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Upgrade:
    patched: int
    """The bytes that `install` fetches."""
    whole: int
    """The bytes of the frames that changed."""
    wheels: int
    """The bytes of the new wheels."""
    publish: Run
    install: Run
    without: Run
    """`install` where no patches are published."""


def upgrades(bench: Bench) -> list[Line]:
    """Eight upgrades of one distribution each, and one of the application's chain."""
    bench.fresh("upgrade")
    lines = []
    totals = [0, 0, 0]
    for name, versions in PAIRS.items():
        found = _upgrade(bench, name, versions, alone=True)
        totals = [
            total + one
            for total, one in zip(totals, (found.patched, found.whole, found.wheels), strict=True)
        ]
        lines += _lines(f"upgrade, {name} {' to '.join(versions)}", found)
    chain = _upgrade(bench, "scipy", PAIRS["scipy"], alone=False)
    return [
        *lines,
        _bytes("upgrade, the eight together", totals[0], totals[1], "the changed frames", 0.25),
        _bytes("upgrade, the eight together", totals[0], totals[2], "the wheels"),
        *_lines(f"upgrade of the chain of {APPLICATION}, scipy", chain),
        Line(
            name=f"upgrade of the chain of {APPLICATION}, scipy",
            ours=chain.patched / MB,
            unit="MB",
            target=Target(kind=Kind.LIMIT, value=2),
        ),
    ]


def _lines(name: str, found: _Upgrade) -> list[Line]:
    return [
        _bytes(name, found.patched, found.whole, "the changed frames"),
        Line(
            name=f"{name}, install",
            ours=found.install.seconds,
            peer=found.without.seconds,
            against="the same without patches",
        ),
        Line(name=f"{name}, publish", ours=found.publish.seconds, kind=Kind.LIMIT),
        Line(
            name=f"{name}, peak memory of publish",
            ours=found.publish.largest / MIB,
            unit="MiB",
            kind=Kind.LIMIT,
        ),
        Line(
            name=f"{name}, peak memory of install",
            ours=found.install.largest / MIB,
            unit="MiB",
            kind=Kind.LIMIT,
        ),
    ]


def _bytes(name: str, ours: int, peer: int, against: str, part: float | None = None) -> Line:
    target = None if part is None else Target(kind=Kind.PART, value=part)
    return Line(
        name=name,
        ours=ours / MB,
        peer=peer / MB,
        unit="MB",
        against=against,
        kind=Kind.PART,
        target=target,
    )


def _upgrade(bench: Bench, name: str, versions: Sequence[str], *, alone: bool) -> _Upgrade:
    """Publish and install two versions of `name`, in a layer of its own or in the stack."""
    work = bench.scratch / "upgrade"
    ours = Ours(directory=work, spec=bench.ours.spec)
    for directory in (ours.project, work / "root", work / "copy"):
        shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(
        bench.ours.project,
        ours.project,
        ignore=shutil.ignore_patterns("exports", "layers", "wheelhouse", ".stackbuild"),
    )
    layer = "upgraded" if alone else APPLICATION
    root, copy = work / "root", work / "copy"

    def publish(version: str) -> Run:
        write_spec(ours.project / "venvstacks.toml", name, version, alone=alone)
        ours.lock()
        ours.fetch()
        return run(
            [ours.program, "publish", "--layer", layer, "--platform", "host"],
            ours.place,
            watch=True,
        )

    def install(into: Path) -> Run:
        words = ("install", layer, "--from", ours.exports, "--root", into)
        return run([ours.program, *words], ours.place, watch=True)

    publish(versions[OLD])
    before = _frames(ours)
    install(root)
    shutil.copytree(root, copy, symlinks=True)
    published = publish(versions[NEW])
    after = _frames(ours)
    planned: list[str | Path] = [ours.program, "install", layer, "--from", ours.exports]
    done = subprocess.run(
        [*planned, "--root", root, "--dry-run", "--json"],
        cwd=ours.project,
        env=dict(ours.place.environment),
        check=True,
        capture_output=True,
    )
    patched = json.loads(done.stdout)["fetched_bytes"]
    installed = install(root)
    for file in ours.exports.glob("*/*.patches"):
        file.unlink()
    wheels = ours.project.joinpath("wheelhouse").glob(f"{name.replace('-', '_')}-{versions[NEW]}-*")
    return _Upgrade(
        patched=patched,
        whole=sum(size for sha256, size in after.items() if sha256 not in before),
        wheels=sum(wheel.stat().st_size for wheel in wheels),
        publish=published,
        install=installed,
        without=install(copy),
    )


def write_spec(path: Path, name: str, version: str, *, alone: bool) -> None:
    """Let the spec at `path` require `version` of `name`, and without the stack only that."""
    document: dict[str, Any] = tomlkit.parse(path.read_text()).unwrap()
    if alone:
        runtime = document["runtimes"][0]["name"]
        document["frameworks"] = [
            {"name": "upgraded", "runtime": runtime, "requirements": [f"{name}=={version}"]}
        ]
        document.pop("applications", None)
        tool = document["tool"]["stackbuild"]
        tool["layers"] = {
            runtime: tool.get("layers", {}).get(runtime, {}),
            "upgraded": {"no-deps": [name]},
        }
        tool["frames"] = {"bytecode": False}
        tool["platforms"] = ["linux-x64"]
    else:
        for framework in document["frameworks"]:
            framework["requirements"] = [
                f"{name}=={version}" if text.startswith(f"{name}==") else text
                for text in framework["requirements"]
            ]
    path.write_text(tomlkit.dumps(document))


def _frames(ours: Ours) -> dict[str, int]:
    """The sizes of the frames of all current layers, by sha256."""
    index = json.loads((ours.exports / "index.json").read_bytes())
    manifests = [
        json.loads((ours.exports / entries[0]["manifest"]).read_bytes())
        for platforms in index["layers"].values()
        for entries in platforms.values()
    ]
    return {one["sha256"]: one["size"] for manifest in manifests for one in manifest["frames"]}
