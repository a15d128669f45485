"""The composer: clips of a person's own recordings and photographs, their truth known."""
