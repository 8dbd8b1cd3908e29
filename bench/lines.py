"""The measurements, in the groups that `--only` names; each gives lines of the table."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.images import images
from bench.inputs import APPLICATION, beside_python, served
from bench.measure import MIB, Place, Run, alternated, in_turn, repeated, run
from bench.modules import native_modules
from bench.ours import WITHOUT_BYTECODE, Ours
from bench.registries import registries
from bench.table import Kind, Line, Target
from bench.upgrades import upgrades

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bench.peer import Peer

MEMORY_LIMIT = Target(kind=Kind.LIMIT, value=300)
AT_ONCE = Target(kind=Kind.LIMIT, value=0.3)
ROLLBACK = Target(kind=Kind.LIMIT, value=0.2)
MB = 1_000_000
SHORT = 7
"""Rounds of what takes about a second or less, and whose ratio is near its target."""
STARTS = 101
IMPORTS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Both sides, set up on the same stack, and a directory for roots and trees."""

    ours: Ours
    peer: Peer
    scratch: Path

    @property
    def place(self) -> Place:
        """Where the commands run that belong to neither side."""
        place = self.ours.place
        return Place(
            directory=self.scratch,
            environment=place.environment,
            log=self.scratch / "log.txt",
        )

    def fresh(self, name: str) -> Path:
        """An empty directory, whatever was there before."""
        path = self.scratch / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def shell(self, script: str) -> Run:
        """Measure a pipeline."""
        return run(["bash", "-euo", "pipefail", "-c", script], self.place)


def _faster(value: float) -> Target:
    return Target(kind=Kind.FASTER, value=value)


def _part(value: float) -> Target:
    return Target(kind=Kind.PART, value=value)


def _nothing_to_do(name: str, ours: Run, peer: Run, against: str) -> list[Line]:
    name = f"{name}, nothing to do"
    return [
        Line(name=name, ours=ours.seconds, target=AT_ONCE),
        Line(name=name, ours=ours.seconds, peer=peer.seconds, against=against, target=_faster(4)),
    ]


def _memory(name: str, measured: Run) -> list[Line]:
    return [
        Line(
            name=f"{name}, peak memory of its largest process",
            ours=measured.largest / MIB,
            unit="MiB",
            target=MEMORY_LIMIT,
        ),
        Line(
            name=f"{name}, peak memory of all its processes together",
            ours=measured.together / MIB,
            unit="MiB",
            target=MEMORY_LIMIT,
            note="the sum of their resident pages, sampled; shared pages count more than once",
        ),
    ]


def lock(bench: Bench) -> list[Line]:
    """Resolving all layers for five platforms, and finding that nothing has changed."""
    ours, peer = bench.ours, bench.peer
    both = (ours.lock, peer.lock)

    def forget() -> None:
        for step in (ours.forget_locks, ours.forget_uv, peer.forget_uv):
            step()

    cold, cold_peer = alternated(both, before=forget)
    warm, warm_peer = alternated(both, before=ours.forget_locks, rounds=SHORT)
    idle, idle_peer = alternated([ours.lock, lambda: peer.lock("--if-needed")], rounds=SHORT)
    note = (
        "every layer is resolved again: stackbuild by one resolution for each layer and platform, "
        "venvstacks by one for each layer that holds for all of its platforms at once"
    )

    def line(name: str, ours: Run, peer: Run, target: Target) -> Line:
        return Line(
            name=f"lock, five platforms, {name}",
            ours=ours.seconds,
            peer=peer.seconds,
            against="venvstacks lock",
            target=target,
            note=note,
        )

    return [
        line("uv's cache empty", cold, cold_peer, _faster(2)),
        line("warm", warm, warm_peer, _faster(5)),
        *_nothing_to_do("lock", idle, idle_peer, "venvstacks lock --if-needed"),
    ]


def publish(bench: Bench) -> list[Line]:
    """Publishing all layers for this platform: time, bytes, memory."""
    ours, peer = bench.ours, bench.peer
    shutil.rmtree(peer.artifacts, ignore_errors=True)
    theirs = repeated(peer.publish)
    packed = _zstd_and_tar(bench)
    small = repeated(
        lambda: ours.publish(*WITHOUT_BYTECODE, "--level", "19"), before=ours.forget_frames
    )
    small_size = ours.size()
    plain = repeated(lambda: ours.publish(*WITHOUT_BYTECODE), before=ours.forget_frames)
    plain_size = ours.size()
    full = repeated(ours.publish, before=ours.forget_frames)
    warm = repeated(ours.publish, before=ours.forget_exports)
    ours.build()
    idle, idle_peer, idle_whole, idle_build, idle_build_peer = alternated(
        [ours.publish, peer.publish, peer.build_and_publish, ours.build, peer.build], rounds=SHORT
    )

    def against_peer(name: str, measured: Run, target: float, note: str = "") -> Line:
        return Line(
            name=f"publish, {name}",
            ours=measured.seconds,
            peer=theirs.seconds,
            against="venvstacks publish",
            target=_faster(target),
            note=note,
        )

    def sizes(name: str, size: int, target: float) -> Line:
        return Line(
            name=f"archives, {name}",
            ours=size / MB,
            peer=peer.size() / MB,
            unit="MB",
            against="venvstacks' tar.xz",
            target=_part(target),
        )

    return [
        against_peer(
            "frames cold",
            full,
            8,
            "with bytecode, which venvstacks leaves to the consumer; venvstacks' time is that "
            "of packing alone, its `build` comes before it and is not counted",
        ),
        against_peer("frames cold, bytecode left out", plain, 12),
        against_peer("frames cold, --level 19, bytecode left out", small, 1.8),
        against_peer("frames warm", warm, 100),
        Line(
            name="publish, frames cold, bytecode left out",
            ours=plain.seconds,
            peer=packed.seconds,
            against="tar | zstd -9 -T0",
            kind=Kind.PART,
            note="tar and zstd pack the trees that venvstacks built; stackbuild starts from wheels",
        ),
        sizes("bytecode left out", plain_size, 1.27),
        sizes("--level 19, bytecode left out", small_size, 1.08),
        *_nothing_to_do("publish", idle, idle_peer, "venvstacks publish"),
        Line(
            name="publish, nothing to do",
            ours=idle.seconds,
            peer=idle_whole.seconds,
            against="venvstacks build --publish",
            note="stackbuild's publish looks at locks, wheels and overlays; venvstacks' alone "
            "looks at what it built last, and only its build at what that came from",
        ),
        *_nothing_to_do("build", idle_build, idle_build_peer, "venvstacks build"),
        *_memory("publish", full),
        *_memory("publish --level 19", small),
    ]


def _zstd_and_tar(bench: Bench) -> Run:
    trees = shlex.join(path.name for path in bench.peer.built)
    build = shlex.quote(str(bench.peer.project / "_build"))
    return repeated(
        lambda: bench.shell(f"tar -C {build} -cf - {trees} | zstd -9 -T0 -q -f -o packed.tar.zst")
    )


def install(bench: Bench) -> list[Line]:
    """Installing the application with its chain, first into nothing, then beside itself."""
    ours, peer = bench.ours, bench.peer
    ours.publish()
    peer.publish()
    theirs = repeated(lambda: peer.unpack_and_run_postinstall(bench.fresh("peer-root")))
    mine, unsynced, unpacked, unpacked_synced, uv_cold = alternated(
        [
            lambda: ours.install(bench.fresh("first") / "root"),
            lambda: ours.install(bench.fresh("unsynced") / "root", "--no-sync"),
            lambda: _zstd_and_untar(bench),
            lambda: _zstd_and_untar(bench, "sync -f ."),
            lambda: _uv(bench, "first", cache=bench.fresh("uv-cache")),
        ],
        rounds=SHORT,
    )
    with served(ours.exports) as address:
        over_http, unsynced_http, piped, piped_synced = alternated(
            [
                lambda: ours.install(bench.fresh("http") / "root", source=address),
                lambda: ours.install(bench.fresh("http") / "root", "--no-sync", source=address),
                lambda: _zstd_and_untar(bench, address=address),
                lambda: _zstd_and_untar(bench, "sync -f .", address=address),
            ],
            rounds=SHORT,
        )
    store = bench.fresh("shared") / "store"
    first = bench.scratch / "shared/root"
    ours.install(first, "--store", store)
    second, copied, uv_warm = alternated(
        [
            lambda: ours.install(bench.fresh("second") / "root", "--store", store),
            lambda: _copy_with_links(bench, first),
            lambda: _uv(bench, "first", cache=bench.scratch / "uv-cache"),
        ],
        rounds=SHORT,
    )
    (planned,) = alternated([lambda: ours.install(first, "--dry-run")], rounds=SHORT)
    ours.uninstall(first)
    back, _ = alternated(
        [lambda: ours.rollback(first, 1), lambda: ours.rollback(first, 2)], rounds=SHORT
    )
    name, again = "install of the chain, empty store", "install into a second root"
    piping = "zstd -d piped into tar x"
    return [
        _against(name, mine, theirs, "venvstacks' untar + postinstall", _faster(12)),
        _against(name, mine, unpacked_synced, f"{piping}, and sync", _part(1.5)),
        _against(f"{name}, --no-sync", unsynced, unpacked, piping, _part(1.5)),
        _against(name, mine, unsynced, "the same with --no-sync", None),
        _against(f"{name}, HTTP", over_http, piped_synced, f"curl, {piping}, and sync", _part(1.5)),
        _against(f"{name}, HTTP, --no-sync", unsynced_http, piped, f"curl, {piping}", _part(1.5)),
        *_memory("install over HTTP", over_http),
        _against(name, mine, uv_cold, "uv pip install, cache empty", None),
        _against(again, second, copied, "cp -al of the first", _part(3)),
        _against(again, second, uv_warm, "uv pip install, cache warm", None),
        Line(name="install --dry-run, nothing missing", ours=planned.seconds, target=AT_ONCE),
        Line(name="rollback to the chain", ours=back.seconds, target=ROLLBACK),
        *_memory("install", mine),
    ]


def _against(
    name: str, ours: Run, peer: Run, against: str, target: Target | None, *, scale: int = 1
) -> Line:
    return Line(
        name=name,
        ours=ours.seconds * scale,
        peer=peer.seconds * scale,
        unit="s" if scale == 1 else "ms",
        against=against,
        kind=Kind.PART,
        target=target,
    )


def _zstd_and_untar(bench: Bench, *more: str, address: str | None = None) -> Run:
    """Unpack the chain's archives side by side, then run the commands `more`.

    The archives are read from the directory, or with curl from the server at `address`.
    """
    to = bench.fresh("untarred")
    steps = []
    for archive in bench.ours.chain():
        layer = to / archive.name
        layer.mkdir()
        source, target = shlex.quote(str(archive)), shlex.quote(str(layer))
        if address:
            relative = archive.relative_to(bench.ours.exports).as_posix()
            steps.append(f"curl -fsS {address}/{relative} | zstd -dc | tar -xf - -C {target}")
        else:
            steps.append(f"zstd -dc {source} | tar -xf - -C {target}")
    return bench.shell("; ".join([*steps, *more]))


def _copy_with_links(bench: Bench, root: Path) -> Run:
    to = bench.fresh("copied") / "generation"
    return run(["cp", "-al", (root / "current").resolve(), to], bench.place)


def _plain_venv(bench: Bench, root: str, name: str) -> Path:
    """An environment made by the `venv` module of the runtime in `root`; its interpreter."""
    venv = bench.fresh(name)
    runtime = bench.scratch / root / "root" / bench.ours.spec.runtime
    base = runtime / f"bin/python{bench.ours.spec.minor}"
    run([base, "-m", "venv", "--without-pip", venv], bench.place)
    return venv / "bin/python"


def _uv(bench: Bench, root: str, *, cache: Path, compile_too: bool = False) -> Run:
    """`uv pip install` of the application's and frameworks' locks into a new plain venv.

    Only the installing counts, not making the venv. The wheels come from the wheelhouse.
    """
    python = _plain_venv(bench, root, "with-uv")
    layers = (*bench.ours.spec.frameworks, APPLICATION)
    locks = [bench.ours.project / f"layers/{layer}/pylock.linux-x64.toml" for layer in layers]
    uv: list[str | Path] = [beside_python("uv"), "pip", "install", "--offline"]
    uv += ["--cache-dir", cache, "--python", python]
    uv += ["--compile-bytecode"] if compile_too else []
    return in_turn([run([*uv, "-r", lock], bench.place) for lock in locks])


def start(bench: Bench) -> list[Line]:
    """Starting Python, and importing pandas and scipy, in the installed application."""
    ours, peer = bench.ours, bench.peer
    ours.publish()
    peer.publish()
    root = bench.scratch / "first/root"
    if not root.exists():
        ours.install(root)
    peer_root = bench.scratch / "peer-root"
    if not peer_root.exists():
        peer.unpack_and_run_postinstall(bench.fresh("peer-root"))
    empty = _plain_venv(bench, "first", "plain")
    _uv(bench, "first", cache=bench.scratch / "uv-cache", compile_too=True)
    filled = bench.scratch / "with-uv/bin/python"

    def starting(python: Path, code: str) -> Callable[[], Run]:
        return lambda: run([python, "-c", code], bench.place)

    interpreters = [ours.interpreter(root), empty, peer.interpreter(peer_root)]
    begun = alternated([starting(each, "pass") for each in interpreters], rounds=STARTS)
    interpreters[1] = filled
    code = "import pandas, scipy"
    imported = alternated([starting(each, code) for each in interpreters], rounds=IMPORTS)
    venv, layer = "plain venv, same interpreter", "venvstacks' layer"

    def lines(name: str, runs: Sequence[Run], target: Target | None) -> list[Line]:
        return [
            _against(name, runs[0], runs[1], venv, target, scale=1000),
            _against(name, runs[0], runs[2], layer, None, scale=1000),
        ]

    return [
        *lines("python -c pass in atls", begun, _part(1.05)),
        *lines("import pandas, scipy in atls", imported, None),
        *_bundle(bench),
    ]


def _bundle(bench: Bench) -> list[Line]:
    """Starting a framework out of a bundle; Python is what it runs."""
    layer = bench.ours.spec.frameworks[0]
    directory = bench.fresh("bundle")
    program, cache = directory / "bundle.run", directory / "unpacked"
    written = bench.ours.bundle(layer, program)
    place = replace(
        bench.place, environment={**bench.place.environment, "STACKBUILD_BUNDLES": str(cache)}
    )

    def starting(program: Path) -> Callable[[], Run]:
        return lambda: run([program, "-c", "pass"], place)

    first = starting(program)()
    python = next(cache.glob(f"*/{layer}/bin/python"))
    runs = alternated([starting(program), starting(python)], rounds=STARTS)
    name, more = "python -c pass in a bundle", (runs[0].seconds - runs[1].seconds) * 1000
    return [
        _against(name, runs[0], runs[1], "the unpacked layer", None, scale=1000),
        Line(
            name="the same, more than in the layer",
            ours=more,
            unit="ms",
            target=Target(kind=Kind.LIMIT, value=10),
        ),
        _alone("first start of the bundle", first),
        _alone("write the bundle", written),
        Line(
            name="peak memory, write the bundle",
            ours=written.largest / MIB,
            unit="MiB",
            target=MEMORY_LIMIT,
        ),
    ]


def _alone(name: str, ours: Run) -> Line:
    return Line(name=name, ours=ours.seconds, kind=Kind.LIMIT)


def verify(bench: Bench) -> list[Line]:
    """Importing every native module of the installed application's chain."""
    ours = bench.ours
    ours.publish()
    root = bench.scratch / "first/root"
    if not root.exists():
        ours.install(root)
    _uv(bench, "first", cache=bench.scratch / "uv-cache")
    wheels = native_modules(bench.scratch / "with-uv", without=ours.left_out_of_verify(root))
    mine = repeated(lambda: ours.verify(root))
    theirs = repeated(lambda: _environment_for_each(bench, wheels))
    modules = sum(map(len, wheels.values()))
    return [
        Line(name="verify the chain", ours=mine.seconds, target=Target(kind=Kind.LIMIT, value=20)),
        Line(
            name="verify the chain",
            ours=mine.seconds,
            peer=theirs.seconds,
            against="a venv for each wheel",
            note=f"each of {modules} native modules in a process of its own on both sides; "
            f"the venvs of {len(wheels)} wheels are made by uv with its cache filled, and "
            "stackbuild also checks files, requirements and libraries",
        ),
    ]


def _environment_for_each(bench: Bench, wheels: Mapping[str, Sequence[str]]) -> Run:
    """For each wheel a new venv with all of the chain, and each module imported there."""
    runs: list[Run] = []
    for modules in wheels.values():
        runs.append(_uv(bench, "first", cache=bench.scratch / "uv-cache"))
        python = bench.scratch / "with-uv/bin/python"
        runs += [run([python, "-c", f"import {module}"], bench.place) for module in modules]
    return in_turn(runs)


GROUPS: Mapping[str, Callable[[Bench], list[Line]]] = {
    "lock": lock,
    "publish": publish,
    "install": install,
    "start": start,
    "verify": verify,
    "upgrades": upgrades,
    "registries": registries,
    "images": images,
}
