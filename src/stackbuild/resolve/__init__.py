"""How locks are made: requests to uv, layer by layer, and the wheels that they need."""
