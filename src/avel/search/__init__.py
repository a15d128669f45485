"""Search: moments of other recordings that belong to a query."""
