"""Make frames: independent zstd frames, each with a canonical tar fragment."""
