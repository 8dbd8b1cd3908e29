"""Ways over from older projects, and the choice of frameworks that fits a set of environments."""
