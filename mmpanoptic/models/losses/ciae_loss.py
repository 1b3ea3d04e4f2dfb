"""The category- and instance-aware loss of pixel embeddings."""

from functools import partial, reduce

import torch
import torch.nn.functional as F
from mmdet.utils import reduce_mean
from torch import Tensor, nn

from mmpanoptic.models.layers.category_memory import CategoryMemory
from mmpanoptic.models.layers.precision import full
from mmpanoptic.registry import MODELS

from .ciae_targets import EMBEDDING_STRIDE, EmbeddingTargets
from .embedding_loss import enlarge_boxes, hardest_queries_loss, mean_queries, segment_sums


@MODELS.register_module()
class CIAELoss(nn.Module):
    """Pull each pixel to the query of its category (CAE) and to the query of its stuff class or instance (IAE).

    CAE uses all rows of the category memory. IAE uses the memory's stuff rows and the mean queries of the instances of
    the pixel's own image. Pixels of things without an instance (crowds) take part in CAE alone. Both sums are divided
    by the number of non-void pixels in the batch over all processes.

    Source: Gao et al., Learning Category- and Instance-Aware Pixel Embedding for Fast Panoptic Segmentation, section
    III, https://arxiv.org/abs/2009.13342. The divisor and the restriction to the pixel's own image are this project's
    choices.

    Args:
        margin, topk, self_term: See :func:`hardest_queries_loss`.
        alpha: Weight of IAE.
        thing_weight: Weight in IAE of a pixel of an instance; it does not enter the count of pixels.
        filter_scale: Factor by which the annotated box of an instance is enlarged about its centre. A pixel outside of
            the enlarged box has similarity 0 to that instance, unless it belongs to the instance. None: no filtering.
        detach_queries: Whether the mean queries of instances are constants.
        stride: Only every ``stride``-th pixel of the input in x and y is used, also for the means; 1 in the paper.
        block_size: Number of pixels that are processed at once; affects memory and speed only. None: 2 ** 14 on the
            CPU, which fits in its caches, 2 ** 20 elsewhere.

    Raises:
        ValueError: If ``stride``, ``topk`` or ``block_size`` is below 1, ``margin`` negative or ``filter_scale`` not
            positive.
    """

    def __init__(
        self,
        margin: float = 0.15,
        topk: int = 5,
        self_term: bool = True,
        alpha: float = 2.0,
        thing_weight: float = 5.0,
        filter_scale: float | None = 1.5,
        detach_queries: bool = False,
        stride: int = 1,
        block_size: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (('stride', stride), ('topk', topk), ('block_size', block_size)):
            if value is not None and value < 1:
                raise ValueError(f'{name} {value} is below 1')
        if margin < 0:
            raise ValueError(f'margin {margin} is negative')
        if filter_scale is not None and filter_scale <= 0:
            raise ValueError(f'filter_scale {filter_scale} is not positive: None switches the filter off')
        self.alpha = alpha
        self.thing_weight = thing_weight
        self.filter_scale = filter_scale
        self.detach_queries = detach_queries
        self.stride = stride
        self.pixel_loss = partial(
            hardest_queries_loss, margin=margin, topk=topk, self_term=self_term, block_size=block_size
        )

    def forward(
        self,
        embedding: Tensor,
        targets: list[EmbeddingTargets],
        memory: CategoryMemory | None = None,
        num_stuff_classes: int = 0,
    ) -> dict[str, Tensor]:
        """Update the memory (in training), then compute the losses, in float32 or float64.

        Args:
            embedding: Raw embeddings of shape (N, D, H / 4, W / 4), rounded up.
            targets: Ground truth of each image at the size of the input, (H, W).
            memory: Category memory whose first S rows are those of stuff. None: the only queries are those of
                instances, and pixels of stuff enter the count alone.
            num_stuff_classes: S, if there is a memory. If the memory has S rows only, there is no CAE.

        Returns:
            ``loss_cae`` if there is CAE, and ``loss_iae``, multiplied by ``alpha``.

        Raises:
            ValueError: If targets are larger than the enlarged embeddings.
        """
        with torch.autocast(embedding.device.type, enabled=False):
            embedding = full(embedding)
            images = [self._sample(*pair) for pair in zip(embedding, targets, strict=True)]
            if memory is not None:
                memory.update(*self._category_sums(images, len(memory.embeddings)))
            zero = embedding.sum() * 0  # all parameters get a gradient, whatever the images show
            counts = [(categories >= 0).sum() for _, categories, *_ in images]
            # The mean over the processes, as the gradients are averaged over them. It is 0 if all is void.
            count = reduce_mean(reduce(torch.add, counts).to(embedding.dtype))
            count = torch.where(count > 0, count, 1)
            losses = dict()
            if memory is not None and len(memory.embeddings) > num_stuff_classes:
                losses['loss_cae'] = sum((self._cae(image, memory) for image in images), start=zero) / count
            stuff_queries = embedding.new_zeros(0, embedding.size(1))
            if memory is not None:
                stuff_queries = memory.embeddings[:num_stuff_classes].to(embedding.dtype)
            iae = sum((self._iae(image, stuff_queries) for image in images), start=zero)
            losses['loss_iae'] = self.alpha * iae / count
            return losses

    def _sample(self, embedding: Tensor, targets: EmbeddingTargets) -> tuple[Tensor, ...]:
        """The pixels of an image: embeddings (D, P), categories and instances (P,), points (2, P), boxes (n, 4)."""
        height, width = targets.categories.shape
        if height > embedding.size(1) * EMBEDDING_STRIDE or width > embedding.size(2) * EMBEDDING_STRIDE:
            raise ValueError(
                f'embeddings of shape {tuple(embedding.shape)}, enlarged {EMBEDDING_STRIDE} times, do not cover ground '
                f'truth of {height}x{width} pixels'
            )
        step = slice(self.stride // 2, None, self.stride)
        large = F.interpolate(embedding[None], scale_factor=EMBEDDING_STRIDE, mode='bilinear', align_corners=False)
        large = large[0, :, :height, :width][:, step, step]
        columns, rows = (torch.arange(size, device=large.device)[step] + 0.5 for size in (width, height))
        points = torch.stack(torch.meshgrid(columns, rows, indexing='xy'))  # centres of pixels
        maps = large, targets.categories[step, step], targets.instances[step, step], points
        return *(pixel_map.flatten(-2) for pixel_map in maps), targets.boxes

    @staticmethod
    @torch.no_grad()
    def _category_sums(images: list[tuple[Tensor, ...]], num_categories: int) -> tuple[Tensor, Tensor]:
        """Sums of the embeddings of each category over the images, and which categories occur."""
        sums = [segment_sums(pixels, categories, num_categories) for pixels, categories, *_ in images]
        counts = torch.bincount(torch.cat([image[1] for image in images]) + 1, minlength=num_categories + 1)
        return reduce(torch.add, sums), counts[1 : num_categories + 1] > 0

    def _cae(self, image: tuple[Tensor, ...], memory: CategoryMemory) -> Tensor:
        pixels, categories, *_ = image
        weights = pixels.new_ones(len(categories))
        return self.pixel_loss(pixels, memory.embeddings.to(pixels.dtype), categories, weights)

    def _iae(self, image: tuple[Tensor, ...], stuff_queries: Tensor) -> Tensor:
        pixels, categories, instances, points, boxes = image
        has_instance = instances >= 0
        # An instance without visible pixels has no mean and is no query.
        is_seen = torch.bincount(instances[has_instance], minlength=len(boxes)) > 0
        means = mean_queries(segment_sums(pixels, instances, len(boxes))[is_seen])
        if self.detach_queries:
            means = means.detach()
        own_query = torch.where(categories < len(stuff_queries), categories, -1)
        numbers = is_seen.cumsum(0) - 1 + len(stuff_queries)
        own_query[has_instance] = numbers[instances[has_instance]]
        weights = torch.where(has_instance, self.thing_weight, 1.0).to(pixels.dtype)
        filter_boxes = None
        if self.filter_scale is not None:
            filter_boxes = enlarge_boxes(boxes[is_seen].to(pixels.dtype), self.filter_scale)
        queries = torch.cat([stuff_queries, means])
        return self.pixel_loss(pixels, queries, own_query, weights, filter_boxes, points)
