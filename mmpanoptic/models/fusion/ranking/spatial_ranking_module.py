"""The layers that predict which class is in front where instances overlap."""

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from mmpanoptic.registry import MODELS


def parse_kernel(kernel: str) -> list[tuple[int, int]]:
    """Sizes of a chain of convolutions: '1x7+7x1' is [(1, 7), (7, 1)], (height, width) each.

    Raises:
        ValueError: If it is not of the form ``HxW[+HxW...]`` with odd sizes.
    """
    sizes = [part.split('x') for part in kernel.split('+')]
    if not all(len(size) == 2 and all(side.isdigit() and int(side) % 2 for side in size) for size in sizes):
        raise ValueError(f"ranking kernel {kernel!r} is not of the form '1x7+7x1' with odd sizes")
    return [(int(height), int(width)) for height, width in sizes]


class ConvOfClasses(nn.Conv2d):
    """A convolution whose input may hold a selection of its input channels."""

    def forward(self, x: Tensor, classes: Tensor | None = None) -> Tensor:
        """Convolve, with zeros for the input channels that are left out.

        Args:
            x: Of shape (N, P, H, W).
            classes: Which input channel each of the P channels is, int64; None: all in order.

        Returns:
            Tensor of shape (N, out_channels, H, W).
        """
        return self._conv_forward(x, self.weight if classes is None else self.weight[:, classes], self.bias)


@MODELS.register_module()
class SpatialRankingModule(BaseModule):
    """A large kernel over the map of instances by class: C channels in, C logits out, no norm, no activation.

    Source: Liu et al., An End-to-End Network for Panoptic Segmentation, section 3.3, https://arxiv.org/abs/1903.05027;
    the two-branch form is that of Peng et al., Large Kernel Matters, https://arxiv.org/abs/1703.02719

    Args:
        num_classes: Number of thing classes C.
        kernel: Convolutions of a branch, one after another: '1x7+7x1', '3x3', '1x1' or another chain of odd sizes.
        dual: Whether to add a second branch with the convolutions in reverse order.
        init_cfg: As in mmengine's BaseModule.

    Raises:
        ValueError: If ``kernel`` cannot be read.
    """

    def __init__(
        self,
        num_classes: int,
        kernel: str = '1x7+7x1',
        dual: bool = False,
        init_cfg: dict | None = dict(type='Kaiming', layer='Conv2d'),  # noqa: B006  (mmengine's convention)
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_classes = num_classes
        sizes = parse_kernel(kernel)
        self.branches = ModuleList()
        for chain in (sizes, sizes[::-1])[: 1 + dual]:
            kinds = [ConvOfClasses, *[nn.Conv2d] * (len(chain) - 1)]
            convs = [
                kind(num_classes, num_classes, k, padding=(k[0] // 2, k[1] // 2))
                for kind, k in zip(kinds, chain, strict=True)
            ]
            self.branches.append(nn.Sequential(*convs))
        #: Number of rows and columns around a pixel that its logits depend on.
        self.halo = (sum(k[0] // 2 for k in sizes), sum(k[1] // 2 for k in sizes))

    def forward(self, tensor: Tensor, classes: Tensor | None = None) -> Tensor:
        """Ranking logits.

        Args:
            tensor: Instance tensor, float of shape (N, P, H, W), 1 where an instance of a class is, else 0.
            classes: Class of each of its P channels, int64; None: all C classes in order. Leaving out a class gives the
                same logits as a channel of zeros and costs nothing.

        Returns:
            Logits of shape (N, C, H, W).
        """
        first, *others = (branch[1:](branch[0](tensor, classes)) for branch in self.branches)
        return sum(others, start=first)

    def forward_window(self, tensor: Tensor, classes: Tensor, window: tuple[int, int, int, int]) -> Tensor:
        """Logits in a window of one image, computed from the pixels that the kernel needs.

        Args:
            tensor: Instance tensor, bool of shape (P, H, W).
            classes: Class of each channel, see ``forward``.
            window: (top, bottom, left, right), bottom and right exclusive.

        Returns:
            Logits of shape (C, bottom - top, right - left), equal to those of ``forward`` in the window.
        """
        top, bottom, left, right = window
        rows, columns = self.halo
        first_row, first_column = max(0, top - rows), max(0, left - columns)
        seen = tensor[:, first_row : bottom + rows, first_column : right + columns]
        # From bool, the conversion takes six times as long on a CPU.
        logits = self(seen[None].view(torch.uint8).to(self._dtype(seen.device.type)), classes)[0]
        return logits[:, top - first_row : bottom - first_row, left - first_column : right - first_column]

    def _dtype(self, device_type: str) -> torch.dtype:
        """Type that the convolutions compute in; the instance tensor is converted to it directly."""
        if torch.is_autocast_enabled(device_type):
            return torch.get_autocast_dtype(device_type)
        return self.branches[0][0].weight.dtype
