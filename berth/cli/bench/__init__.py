"""`berth bench`: load on a running server, what it took, and whether the server kept its promise under it."""
