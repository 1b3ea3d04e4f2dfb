"""CIAE's pixel embeddings and the queries that they are compared with."""

from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.structures import SampleList
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmpanoptic.models.layers.category_memory import CategoryMemory
from mmpanoptic.models.layers.coord_conv import CoordConvModule
from mmpanoptic.models.layers.precision import full
from mmpanoptic.models.losses.ciae_targets import EMBEDDING_STRIDE, EmbeddingTargets, embedding_targets
from mmpanoptic.models.losses.semantic_loss import semantic_loss
from mmpanoptic.registry import MODELS
from mmpanoptic.utils import require_choice

THING_CATEGORIES = ('merge', 'spec', 'none')
STUFF_MODELINGS = ('ciae', 'semseg')
COORD_CONVS = ('all', 'first', None)
_IGNORED = 255


class CIAEOutputs(NamedTuple):
    """Outputs of the head for the pixels of a batch, at stride 4.

    Attributes:
        embedding: Raw embeddings of shape (N, D, H / 4, W / 4). They are normalised only after bilinear upsampling.
        semantic: Logits of the semantic branch, of shape (N, S + 1, H / 4, W / 4); None without one.
    """

    embedding: Tensor
    semantic: Tensor | None


@MODELS.register_module()
class CIAEHead(BaseModule):
    """Embed each pixel, keep a query for each category, and train both.

    Each level passes through 3x3 convolutions, each followed by upsampling to twice the size, until stride 4 is reached
    (the finest level through one convolution without upsampling). Convolutions of the coarsest level get coordinates.
    The sum of the levels passes through a convolution (P'). The sum of the box embeddings of all levels, resized to
    stride 4, passes through another one (P''). The raw map is P' + P''.

    The memory has S rows for stuff, then rows for things. With ``stuff_modeling='semseg'`` there is no memory and no
    category loss: a semantic branch beside P' predicts stuff, and embeddings only separate instances.

    Source: Gao et al., Learning Category- and Instance-Aware Pixel Embedding for Fast Panoptic Segmentation, section
    III, https://arxiv.org/abs/2009.13342. The kernels of P' and P'', the convolutions that get coordinates, and the
    loss with a semantic branch are this project's choices.

    Args:
        num_things_classes: Number of thing classes T.
        num_stuff_classes: Number of stuff classes S.
        in_channels: Channels of each level.
        inner_channels: Channels of the branch.
        embedding_dims: Length D of an embedding.
        box_embedding_dims: Channels of the box embeddings; 0: there are none.
        embedding_kernel, box_embedding_kernel: Kernel sizes of the convolutions of P' and P''; odd.
        num_levels: Number of levels, of strides 4, 8, ...
        thing_categories: Category of pixels of things: 'merge', the same for all (S + 1 rows of memory); 'spec', their
            class (S + T rows); 'none', no category loss (S rows). Must be 'merge' without a memory.
        stuff_modeling: 'ciae', queries, or 'semseg', a semantic branch of S + 1 channels, stuff first, things last.
        coord_conv: Convolutions of the coarsest level that get coordinates: 'all', 'first' or None.
        momentum, max_iters: See :class:`CategoryMemory`; used if there is a memory.
        norm_cfg: Norm of the branch.
        loss: Config of :class:`CIAELoss`.
        loss_seg: Loss of the semantic branch, at the size of the input; its ``ignore_index`` must be 255.
        init_cfg: As in mmengine's BaseModule.

    Raises:
        ValueError: If an option has a value that is not listed, would have no effect, or a kernel is even.
    """

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        in_channels: int = 256,
        inner_channels: int = 128,
        embedding_dims: int = 32,
        box_embedding_dims: int = 32,
        embedding_kernel: int = 1,
        box_embedding_kernel: int = 3,
        num_levels: int = 4,
        thing_categories: str = 'merge',
        stuff_modeling: str = 'ciae',
        coord_conv: str | None = 'all',
        momentum: float = 0.9999,
        max_iters: int | None = None,
        norm_cfg: dict = dict(type='GN', num_groups=32),  # noqa: B006  (mmengine's convention)
        loss: dict = dict(type='CIAELoss'),  # noqa: B006
        loss_seg: dict = dict(  # noqa: B006
            type='CrossEntropyLoss', ignore_index=_IGNORED, avg_non_ignore=True, loss_weight=1.0
        ),
        init_cfg: dict | None = dict(type='Normal', layer='Conv2d', std=0.01),  # noqa: B006
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        require_choice('thing_categories', thing_categories, THING_CATEGORIES)
        require_choice('stuff_modeling', stuff_modeling, STUFF_MODELINGS)
        require_choice('coord_conv', coord_conv, COORD_CONVS)
        for name, size in (('embedding_kernel', embedding_kernel), ('box_embedding_kernel', box_embedding_kernel)):
            if size < 1 or size % 2 == 0:
                raise ValueError(f'{name} {size} is not odd: the map would be shifted')
        if stuff_modeling == 'semseg' and thing_categories != 'merge':
            raise ValueError(f"thing_categories {thing_categories!r} has no effect with stuff_modeling='semseg'")
        self.num_things_classes = num_things_classes
        self.num_stuff_classes = num_stuff_classes
        self.embedding_dims = embedding_dims
        self.box_embedding_dims = box_embedding_dims
        self.thing_categories = thing_categories
        self.level_convs = _level_convs(in_channels, inner_channels, num_levels, coord_conv, norm_cfg)
        self.conv_embedding = nn.Conv2d(inner_channels, embedding_dims, embedding_kernel, padding=embedding_kernel // 2)
        self.conv_box_embedding = None
        if box_embedding_dims:
            self.conv_box_embedding = nn.Conv2d(
                box_embedding_dims, embedding_dims, box_embedding_kernel, padding=box_embedding_kernel // 2
            )
        self.memory = self.conv_logits = None
        if stuff_modeling == 'ciae':
            num_thing_rows = dict(merge=1, spec=num_things_classes, none=0)[thing_categories]
            self.memory = CategoryMemory(num_stuff_classes + num_thing_rows, embedding_dims, momentum, max_iters)
        else:
            self.conv_logits = nn.Conv2d(inner_channels, num_stuff_classes + 1, 1)
            self.loss_seg = MODELS.build(loss_seg)
        self.loss_embedding = MODELS.build(loss)

    def forward(self, x: tuple[Tensor, ...], box_embeddings: tuple[Tensor, ...] = ()) -> CIAEOutputs:
        """Raw embeddings and semantic logits at stride 4.

        Args:
            x: ``num_levels`` levels of shape (N, in_channels, H / 4, W / 4), (N, in_channels, H / 8, W / 8), ...
            box_embeddings: Any number of maps of shape (N, box_embedding_dims, h, w); not used if that is 0.

        Raises:
            ValueError: If the head needs box embeddings and none are given.
        """
        feats = reduce(torch.add, (self._level_feats(x, level) for level in range(len(self.level_convs))))
        embedding = self.conv_embedding(feats)
        if self.conv_box_embedding is not None:
            if not box_embeddings:
                raise ValueError('box_embedding_dims is not 0 and no box embeddings are given')
            fused = reduce(torch.add, (self._resize(level, embedding) for level in box_embeddings))
            embedding = embedding + self.conv_box_embedding(fused)
        return CIAEOutputs(embedding, None if self.conv_logits is None else full(self.conv_logits(feats)))

    def _level_feats(self, x: tuple[Tensor, ...], level: int) -> Tensor:
        """Features of a level at stride 4, of shape (N, inner_channels, H / 4, W / 4)."""
        feats = x[level]
        for index, conv in enumerate(self.level_convs[level].children()):
            feats = conv(feats)
            if level:
                feats = self._resize(feats, x[level - index - 1])
        return feats

    @staticmethod
    def _resize(x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, like.shape[-2:], mode='bilinear', align_corners=False)

    def loss(
        self, x: tuple[Tensor, ...], box_embeddings: tuple[Tensor, ...], batch_data_samples: SampleList
    ) -> dict[str, Tensor]:
        """Losses by name; in training, the memory is updated first.

        Args:
            x, box_embeddings: See ``forward``.
            batch_data_samples: With ``gt_sem_seg`` (contiguous labels, 255 is ignored) and ``gt_instances``, see
                :func:`embedding_targets`.

        Returns:
            Losses of :class:`CIAELoss` and, with a semantic branch, ``loss_seg``.
        """
        outputs = self(x, box_embeddings)
        merge = self.thing_categories != 'spec'
        targets = [
            embedding_targets(sample, self.num_things_classes, self.num_stuff_classes, merge)
            for sample in batch_data_samples
        ]
        losses = self.loss_embedding(outputs.embedding, targets, self.memory, self.num_stuff_classes)
        if outputs.semantic is not None:
            losses['loss_seg'] = self._semantic_loss(outputs.semantic, targets)
        return losses

    def _semantic_loss(self, logits: Tensor, targets: list[EmbeddingTargets]) -> Tensor:
        labels = torch.stack([target.categories for target in targets]).clamp(max=self.num_stuff_classes)
        labels = labels.masked_fill(labels < 0, _IGNORED)
        height, width = labels.shape[-2:]
        large = F.interpolate(logits, scale_factor=EMBEDDING_STRIDE, mode='bilinear', align_corners=False)
        return semantic_loss(self.loss_seg, large[..., :height, :width], labels)

    @property
    def stuff_queries(self) -> Tensor:
        """Unit vectors of the stuff classes, of shape (S, D), or (0, D) with a semantic branch."""
        if self.memory is None:
            return self.conv_embedding.weight.new_zeros(0, self.embedding_dims)
        return self.memory.embeddings[: self.num_stuff_classes]

    @property
    def thing_queries(self) -> Tensor | None:
        """Unit vectors of the thing classes, of shape (T, D), with ``thing_categories='spec'``, otherwise None."""
        if self.memory is None or self.thing_categories != 'spec':
            return None
        return self.memory.embeddings[self.num_stuff_classes :]

    @staticmethod
    def queries(embedding: Tensor, points: Tensor, size: Tensor | None = None) -> Tensor:
        """Embeddings of single pixels.

        Args:
            embedding: Raw map of one image, of shape (D, h, w).
            points: Column and row of each pixel, of shape (n, 2), in the map enlarged 4 times (bilinear, without
                aligned corners).
            size: Width and height of the map as a tensor, if a trace is to follow them.

        Returns:
            Unit vectors of shape (n, D), float32 or float64, equal to those of the enlarged map, which is not formed.
        """
        embedding = full(embedding)
        size = embedding.new_tensor([embedding.size(2), embedding.size(1)]) if size is None else size.to(embedding)
        grid = (points.to(embedding) + 0.5) / (size * EMBEDDING_STRIDE) * 2 - 1
        sampled = F.grid_sample(embedding[None], grid[None, None], padding_mode='border', align_corners=False)
        return F.normalize(sampled[0, :, 0].T, dim=1)


def _level_convs(
    in_channels: int, inner_channels: int, num_levels: int, coord_conv: str | None, norm_cfg: dict
) -> nn.ModuleList:
    """Convolutions of each level, see :class:`CIAEHead`."""
    level_convs = nn.ModuleList()
    for level in range(num_levels):
        convs = nn.ModuleList()
        for index in range(max(level, 1)):
            sees_coordinates = coord_conv == 'all' or (coord_conv == 'first' and index == 0)
            conv_type = CoordConvModule if sees_coordinates and level == num_levels - 1 else ConvModule
            channels = inner_channels if index else in_channels
            convs.append(conv_type(channels, inner_channels, 3, padding=1, norm_cfg=norm_cfg))
        level_convs.append(convs)
    return level_convs
