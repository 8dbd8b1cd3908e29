"""Checks of deployed layers: native modules, requirements, files, shared libraries."""
