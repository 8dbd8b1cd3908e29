"""Files of the project: which are published, and where they go in a layer."""
