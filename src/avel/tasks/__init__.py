"""Tasks: targets, decision, metric, trivial answers."""
