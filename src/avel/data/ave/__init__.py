"""The published AVE data set, and a simulation of its features."""
