"""Media files: probed, decoded, cut and written. The only code that opens a video or a sound."""
