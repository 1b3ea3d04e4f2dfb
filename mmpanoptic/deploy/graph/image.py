"""Convert an image, uint8 RGB, to the network's input, bit for bit as the test pipeline does.

OpenCV resizes bytes in fixed point, with weights of 11 bits. All its intermediate numbers are integers. Here they are
float32 where they are below 2 ** 24 (across) and float64 elsewhere (down), which is exact; each shift is a division and
a floor.

Source: ``resizeGeneric_`` and ``VResizeLinear`` of
https://github.com/opencv/opencv/blob/4.x/modules/imgproc/src/resize.cpp
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .sizes import Scalar, Size

_ONE = 2048.0


@dataclass(frozen=True)
class Preparation:
    """Converts an image to the input of the network.

    Attributes:
        scale: With ``keep_ratio``, lengths of the long and the short side, in any order, that the image must not
            exceed; otherwise width and height.
        keep_ratio: Whether to keep the aspect ratio.
        mean, std: Mean and standard deviation of each channel, in the order of the network's input.
        divisor: Height and width are padded, at the bottom and on the right, to multiples of this.
        to_bgr: Whether the network takes BGR.
    """

    scale: tuple[int, int]
    keep_ratio: bool
    mean: Sequence[float]
    std: Sequence[float]
    divisor: int
    to_bgr: bool = False

    def size(self, height: Scalar, width: Scalar) -> Size:
        """Height and width of the resized image, int64 scalars, as by mmcv's ``rescale_size``."""
        if not self.keep_ratio:
            return torch.full_like(height, self.scale[1]), torch.full_like(width, self.scale[0])
        long, short = in_double(torch.maximum(height, width)), in_double(torch.minimum(height, width))
        factor = torch.minimum(max(self.scale) / long, min(self.scale) / short)
        rows, columns = ((in_double(side) * factor + 0.5).floor().long().clamp(min=1)[0] for side in (height, width))
        return rows, columns

    def __call__(self, image: Tensor, height: Scalar, width: Scalar) -> tuple[Tensor, Scalar, Scalar]:
        """The network's input, float32 of shape (1, 3, H', W'), and height and width without padding.

        Args:
            image: uint8 of shape (H, W, 3), RGB.
            height, width: H and W, int64 scalars.
        """
        rows, columns = self.size(height, width)
        resized = resize_bytes(image, height, width, rows, columns).permute(2, 0, 1)
        mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (self.mean, self.std))
        if self.to_bgr:
            resized = resized.flip(0)
        normal = (resized - mean) / std
        below, right = (-side % self.divisor for side in (rows, columns))
        normal = torch.cat([normal, normal.new_zeros(1).expand(3, rows, right)], dim=2)
        normal = torch.cat([normal, normal.new_zeros(1).expand(3, below, columns + right)], dim=1)
        return normal[None], rows, columns


def in_double(number: Scalar) -> Tensor:
    """A scalar as float64 of shape (1,), since the exporter computes with all scalars in float32."""
    return number.reshape(1).double()


def resize_bytes(image: Tensor, height: Scalar, width: Scalar, rows: Scalar, columns: Scalar) -> Tensor:
    """OpenCV's bilinear ``resize`` of bytes.

    Args:
        image: uint8 of shape (H, W, C).
        height, width: H and W, int64 scalars.
        rows, columns: Height and width of the result, int64 scalars.

    Returns:
        Whole numbers, float32 of shape (rows, columns, C).
    """
    left, right, left_weight, right_weight = _taps(width, columns, clamped=True)
    upper, lower, upper_weight, lower_weight = _taps(height, rows, clamped=False)
    across_left, across_right = (
        image.index_select(1, place).float() * weight.float()[:, None]
        for place, weight in ((left, left_weight), (right, right_weight))
    )
    across = ((across_left + across_right) / 16).floor()
    down_upper, down_lower = (
        (across.index_select(0, place).double() * weight[:, None, None] / 65536).floor().float()
        for place, weight in ((upper, upper_weight), (lower, lower_weight))
    )
    return ((down_upper + down_lower + 2) / 4).floor()


def _taps(source: Scalar, target: Scalar, clamped: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The two of ``source`` pixels that each of ``target`` pixels reads, and their weights in 2048ths.

    With ``clamped``, as OpenCV does horizontally, places outside the pixels have all weight on the first of the two
    pixels. Otherwise, as OpenCV does vertically, their weights follow from the place as anywhere else.
    """
    scale = 1.0 / (in_double(target) / in_double(source))
    position = ((torch.arange(target).double() + 0.5) * scale - 0.5).float()
    place = position.floor()
    fraction = position - place
    last = (source - 1).float()
    if clamped:
        inside = (place >= 0) & (place < last)
        fraction = torch.where(inside, fraction, torch.zeros_like(fraction))
    first, second = (torch.minimum(read.clamp(min=0), last).long() for read in (place, place + 1))
    return first, second, ((1 - fraction) * _ONE).round().double(), (fraction * _ONE).round().double()
