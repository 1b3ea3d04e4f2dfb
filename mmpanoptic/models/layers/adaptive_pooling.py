"""Adaptive feature pooling: one parameter layer for every level, then fusion over the levels."""

import copy
from collections.abc import Callable
from functools import reduce

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from mmpanoptic.utils import require_choice

FUSIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = dict(max=torch.maximum, sum=torch.add)
STAGES = ('post', 'pre')


class AdaptivePooling(BaseModule):
    """The first layer of a RoI head, applied to the features of each RoI from every level.

    Source: PANet, section 3.2, https://arxiv.org/abs/1803.01534: each level passes through a separate layer, ReLU
    included, and the results are fused element by element.

    Args:
        layer: The layer of the first level. The other levels get copies that are initialised anew, so it must have
            ``init_weights``, like mmcv's ConvModule and :class:`FCModule`.
        num_levels: Number of levels L.
        fuse: 'max' or 'sum'.
        fuse_stage: 'post' fuses after the layers, 'pre' before a single layer (the paper's ablation, table 4).
        share_first: Whether all levels pass through the same layer.

    Raises:
        ValueError: If an option has a value that is not listed.
    """

    def __init__(
        self,
        layer: nn.Module,
        num_levels: int = 4,
        fuse: str = 'max',
        fuse_stage: str = 'post',
        share_first: bool = False,
    ) -> None:
        super().__init__()
        require_choice('fuse', fuse, FUSIONS)
        require_choice('fuse_stage', fuse_stage, STAGES)
        self.num_levels = num_levels
        self.fuse = fuse
        self.fuse_stage = fuse_stage
        self.layers = ModuleList([layer])
        if fuse_stage == 'post' and not share_first:
            self.layers.extend(copy.deepcopy(layer) for _ in range(num_levels - 1))
            for other in self.layers[1:]:
                other.init_weights()

    def forward(self, x: Tensor) -> Tensor:
        """Fuse the levels.

        Args:
            x: RoI features of shape (R, L, C, h, w), or (R, C, h, w) for one level.

        Returns:
            Output of the layer for an input of shape (R, C, h, w).
        """
        fused = reduce(FUSIONS[self.fuse], self.fusion_inputs(x))
        return self.layers[0](fused) if self.fuse_stage == 'pre' else fused

    def fusion_inputs(self, x: Tensor) -> list[Tensor]:
        """Inputs of the fusion, one tensor for each level, for ``x`` as in :meth:`forward`.

        Raises:
            ValueError: If ``x`` has another number of dimensions or levels.
        """
        levels = x[:, None] if x.dim() == 4 else x
        if levels.dim() != 5 or levels.size(1) != self.num_levels:
            raise ValueError(
                f'RoI features of shape {tuple(x.shape)} for a head with num_levels={self.num_levels}: it takes (R, '
                f'{self.num_levels}, C, h, w) from AllLevelRoIExtractor, or (R, C, h, w) if num_levels is 1'
            )
        if self.fuse_stage == 'pre':
            return list(levels.unbind(1))
        layers = [self.layers[0]] * self.num_levels if len(self.layers) == 1 else self.layers
        return [layer(level) for layer, level in zip(layers, levels.unbind(1), strict=True)]


def assigned_levels(rois: Tensor, num_levels: int = 4, finest_scale: float = 56.0) -> Tensor:
    """Level that FPN would pool each RoI from, given the RoI's size.

    Source: Feature Pyramid Networks, equation 1, https://arxiv.org/abs/1612.03144.

    Args:
        rois: Of shape (R, 5): batch index, then x1, y1, x2, y2 in pixels of the network's input.
        num_levels: Number of levels.
        finest_scale: Level i takes RoIs of a scale (square root of the area) from 2^i to 2^(i + 1) times this; the
            first and the last level also take smaller and larger RoIs.

    Returns:
        Level indices of shape (R,), from 0, the finest.
    """
    width, height = (rois[:, 3:5] - rois[:, 1:3]).clamp(min=0).unbind(1)
    scale = (width * height).sqrt() / finest_scale
    return (scale + 1e-6).log2().floor().clamp(0, num_levels - 1).long()


def count_sources(level_features: Tensor, assigned: Tensor) -> Tensor:
    """Count which level the maximum over the levels comes from.

    Elements whose maximum is not unique, as behind a ReLU where all levels are zero, come from no level.

    Args:
        level_features: Inputs of the fusion, of shape (R, L, ...).
        assigned: Level that FPN would assign each RoI to, of shape (R,).

    Returns:
        Counts of shape (L, L), int64. Row a, column l is the number of elements that RoIs assigned to level a take from
        level l. A row divided by its sum is a line of figure 3 of PANet.
    """
    num_levels = level_features.size(1)
    features = level_features.flatten(2)
    is_source = features == features.amax(1, keepdim=True)
    is_source &= is_source.sum(1, keepdim=True) == 1
    counts = assigned.new_zeros(num_levels, num_levels)
    return counts.index_add_(0, assigned, is_source.sum(2))
