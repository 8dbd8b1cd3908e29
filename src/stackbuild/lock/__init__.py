"""Locks of layers: the files of each layer, by name, size and sha256."""
