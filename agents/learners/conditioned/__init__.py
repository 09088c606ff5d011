"""Networks and policies that see a preference."""
