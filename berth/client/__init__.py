"""The HTTP client of the lease API."""
