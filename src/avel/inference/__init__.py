"""From features to scores without training: the model that a fresh install uses."""
