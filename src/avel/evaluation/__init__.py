"""Evaluation of runs on a split, tuning of decisions on validation, cross-validation."""
