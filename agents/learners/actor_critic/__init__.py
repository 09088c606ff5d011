"""Preference-conditioned actor-critics for continuous actions."""
