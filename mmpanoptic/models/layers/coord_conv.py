"""Convolutions with coordinate channels."""

import torch
from mmcv.cnn import ConvModule
from torch import Tensor


class CoordConvModule(ConvModule):
    """mmcv's ConvModule with two more input channels: x and y, from -1 at the first column or row to 1 at the last.

    Source: Liu et al., An Intriguing Failing of Convolutional Neural Networks and the CoordConv Solution,
    https://arxiv.org/abs/1807.03247

    Args:
        in_channels: Channels of the input, without the coordinates.
        args, kwargs: As for ConvModule.
    """

    def __init__(self, in_channels: int, *args, **kwargs) -> None:
        super().__init__(in_channels + 2, *args, **kwargs)

    def forward(self, x: Tensor, **kwargs) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        height, width = x.shape[-2:]
        columns = torch.linspace(-1, 1, width, dtype=x.dtype, device=x.device).expand(height, width)
        rows = torch.linspace(-1, 1, height, dtype=x.dtype, device=x.device)[:, None].expand(height, width)
        coordinates = torch.stack([columns, rows]).expand(len(x), -1, -1, -1)
        return super().forward(torch.cat([x, coordinates], dim=1), **kwargs)
