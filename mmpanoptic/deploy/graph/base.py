"""What the graphs of all systems have in common."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from .image import Preparation
from .segments import Segmented


class SystemGraph(nn.Module):
    """From an image, uint8 RGB of shape (H, W, 3), to its segments.

    Args:
        model: The model, in eval mode.
        preparation: What becomes of the image before.
    """

    def __init__(self, model: nn.Module, preparation: Preparation) -> None:
        super().__init__()
        self.model, self.preparation = model, preparation

    def forward(self, image: Tensor) -> Segmented:
        """The segments of an image."""
        shape = torch._shape_as_tensor(image)
        output_size = shape[0], shape[1]
        inputs, *size = self.preparation(image, *output_size)
        return self.segments(inputs, size, output_size)

    @abstractmethod
    def segments(self, inputs: Tensor, size: list[Tensor], output_size: tuple[Tensor, Tensor]) -> Segmented:
        """The segments of an image that is prepared.

        Args:
            inputs: Of shape (1, 3, h, w).
            size: Height and width of the image in it, without padding.
            output_size: H and W.
        """
