"""Training: the loop, checkpoints and the report."""
