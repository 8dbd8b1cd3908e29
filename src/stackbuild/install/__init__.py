"""Bringing published layers into a root, and what can be done with them there."""
