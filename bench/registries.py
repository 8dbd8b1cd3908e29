"""A container registry: installing from it, and pushing what one changed file needs."""

from __future__ import annotations

import shlex
import shutil
import sys
from typing import TYPE_CHECKING

from tests.support.containers import MISSING, PROGRAM, container_registry

from bench.inputs import APPLICATION
from bench.measure import alternated
from bench.table import Kind, Line, Target

if TYPE_CHECKING:
    from bench.lines import Bench
    from bench.measure import Run

# Unpacks the blobs of a layer that skopeo copied to the directory $1, into $2.
_UNPACK = """
mkdir "$2"
python3 -c 'import json, sys
for blob in json.load(open(sys.argv[1]))["layers"]:
    if blob["mediaType"].endswith("tar+zstd"):  # patches are blobs too
        print(blob["digest"].partition(":")[2])' "$1/manifest.json" > "$1/blobs"
while read -r blob; do zstd -dc "$1/$blob" | tar -xf - -C "$2"; done < "$1/blobs"
"""


def registries(bench: Bench) -> list[Line]:
    """The application's chain in a docker-registry on loopback."""
    if PROGRAM is None or shutil.which("skopeo") is None:
        print(f"registries are not measured: {MISSING}, or skopeo is not", file=sys.stderr)
        return []
    ours = bench.ours
    with container_registry(bench.fresh("registry")) as server:
        place = f"oci://{server.host}/bench/stack"
        ours.publish("--layer", APPLICATION, "--to", place)
        installed, copied = alternated(
            [
                lambda: ours.install(bench.fresh("from-oci") / "root", source=place),
                lambda: _copied(bench, server.host),
            ]
        )
        module = ours.project / f"launch/{APPLICATION}.py"
        text = module.read_text()

        def change() -> None:
            module.write_text(f"{module.read_text()}# changed\n")

        layer = ("--layer", APPLICATION)
        try:
            pushed, composed = alternated(
                [lambda: ours.publish(*layer, "--to", place), lambda: ours.publish(*layer)],
                before=change,
            )
        finally:
            module.write_text(text)
    against = "skopeo copy to a directory, and zstd -d piped into tar x"
    return [
        Line(
            name="install of the chain from a container registry, empty store",
            ours=installed.seconds,
            peer=copied.seconds,
            against=against,
            target=Target(kind=Kind.PART, value=1.5),
        ),
        Line(
            name="publish to a container registry that has all frames but one",
            ours=pushed.seconds,
            target=Target(kind=Kind.LIMIT, value=1),
        ),
        Line(
            name="the same",
            ours=pushed.seconds,
            peer=composed.seconds,
            against="publish to exports/",
            kind=Kind.PART,
        ),
    ]


def _copied(bench: Bench, host: str) -> Run:
    """`skopeo copy` of the chain's layers into directories, and unpacking them."""
    to = bench.fresh("skopeo")
    steps = [f"unpack() {{ {_UNPACK} }}"]
    for layer in (bench.ours.spec.runtime, *bench.ours.spec.frameworks, APPLICATION):
        source = f"docker://{host}/bench/stack/{layer}:latest"
        directory = shlex.quote(f"{to}/{layer}")
        steps.append(
            f"skopeo --insecure-policy copy --src-tls-verify=false {source} dir:{directory}"
        )
        steps.append(f"unpack {directory} {directory}-tree")
    return bench.shell("\n".join(steps))
