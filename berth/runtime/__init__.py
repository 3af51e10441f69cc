"""Trio kits without domain words, and the doors to third-party libraries."""
