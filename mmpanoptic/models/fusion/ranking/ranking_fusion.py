"""Fusion by a learned order."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from mmdet.structures import SampleList
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.models.fusion.paste import HeuristicFusion
from mmpanoptic.models.fusion.paste.instances import order_instances
from mmpanoptic.models.fusion.transfer import fetch
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import Evidence, StuffLabels, StuffLogits
from mmpanoptic.utils import require_choice

from .scores import (
    CONFLICTS,
    IGNORED,
    SCORE_REGIONS,
    WITHIN_CLASS,
    Window,
    by_confidence_in_classes,
    conflict_pixels,
    instance_tensor,
    join_masks,
    ranking_labels,
    ranking_scores,
    sample_at_centres,
    sample_masks,
    sampled_bounds,
    set_bounds,
    with_a_cell_each,
)

TRAIN_INPUTS = ('gt', 'pred')


@MODELS.register_module()
class RankingFusion(HeuristicFusion):
    """:class:`HeuristicFusion` that pastes instances in the order of a learned ranking score.

    It works with any detector that calls ``loss`` in training and whose instances have masks. The ranking module's only
    input is where each class has instances; no gradient flows back to the detector. It is trained on overlapping masks,
    so the dataset needs ``inst_ann_file`` (or ``train_input='pred'``): masks from a panoptic PNG never overlap.

    Source: Liu et al., An End-to-End Network for Panoptic Segmentation, section 3.3, https://arxiv.org/abs/1903.05027

    Args:
        ranking: Config of the ranking module, see :class:`~mmpanoptic.models.SpatialRankingModule`, without its number
            of classes.
        stride: The module works on every ``stride``-th pixel of the network's input, in both directions.
        train_input: 'gt', annotated masks, or 'pred', instances that the detector predicts from the features of the
            training step.
        conflict: Which pixels are in conflict: those with two or more classes ('class') or two or more instances
            ('instance'). The module is trained on these pixels.
        score_region: Pixels over which an instance's score is averaged: its whole 'mask', or those of its pixels that
            are in 'conflict'.
        within_class: What decides between two instances of one class: the 'ranking' score, as in the paper, or the
            detection 'score'. In the latter case the instances of a class share out its ranking scores, the most
            confident one gets the highest. The module is trained on pixels of several classes, so it knows little about
            two instances of one class (docs/results/oanet.md).
        loss_weight: Weight of the loss.
        strip_pixels: Number of pixels that the module works on at once in testing; bounds the memory. None: 2 ** 18 on
            a CPU, which fits in its caches, 2 ** 21 elsewhere.
        args, kwargs: See :class:`HeuristicFusion`.

    Raises:
        ValueError: If one of the choices is unknown, ``stride`` is below 1, or there is a single thing class.
    """

    needs_things = True

    def __init__(
        self,
        *args,
        ranking: dict = dict(type='SpatialRankingModule'),  # noqa: B006  (mmengine's convention)
        stride: int = 1,
        train_input: str = 'gt',
        conflict: str = 'class',
        score_region: str = 'mask',
        within_class: str = 'ranking',
        loss_weight: float = 1.0,
        strip_pixels: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        require_choice('train_input', train_input, TRAIN_INPUTS)
        require_choice('conflict', conflict, CONFLICTS)
        require_choice('score_region', score_region, SCORE_REGIONS)
        require_choice('within_class', within_class, WITHIN_CLASS)
        if stride < 1:
            raise ValueError(f'stride {stride} is below 1')
        if self.num_things_classes < 2:
            raise ValueError('with a single thing class there is nothing to rank: take HeuristicFusion')
        self.ranking = MODELS.build(dict(ranking, num_classes=self.num_things_classes))
        self.stride = stride
        self.train_input = train_input
        self.conflict = conflict
        self.score_region = score_region
        self.within_class = within_class
        self.loss_weight = loss_weight
        self.strip_pixels = strip_pixels

    def loss(
        self, batch_data_samples: SampleList, predict_instances: Callable[[], list[InstanceData]]
    ) -> dict[str, Tensor]:
        """Loss of the ranking module, the mean cross-entropy over the pixels in conflict that show a thing.

        The mean is over the batches of all processes.

        Args:
            batch_data_samples: Samples with ``gt_sem_seg`` and, for 'gt', ``gt_instances.masks``, all padded to one
                size.
            predict_instances: Returns the detector's instances of each image, at the size of the input without padding
                (``img_shape``); called only for 'pred'.

        Returns:
            ``loss_ranking``, 0 if no pixel counts, and ``conflict_pixels``, the mean number per image of this process
            of pixels of the ranking map that count.

        Raises:
            ValueError: If masks and labels, or predicted masks and images, differ in size.
        """
        predicted = predict_instances() if self.train_input == 'pred' else None
        logits, targets = [], []
        for index, sample in enumerate(batch_data_samples):
            sem_seg = sample.gt_sem_seg.sem_seg[0]
            if predicted is None:
                instances = sample.gt_instances
                masks = instances.masks.to_tensor(torch.bool, sem_seg.device)
                labels = instances.labels
            else:
                instances = predicted[index]
                kept = instances.scores >= self.score_thr
                masks, labels = instances.masks[kept], instances.labels[kept]
                if masks.shape[1:] != sample.img_shape[:2]:
                    raise ValueError(
                        f'predicted masks are of size {tuple(masks.shape[1:])}, their image of {sample.img_shape[:2]}'
                    )
                masks = _pad(masks, sem_seg.shape)
            if masks.shape[1:] != sem_seg.shape:
                raise ValueError(
                    f'masks are of size {tuple(masks.shape[1:])}, semantic labels of {tuple(sem_seg.shape)}: set both '
                    'pad_mask and pad_seg of the data_preprocessor'
                )
            image_logits, image_targets = self._logits_and_targets(masks, labels, sem_seg)
            logits.append(image_logits)
            targets.append(image_targets)
        target = torch.cat(targets)
        if len(target):
            total = F.cross_entropy(torch.cat(logits).float(), target, reduction='sum')
        else:  # every parameter needs a gradient in every iteration
            total = 0 * self.ranking(target.new_zeros((1, self.num_things_classes, 1, 1), dtype=torch.float)).sum()
        count = total.new_tensor(len(target))
        # Mean over all processes, as gradients are averaged over them. It is 0 if no process has a conflict.
        mean_count = reduce_mean(count)
        loss = total / torch.where(mean_count > 0, mean_count, 1)
        return dict(loss_ranking=self.loss_weight * loss, conflict_pixels=count / len(batch_data_samples))

    def _logits_and_targets(self, masks: Tensor, labels: Tensor, sem_seg: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of shape (K, T) and labels of shape (K,) at the K pixels of an image that count."""
        grid = self._grid(sem_seg.shape)
        masks = sample_masks(masks, grid)
        tensor, classes = instance_tensor(masks, labels)
        conflict = conflict_pixels(tensor if self.conflict == 'class' else masks)
        targets = ranking_labels(conflict, sample_at_centres(sem_seg, grid), self.num_things_classes)
        top, bottom, left, right = window = set_bounds(targets != IGNORED)
        targets = targets[top:bottom, left:right].flatten()
        if not len(targets):
            return targets.new_zeros((0, self.num_things_classes), dtype=torch.float), targets
        counts = (targets != IGNORED).nonzero().flatten()
        return self.ranking.forward_window(tensor, classes, window).flatten(1)[:, counts].T, targets[counts]

    def _grid(self, size: Sequence[int]) -> tuple[int, int]:
        """Height and width of the ranking map for an input of this height and width."""
        height, width = size
        return max(1, round(height / self.stride)), max(1, round(width / self.stride))

    def ranking_scores(self, evidence: Evidence[StuffLogits | StuffLabels]) -> Tensor:
        """Scores of equation 3.

        The ranking map has the size of the network's input divided by ``stride``, and scores are averaged over the
        masks at this size. Instances below ``score_thr`` are left out of the map.

        Args:
            evidence: See ``fuse``.

        Returns:
            Scores of shape (N,), float32; 0 below ``score_thr``. A mask that holds no centre of a cell of a coarser map
            has the score of the cell that it lies in.
        """
        return self._ranking_scores(evidence, *fetch(evidence.instances.scores, evidence.instances.labels))

    @torch.no_grad()
    def _ranking_scores(self, evidence: Evidence, scores: Tensor, labels: Tensor) -> Tensor:
        """The same, given scores and labels on the CPU. On a GPU it takes two transfers, whatever the image holds."""
        instances = evidence.instances
        result = torch.zeros_like(instances.scores, dtype=torch.float32)
        kept = (scores >= self.score_thr).nonzero().flatten()
        if not len(kept):
            return result
        labels = labels[kept]
        classes, channels = labels.unique(return_inverse=True)
        numbers = torch.cat([kept, labels, channels, classes]).to(result.device)
        kept, labels, channels, classes = numbers.split([len(kept)] * 3 + [len(classes)])
        masks = instances.masks if len(kept) == len(instances) else instances.masks.index_select(0, kept)
        masks = masks.bool()
        grid = self._grid(evidence.input_size)
        sampled = with_a_cell_each(sample_masks(masks, grid), masks)
        bounds = sampled_bounds(sampled, masks)
        masks = sampled
        tensor = join_masks(masks, channels, len(classes), bounds)
        conflict = None
        if self.score_region == 'conflict':
            conflict = conflict_pixels(tensor if self.conflict == 'class' else masks)

        def logits_of(window: Window) -> Tensor:
            return self.ranking.forward_window(tensor, classes, window)

        found = ranking_scores(masks, labels, logits_of, conflict, self.strip_pixels, bounds)
        return result.index_copy_(0, kept, found)

    def _order(self, evidence: Evidence, scores: Tensor, labels: Tensor) -> tuple[list[int], dict[str, list[float]]]:
        """By descending ranking score; ties by confidence."""
        (ranks,) = fetch(self._ranking_scores(evidence, scores, labels))
        if self.within_class == 'score':
            ranks = by_confidence_in_classes(ranks, scores, labels)
        return order_instances(scores, self.score_thr, ranks), dict(ranking_score=ranks.tolist())


def _pad(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Pad masks at the bottom and the right to a size: the input is padded, predictions are not."""
    return F.pad(masks, (0, size[1] - masks.shape[2], 0, size[0] - masks.shape[1]))
