"""Inference: from features to scores to events, and a checkpoint that says what it is."""
