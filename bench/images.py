"""Container images of the application's chain, on a base of this machine's C library."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tests.support.bases import base_of_this_machine

from bench.inputs import APPLICATION
from bench.measure import MIB, repeated
from bench.table import Kind, Line, Target
from stackbuild.platforms import host_platform

if TYPE_CHECKING:
    from bench.lines import Bench
    from bench.measure import Run


def images(bench: Bench) -> list[Line]:
    """An image with an empty cache, a second one on the same framework, and one made again."""
    if host_platform() != "linux-x64":
        print("images are not measured: the base is for linux-x64", file=sys.stderr)
        return []
    ours = bench.ours
    ours.publish()
    directory = bench.fresh("images")
    base_of_this_machine(directory / "base", ())

    def image(layer: str) -> Run:
        return ours.image(layer, directory / "base", directory / "out")

    ours.forget_images()
    first = image(ours.spec.frameworks[0])
    second = image(APPLICATION)
    again = repeated(lambda: image(APPLICATION))
    return [
        Line(name="image of the framework", ours=first.seconds, kind=Kind.LIMIT),
        Line(
            name="image of an application on it",
            ours=second.seconds,
            target=Target(kind=Kind.LIMIT, value=3),
        ),
        Line(
            name="the same image again",
            ours=again.seconds,
            target=Target(kind=Kind.LIMIT, value=15),
        ),
        Line(
            name="peak memory, image of the framework",
            ours=first.largest / MIB,
            unit="MiB",
            target=Target(kind=Kind.LIMIT, value=300),
        ),
    ]
