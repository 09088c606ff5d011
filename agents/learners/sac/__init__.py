"""Discrete soft actor-critic."""
