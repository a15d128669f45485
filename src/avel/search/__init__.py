"""Search in other recordings: how windows are compared with a query."""
