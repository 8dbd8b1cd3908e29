"""What a check wants to know of a program or shared library, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """A program or shared library as the loader of its operating system sees it."""

    machines: tuple[str, ...]
    """The processors it is for: ``x86_64``, ``aarch64``, others as their formats name them;
    none where it is for any."""
    needed: tuple[str, ...] = ()
    """The shared libraries it cannot be loaded without, as it names them; DLLs in
    lower case."""
    search: tuple[str, ...] = ()
    """Where it has the loader look for them (DT_RUNPATH, LC_RPATH)."""
    program: bool = False
    """Whether it is started as a process of its own."""
