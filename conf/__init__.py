"""Configuration files, read as pkg://morl.conf: choices only, defaults live in dataclasses."""
