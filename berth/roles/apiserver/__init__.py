"""The lease API server."""
