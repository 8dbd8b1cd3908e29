"""Registries of published layers: one interface, and a module for each kind."""
