"""Learners that keep a table: states are numbered as they appear, models and values are arrays."""
