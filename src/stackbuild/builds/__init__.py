"""Building wheels from source, with the layer's own interpreter, on the platform they are for."""
