"""The project's own files: which there are, and where they go in a layer."""
