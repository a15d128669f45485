"""Features: decode, networks, store."""
