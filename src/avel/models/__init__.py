"""Models: one paper a file; each reads features by keyword and answers scores."""
