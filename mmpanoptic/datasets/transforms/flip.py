"""Flipping images of any shape."""

import mmdet.datasets.transforms

from mmpanoptic.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomFlip(mmdet.datasets.transforms.RandomFlip):
    """mmdet's transform of that name, whose result can also be packed if it is a single row or column of pixels.

    A flipped image is a view with negative strides, which torch refuses. numpy considers such a view of a single row or
    column contiguous, so packing would not copy it.

    Args:
        args, kwargs: See :class:`mmdet.datasets.transforms.RandomFlip`.
    """

    def transform(self, results: dict) -> dict:
        """Flip the image, and boxes, masks and maps with it."""
        results = super().transform(results)
        if min(results['img'].strides) < 0 and results['img'].flags.c_contiguous:
            results['img'] = results['img'].copy()
        return results
