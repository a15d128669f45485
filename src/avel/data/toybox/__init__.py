"""Toybox: a data set that draws and plays itself, with events that are seen and heard."""
