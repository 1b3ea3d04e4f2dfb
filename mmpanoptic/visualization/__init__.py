import mmpanoptic.registry  # noqa: F401  (before mmdet, whose notices it drops)

# isort: split
import mmdet.visualization  # noqa: F401  (registries search their parents only among what is imported)

from .panoptic_visualizer import PanopticVisualizer

__all__ = ['PanopticVisualizer']
