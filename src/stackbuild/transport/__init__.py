"""Read files over HTTP and from disk: connections, byte ranges, retries and credentials."""
