"""How varied samples are."""
