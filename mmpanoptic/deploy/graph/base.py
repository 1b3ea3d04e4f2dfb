"""Base class of the graphs of all systems."""

from abc import abstractmethod

import torch
from mmdet.models import BaseDetector
from torch import Tensor, nn

from .image import Preparation
from .segments import Segmented
from .sizes import Size


class SystemGraph(nn.Module):
    """Module from an image, uint8 RGB of shape (H, W, 3), to its segments.

    Args:
        model: The model, in eval mode.
        preparation: Converts the image to the input of the network.
    """

    def __init__(self, model: BaseDetector, preparation: Preparation) -> None:
        super().__init__()
        self.model, self.preparation = model, preparation

    def forward(self, image: Tensor) -> Segmented:
        """Segment an image."""
        shape = torch._shape_as_tensor(image)
        output_size = shape[0], shape[1]
        inputs, height, width = self.preparation(image, *output_size)
        return self.segments(inputs, (height, width), output_size)

    @abstractmethod
    def segments(self, inputs: Tensor, size: Size, output_size: Size) -> Segmented:
        """Segment a prepared image.

        Args:
            inputs: Input of the network, of shape (1, 3, h, w).
            size: Height and width of the image in ``inputs``, without padding.
            output_size: H and W.
        """
