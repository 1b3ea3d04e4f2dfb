"""Shapes, the built-in dataset: rendered street scenes with the difficulties of panoptic segmentation.

Colour is independent of the class: stuff classes differ in texture, thing classes in silhouette. Things hide each
other; a tie lies on its person; of a ball and a box the smaller lies in front. ``Segment`` defines the masks that
overlap.
"""

from mmpanoptic.datasets.shapes.categories import CATEGORIES
from mmpanoptic.datasets.shapes.scene import Scene, Segment, render_scene
from mmpanoptic.datasets.shapes.writer import SPLITS, scene_rng, write_dataset, write_split

__all__ = ['CATEGORIES', 'SPLITS', 'Scene', 'Segment', 'render_scene', 'scene_rng', 'write_dataset', 'write_split']
