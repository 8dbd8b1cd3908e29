"""Start the service."""

from orders import main

main()
