"""Interpreters: downloaded, or packed from one of this machine."""
