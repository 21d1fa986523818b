"""Tasks: where episodes and sequences come from."""
