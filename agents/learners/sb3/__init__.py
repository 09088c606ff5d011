"""Trainings of Stable-Baselines3."""
