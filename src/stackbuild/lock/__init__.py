"""Locking layers: which files each one consists of, by name, size and sha256."""
