"""Backbones: networks that turn one second of sound or picture into features, one a file."""
