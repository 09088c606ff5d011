"""Vector-valued Q learning."""
