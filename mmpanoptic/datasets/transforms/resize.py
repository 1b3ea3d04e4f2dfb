"""Resizing images of any shape."""

import copy

import mmdet.datasets.transforms
from mmcv.image import rescale_size

from mmpanoptic.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Resize(mmdet.datasets.transforms.Resize):
    """mmdet's transform of that name, whose result has at least one row and one column.

    With mmdet's transform, an image of 3x5000 pixels that is resized to a length of 288 pixels would have 0 rows.

    Args:
        args, kwargs: See :class:`mmdet.datasets.transforms.Resize`.
    """

    def transform(self, results: dict) -> dict:
        """Resize the image, and boxes, masks and maps with it."""
        height, width = results['img'].shape[:2]
        scale = self.scale
        if scale is None:
            factors = self.scale_factor if isinstance(self.scale_factor, tuple) else (self.scale_factor,) * 2
            scale = tuple(int(side * factor + 0.5) for side, factor in zip((width, height), factors, strict=True))
        if min(scale) > 0 and self.keep_ratio:
            scale = rescale_size((width, height), scale)
        if min(scale) > 0:
            return super().transform(results)
        thin = copy.copy(self)
        thin.scale, thin.keep_ratio = tuple(max(side, 1) for side in scale), False
        return thin.transform(results)
