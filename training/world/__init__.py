"""A synthetic world of moving shapes: real H.264 clips with captions, half of which differ in motion alone.

Appearance (colours, shapes, sizes, background) can be read from any single frame; motion (direction, growth,
rotation, the order of two events) only from their order, because each moving scene has a partner that is its time
reversal. A model without temporal modelling can do no better than guess between the two.
"""

from colbert_video.training.world.clip_files import WorldClip, render_moments, write_clip, write_world
from colbert_video.training.world.render import render
from colbert_video.training.world.sample import sample_scenes
from colbert_video.training.world.scene import Figure, Scene, scene_split

__all__ = [
    "Figure",
    "Scene",
    "WorldClip",
    "render",
    "render_moments",
    "sample_scenes",
    "scene_split",
    "write_clip",
    "write_world",
]
