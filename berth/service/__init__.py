"""The lease service over a store."""
