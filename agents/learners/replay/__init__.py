"""Collecting, storing and learning from transitions."""
