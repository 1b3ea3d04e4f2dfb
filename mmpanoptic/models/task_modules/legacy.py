"""Anchors and boxes in the convention of Detectron and its descendants.

In it, a box from x1 to x2 covers the pixels x1 to x2, both included, and is x2 - x1 + 1 wide. A model that was trained
with this convention needs it to reach its published numbers.
"""

import math
from collections.abc import Sequence

import torch
from mmdet.models.task_modules import LegacyAnchorGenerator, LegacyDeltaXYWHBBoxCoder
from mmdet.structures.bbox import BaseBoxes, HorizontalBoxes, get_box_tensor
from torch import Tensor

from mmpanoptic.registry import TASK_UTILS

from .priors import KeptPriors


@TASK_UTILS.register_module()
class DetectronAnchorGenerator(KeptPriors, LegacyAnchorGenerator):
    """Anchors whose sides are rounded before they are scaled.

    Source: ``generate_anchors`` of https://github.com/rbgirshick/py-faster-rcnn, which Detectron and the released PANet
    adopted. mmdet's class rounds the corners after scaling instead, which moves them by up to 3 pixels. Centres are
    those of the pixels 0 to stride - 1, so ``center_offset`` has no effect.
    """

    def gen_single_level_base_anchors(
        self, base_size: int | float, scales: Tensor, ratios: Tensor, center: tuple[float, float] | None = None
    ) -> Tensor:
        """Anchors of the cell at the origin, whose pixels are 0 to ``base_size`` - 1.

        Args:
            base_size: Side of the square that the anchors are made from; the level's stride.
            scales: Factors of the square's sides, of shape (S,).
            ratios: Heights divided by widths, of shape (A,).
            center: Centre (x, y) in pixels, or None for the cell's.

        Returns:
            Boxes of shape (S · A, 4).
        """
        # Both round half to even, as numpy does.
        widths = (base_size * base_size / ratios.double()).sqrt().round()
        heights = (widths * ratios.double()).round()
        sides = torch.stack([widths, heights], dim=-1)
        if self.scale_major:
            sides = sides[:, None] * scales.double()[:, None]
        else:
            sides = sides * scales.double()[:, None, None]
        sides = sides.reshape(-1, 2)
        middle = sides.new_tensor(center or ((base_size - 1) / 2,) * 2)
        return torch.cat([middle - (sides - 1) / 2, middle + (sides - 1) / 2], dim=-1).float()


@TASK_UTILS.register_module()
class DetectronBBoxCoder(LegacyDeltaXYWHBBoxCoder):
    """mmdet's box coder of this convention, with a decoder that is the inverse of the encoder.

    mmdet's decoder leaves every side of a box half a pixel further out than it was encoded, and limits how much a box
    shrinks; Detectron does neither.
    """

    def decode(
        self,
        bboxes: Tensor | BaseBoxes,
        pred_bboxes: Tensor,
        max_shape: Sequence[int] | None = None,
        wh_ratio_clip: float = 16 / 1000,
    ) -> Tensor | BaseBoxes:
        """Move and resize boxes.

        Args:
            bboxes: Boxes of shape (N, 4).
            pred_bboxes: Deltas of shape (N, 4 · K) as :meth:`encode` makes them.
            max_shape: Height and width in pixels of the image. Boxes are clipped to its last column and row. None: no
                clipping.
            wh_ratio_clip: A side grows to at most its length divided by this.

        Returns:
            Boxes of the deltas' shape.
        """
        boxes = get_box_tensor(bboxes)[:, None]
        deltas = pred_bboxes.unflatten(1, (-1, 4))
        deltas = deltas * deltas.new_tensor(self.stds) + deltas.new_tensor(self.means)
        sides = boxes[..., 2:] - boxes[..., :2] + 1
        centers = (boxes[..., 2:] + boxes[..., :2]) / 2 + deltas[..., :2] * sides
        reach = (sides * deltas[..., 2:].clamp(max=-math.log(wh_ratio_clip)).exp() - 1) / 2
        decoded = torch.cat([centers - reach, centers + reach], dim=-1)
        if max_shape is not None:
            last = decoded.new_tensor([max_shape[1] - 1, max_shape[0] - 1] * 2)
            decoded = decoded.clamp(min=0).minimum(last)
        decoded = decoded.reshape(pred_bboxes.shape)
        return HorizontalBoxes(decoded) if self.use_box_type else decoded
