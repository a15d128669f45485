"""Features: from a video to an array a segment, and where they are stored."""
