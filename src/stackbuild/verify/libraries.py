"""Whether every shared library that a layer's files need is in its chain, or on any host."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from stackbuild.runtimes.elf import find_needed
from stackbuild.verify.host_libraries import DRIVERS, MANYLINUX, declared
from stackbuild.verify.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stackbuild.verify.deployed import DeployedLayer
    from stackbuild.verify.reading import ReadLayer


def check_libraries(
    layer: DeployedLayer,
    read: ReadLayer,
    chain: Sequence[DeployedLayer],
    host_libraries: Iterable[str],
) -> list[Finding]:
    """A finding for each library that a distribution of `layer` needs and nobody brings.

    A library is there when the file's own search finds it (RUNPATH, RPATH and
    ``$ORIGIN``; ld.so(8)), when another file of the chain has that name, for
    distributions load what they need by its path beforehand, or when hosts have
    it. What an interpreter that stands in for another one needs of its host is
    granted to the runtime alone.
    """
    there = {path.rpartition("/")[2] for one in chain for path in (*one.kinds, *one.links)}
    allowed = MANYLINUX | DRIVERS
    if chain[-1] is layer:
        allowed |= declared(layer.manifest)
    patterns = tuple(host_libraries)
    missing: dict[tuple[str, str], list[str]] = {}
    for path, elf in sorted(read.binaries.items()):
        unknown = {name for name in elf.needed if name not in there and name not in allowed}
        if not unknown:
            continue
        unknown -= find_needed(elf, (layer.directory / path).parent).keys()
        owner = read.owners.get(path)
        for name in sorted(unknown):
            if not any(fnmatchcase(name, pattern) for pattern in patterns):
                missing.setdefault((str(owner or ""), name), []).append(path)
    return [
        Finding(
            check="library",
            layer=layer.manifest.layer,
            distribution=owner or None,
            file=files[0],
            message="needs a shared library that neither the chain nor every host has",
            expected=name,
            found=f"{len(files)} files that need it" if len(files) > 1 else None,
        )
        for (owner, name), files in missing.items()
    ]
