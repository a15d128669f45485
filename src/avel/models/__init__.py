"""Models: one paper a file; each reads features by keyword and gives scores."""
