"""Learners: the machinery behind the agents; nothing here is registered."""
