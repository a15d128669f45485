"""Toybox: a data set that draws and plays itself, with events that are seen and heard."""

from avel.data.toybox.dataset import ToyboxPlan, synthesize
from avel.data.toybox.render import render_boxes, render_frames, render_sound
from avel.data.toybox.scene import ToyScene, ToySound, ToyThing, make_scene
from avel.data.toybox.things import CLASSES

__all__ = [
    "CLASSES",
    "ToyScene",
    "ToySound",
    "ToyThing",
    "ToyboxPlan",
    "make_scene",
    "render_boxes",
    "render_frames",
    "render_sound",
    "synthesize",
]
