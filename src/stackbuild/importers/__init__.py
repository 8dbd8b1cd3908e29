"""Stacks out of the configuration of other tools."""
