"""Class activation maps of dense heads, and heat maps that show them."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def class_activation(
    cls_scores: Sequence[Tensor],
    strides: Sequence[tuple[int, int]],
    label: int,
    num_classes: int,
    img_shape: tuple[int, int],
    ori_shape: tuple[int, int],
) -> Tensor:
    """Strongest probability of a class over the anchors and levels of a dense head, at each pixel of an image.

    Cell (i, j) of a level lies at pixel (i * stride, j * stride), the centre of its anchors and of its receptive field.
    Maps are interpolated bilinearly between cells; pixels beyond the last cell have its value.

    Args:
        cls_scores: Class logits of one image before the sigmoid, one tensor of shape (A * K, H_i, W_i) for each level.
        strides: (horizontal, vertical) stride of each level in pixels, as in mmdet's anchor generators.
        label: The class, 0 to K - 1.
        num_classes: Number of classes K.
        img_shape: (height, width) of the network's input without padding.
        ori_shape: Original (height, width) of the image, to which the map is resized.

    Returns:
        Probabilities, float32 of shape ``ori_shape``.
    """
    height, width = img_shape
    levels = []
    for logits, (dx, dy) in zip(cls_scores, strides, strict=True):
        by_anchor = logits.float().unflatten(0, (-1, num_classes))
        cells = by_anchor[:, label].amax(dim=0).sigmoid()[None, None]
        # From the first cell's pixel to the last cell's; padding adds the rest of the last cell.
        size = (cells.size(2) - 1) * dy + 1, (cells.size(3) - 1) * dx + 1
        large = F.interpolate(cells, size, mode='bilinear', align_corners=True)
        levels.append(F.pad(large, (0, dx - 1, 0, dy - 1), mode='replicate')[..., :height, :width])
    strongest = torch.stack(levels).amax(dim=0)
    return F.interpolate(strongest, tuple(ori_shape), mode='bilinear', align_corners=False)[0, 0]


def draw_heat(picture: np.ndarray, activation: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Blend probabilities, coloured from blue (0) to red (1), with a grey version of a picture.

    The colour range is fixed, so that pictures of two models can be compared.

    Args:
        picture: uint8 RGB of shape (H, W, 3).
        activation: Probabilities of shape (H, W).
        alpha: Opacity of the colours.

    Returns:
        A new picture.

    Raises:
        ValueError: If the picture and the map differ in size.
    """
    if picture.shape[:2] != activation.shape:
        raise ValueError(f'the picture is {picture.shape[:2]}, the activation map {activation.shape} (height, width)')
    steps = np.rint(255 * activation.clip(0, 1)).astype(np.uint8)
    colors = cv2.applyColorMap(steps, cv2.COLORMAP_JET)[..., ::-1]
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, axis=2)
    return cv2.addWeighted(grey, 1 - alpha, np.ascontiguousarray(colors), alpha, 0)
