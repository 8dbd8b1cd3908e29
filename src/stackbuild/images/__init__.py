"""Container images of layers (OCI image specification 1.1)."""
