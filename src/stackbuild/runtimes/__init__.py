"""Provide interpreters: download them, or pack one of this machine."""
