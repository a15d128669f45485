"""Experiments: many trainings at once, for the papers' tables and figures and for our own."""
