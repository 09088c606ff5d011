"""Proximal policy optimisation for a population."""
