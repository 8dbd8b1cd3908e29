"""Sizes as people read them."""

from __future__ import annotations


def size_text(size: int) -> str:
    """`size` bytes in the unit that keeps the number short: ``49.8 MB`` (powers of 1000)."""
    number = float(size)
    for unit in ("B", "kB", "MB"):
        if number < 999.5:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
