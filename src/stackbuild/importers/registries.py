"""Additional package indexes: what they are called, and which distributions are theirs.

pip looked at all of them together. Here a distribution comes from one index, so
each additional one is given the distributions that such an index exists for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stackbuild.spec.model import PackageIndex
from stackbuild.transport.urls import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from packaging.utils import NormalizedName
    from packaging.version import Version

TORCH = frozenset(
    {
        "torch", "torchvision", "torchaudio", "torchtext", "torchdata", "torchao", "torchtune",
        "torchrl", "tensordict", "fbgemm-gpu", "pytorch-triton", "torch-xla", "triton-windows",
    }
)  # fmt: skip
"""What an index of PyTorch is for."""

CUDA = re.compile(r".+-cu\d\d")
"""The names of what an index of NVIDIA is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """An additional index."""

    url: str
    """Without credentials."""
    name: str
    build: str | None
    """Of one for PyTorch, the build that its files are, such as ``cpu`` or ``cu126``."""

    def serves(self, distribution: str) -> bool:
        """Whether such an index exists for a distribution of this name."""
        if self.build is not None:
            return distribution in TORCH
        return self.name.startswith("nvidia") and CUDA.fullmatch(distribution) is not None

    @property
    def known(self) -> bool:
        """Whether it can be told what the index is for."""
        return self.build is not None or self.name.startswith("nvidia")

    def as_index(self) -> PackageIndex:
        """As `[[tool.uv.index]]`: asked only for what is given to it."""
        return PackageIndex(name=self.name, url=self.url, explicit=True)


def registries_of(urls: Iterable[str]) -> dict[str, Registry]:
    """The registries at `urls`, by the address that was written, each with its own name."""
    found: dict[str, Registry] = {}
    names: set[str] = set()
    for url in dict.fromkeys(urls):
        name, build = _describe(url)
        unique, number = name, 1
        while unique in names:
            number += 1
            unique = f"{name}-{number}"
        names.add(unique)
        found[url] = Registry(url=without_credentials(url), name=unique, build=build)
    return found


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


def owner(
    distribution: NormalizedName, version: Version | None, registries: Sequence[Registry]
) -> Registry | None:
    """The one of `registries` that a distribution comes from; None for the default index.

    Of several that could be, the one whose build a version names
    (``2.7.0+cu126``), else the last one, which is the variant's own.
    """
    fitting = [registry for registry in registries if registry.serves(distribution)]
    named = [item for item in fitting if version is not None and item.build == version.local]
    chosen = named or fitting
    return chosen[-1] if chosen else None
