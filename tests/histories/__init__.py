"""Recorded histories of contended runs on real servers, and the checker that judges them."""
