"""Additional package indexes: their names, and which distributions come from them.

pip searched all indexes together. In a stack a distribution comes from one index, so each
additional index gets the distributions that such an index exists for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stackbuild.transport.urls import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from packaging.requirements import Requirement

TORCH = frozenset(
    {
        "torch", "torchvision", "torchaudio", "torchtext", "torchdata", "torchao", "torchtune",
        "torchrl", "tensordict", "fbgemm-gpu", "pytorch-triton", "torch-xla", "triton-windows",
    }
)  # fmt: skip
"""What an index of PyTorch is for."""

_OTHERS_REQUIRE = ("torch", "torchvision", "torchaudio")
"""Those of them that other distributions require, so that they may come in without being named."""
_CUDA = re.compile(r".+-cu\d\d")
"""The names of what an index of NVIDIA is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """An additional index."""

    url: str
    """Without credentials."""
    name: str
    build: str | None
    """Of an index of PyTorch: the build of its files, such as ``cpu`` or ``cu126``."""

    @property
    def is_nvidia(self) -> bool:
        """Whether it is an index of NVIDIA."""
        return self.build is None and self.name.startswith("nvidia")

    @property
    def is_for_gpus(self) -> bool:
        """Whether its files need a GPU of NVIDIA, AMD or Intel, which no Mac has."""
        return self.is_nvidia or re.match("cu|rocm|xpu", self.build or "") is not None

    def serves(self, distribution: str) -> bool:
        """Whether such an index exists for a distribution of this name."""
        if self.build is not None:
            return distribution in TORCH
        return self.is_nvidia and _CUDA.fullmatch(distribution) is not None


def registries_of(urls: Iterable[str]) -> dict[str, Registry]:
    """The registries at `urls`, by the address that was written, each with a name of its own."""
    found: dict[str, Registry] = {}
    for url in dict.fromkeys(urls):
        name, build = _describe(url)
        name = free_name(name, {registry.name for registry in found.values()})
        found[url] = Registry(url=without_credentials(url), name=name, build=build)
    return found


def free_name(name: str, taken: set[str]) -> str:
    """`name`, with a number if it is in `taken`, whose names are in lower case."""
    names = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
    return next(item for item in names if item.lower() not in taken)


def _describe(url: str) -> tuple[str, str | None]:
    parts = urlsplit(url)
    words = [word for word in parts.path.lower().split("/") if word not in ("", "simple")]
    host = (parts.hostname or "").lower()
    if "pytorch" in host or "pytorch" in words or "whl" in words:
        build = words[-1] if words and words[-1] not in ("whl", "pytorch") else ""
        return ("pytorch" + (f"-{build}" if build else ""), build)
    if "nvidia" in host or "nvidia" in words:
        return "nvidia", None
    labels = [label for label in host.split(".") if not label.isdecimal()]
    name = labels[-2] if len(labels) > 1 else "-".join([*labels, *words[:1]])
    return re.sub(r"[^a-z0-9._-]+", "-", name) or "additional", None


def given(asked: Iterable[Requirement], registries: Sequence[Registry]) -> dict[str, Registry]:
    """Each distribution that comes from one of `registries`, those of the variant last.

    Of two indexes of PyTorch, the one whose build a pinned version names (``2.7.0+cu126``)
    counts, else the last one. What others may require comes from the same index.
    """
    from packaging.utils import canonicalize_name

    found: dict[str, Registry] = {}
    items = list(asked)
    for item in items:
        name, pins = canonicalize_name(item.name), [p for p in item.specifier if p.operator == "=="]
        local = {pin.version.partition("+")[2] for pin in pins}
        fitting = [registry for registry in registries if not item.url and registry.serves(name)]
        named = [registry for registry in fitting if registry.build and registry.build in local]
        if named or (fitting and name not in found):
            found[name] = (named or fitting)[-1]
    torch = [registry for registry in registries if registry.build is not None]
    if items and torch:
        chosen = next((found[name] for name in _OTHERS_REQUIRE if name in found), torch[-1])
        found = dict.fromkeys(_OTHERS_REQUIRE, chosen) | found
    return dict(sorted(found.items()))
