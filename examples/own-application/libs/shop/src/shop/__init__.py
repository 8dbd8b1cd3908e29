"""What the services of the shop share."""

PRICES = {"apple": 30, "pear": 40}
"""In cents."""
