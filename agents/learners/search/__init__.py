"""Searches that learn no policy."""
