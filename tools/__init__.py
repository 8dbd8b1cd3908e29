"""Scripts of this repository; nothing of the package imports them."""
