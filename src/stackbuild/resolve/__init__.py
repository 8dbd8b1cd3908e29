"""How locks are made: requests to uv for each layer, and wheels built from source."""
