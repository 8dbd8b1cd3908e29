"""Start the service."""

from stock import main

main()
