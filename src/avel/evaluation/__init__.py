"""Evaluation: runs judged on a split, decisions tuned on validation, cross-validation."""
