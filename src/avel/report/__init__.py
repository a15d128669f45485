"""Reports: writers by file ending, figures, the page."""
