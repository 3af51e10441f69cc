"""Stores of lease records. Siblings; none knows another."""
