"""Agents: one module each, named as its id, on shared losses, networks and rollouts."""
