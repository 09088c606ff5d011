"""Learners that imitate their own best episodes, conditioned on what those returned."""
