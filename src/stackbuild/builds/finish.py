"""What becomes of a wheel that a build backend made: checked, tagged truly, and canonical."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stackbuild.builds.audit import Audit, audit, drop_absolute_search, elf_files
from stackbuild.builds.wheelfile import check_wheel, unpack_wheel, write_wheel
from stackbuild.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from packaging.tags import Tag

    from stackbuild.builds.wheelfile import WheelFacts
    from stackbuild.resolve.build_orders import BuildOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A wheel that is as it will be kept."""

    path: Path
    foreign: Mapping[str, str] = field(default_factory=dict)
    """Libraries that it takes from outside (`audit.Audit.foreign`)."""


def finish(wheel: Path, order: BuildOrder, directory: Path, *, build: str) -> Finished:
    """Turn `wheel`, fresh from its backend, into the one for `order`, in `directory`.

    On Linux its platform tag becomes that of what its libraries need. The
    build tag `build` (PEP 427) keeps it apart from wheels of an index that
    have the same name otherwise. Raises LockError for a wheel of something
    else, or one that does not run where the layer does.
    """
    facts = check_wheel(wheel)
    if facts.name != order.name or (order.version and facts.version != order.version):
        raise LockError(
            f"building {order.subject} made something else",
            layer=order.layer.name,
            platform=order.platform,
            distribution=order.name,
            found=f"{facts.name} {facts.version}",
            remedy=f"require it by its own name: {facts.name} @ …"
            if facts.name != order.name
            else None,
        )
    tree = directory / "wheel"
    files = unpack_wheel(wheel, tree)
    found = Audit()
    if order.platform.os == "linux":
        drop_absolute_search(elf_files(tree))
        found = audit(tree, order.platform.machine)
    tags = _tags(facts, found, order)
    _check_target(tags, found, order)
    stem = "-".join(wheel.name.split("-")[:2])
    path = directory / f"{stem}-{build}-{_compressed(tags)}.whl"
    write_wheel(tree, files, path, build=build, tags=tags)
    return Finished(path=path, foreign=found.foreign)


def _tags(facts: WheelFacts, found: Audit, order: BuildOrder) -> frozenset[Tag]:
    from packaging.tags import Tag

    if order.platform.os != "linux":
        return facts.tags
    true = found.tag(order.platform.machine)
    return frozenset(
        tag if tag.platform == "any" else Tag(tag.interpreter, tag.abi, true) for tag in facts.tags
    )


def _check_target(tags: frozenset[Tag], found: Audit, order: BuildOrder) -> None:
    target = order.target
    too_new = order.platform.os == "linux" and found.glibc > target.level
    if not too_new and target.rank(tags) is not None:
        return
    level = f"{found.glibc[0]}.{found.glibc[1]}"
    raise LockError(
        f"the wheel of {order.subject} that was built here does not run wherever"
        f" {order.layer.name} does",
        layer=order.layer.name,
        platform=order.platform,
        distribution=order.name,
        expected=f"one for {target}",
        found=str(found.because) if too_new else ", ".join(sorted(map(str, tags))),
        remedy=(
            f"set `linux_target = 'glibc@{level}'` for {order.layer.name}, or " if too_new else ""
        )
        + "build it on an older system and bring the wheel here with `stackbuild wheel add FILE`",
    )


def _compressed(tags: frozenset[Tag]) -> str:
    """The tags as a file name has them (PEP 425, compressed tag sets)."""
    sets = (
        {tag.interpreter for tag in tags},
        {tag.abi for tag in tags},
        {tag.platform for tag in tags},
    )
    return "-".join(".".join(sorted(parts)) for parts in sets)
