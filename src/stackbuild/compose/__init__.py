"""Composing layers from frames: manifest, archive, index."""
