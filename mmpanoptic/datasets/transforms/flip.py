"""Flipping images of any shape."""

import mmdet.datasets.transforms

from mmpanoptic.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomFlip(mmdet.datasets.transforms.RandomFlip):
    """mmdet's transform of that name, of which a row or a column of pixels can be packed as well.

    A flipped image is a view with negative strides. One of a single row or column is contiguous all the same for numpy,
    so that it would come to torch as it is, which cannot take it.

    Args:
        args, kwargs: See :class:`mmdet.datasets.transforms.RandomFlip`.
    """

    def transform(self, results: dict) -> dict:
        """Flip the image, and boxes, masks and maps with it."""
        results = super().transform(results)
        if min(results['img'].strides) < 0 and results['img'].flags.c_contiguous:
            results['img'] = results['img'].copy()
        return results
