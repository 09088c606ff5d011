"""Generative flow networks over objects."""
