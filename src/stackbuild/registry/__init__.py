"""Places that hold published layers: one interface, one file for each kind of place."""
