"""Reading a `venvstacks.toml` into a `Stack` of layers."""
