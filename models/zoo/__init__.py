"""Trained generators by name."""
