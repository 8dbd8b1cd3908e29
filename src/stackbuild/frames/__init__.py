"""Making frames: independent zstd frames, each holding a canonical tar fragment."""
