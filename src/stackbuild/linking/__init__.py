"""Shared libraries of lower layers: which file loads which, links, edited copies."""
