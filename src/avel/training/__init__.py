"""Training: the loop, its step and batches, recipes, and where a run comes from."""
