"""CIAE's proposal head: FCOS with positives inside masks and a box embedding at every location."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from mmcv.cnn import Scale
from mmdet.models.dense_heads import FCOSHead
from mmdet.models.utils import filter_scores_and_topk, unpack_gt_instances
from mmdet.structures import SampleList
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmpanoptic.models.layers.precision import full
from mmpanoptic.models.task_modules.priors import MlvlPointGenerator
from mmpanoptic.registry import MODELS

# Options of FCOSHead that the losses, the targets and the layers here rely on.
_FIXED = dict(centerness_on_reg=True, center_sampling=False, norm_on_bbox=False)
_TEST_CFG = dict(nms_pre=1000, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100)


class CIAEProposals(NamedTuple):
    """Outputs of the head, level by level. All but the embeddings are float32 or float64.

    Attributes:
        cls_scores: Class logits of shape (N, K, H_i, W_i). Locations take their type, and bfloat16 cannot represent
            coordinates such as 1300.
        distances: Distances from the location to the left, upper, right and lower side of the box, of shape (N, 4, H_i,
            W_i), in pixels of the input.
        centernesses: Logits of shape (N, 1, H_i, W_i).
        box_embeddings: Tensors of shape (N, ``box_embedding_dims``, H_i, W_i); empty if there are none.
    """

    cls_scores: list[Tensor]
    distances: list[Tensor]
    centernesses: list[Tensor]
    box_embeddings: Sequence[Tensor] = ()


@MODELS.register_module()
class CIAEProposalHead(FCOSHead):
    """FCOS with positives inside masks instead of boxes, and a box embedding at every location.

    Classes have a separate tower; distances to the box's sides, centerness and box embedding share the other tower. The
    box embedding is one 3x3 convolution for all levels, without a separate loss.

    Location (i, j) of the level with stride s is at x = (i + .5) s, y = (j + .5) s of the input, in coordinates where
    pixel (x, y) covers [x, x + 1) x [y, y + 1). As s is even, both are integers. The pixel with these indices, to the
    lower right of the location, represents it: ``mask[y, x]`` in masks and ``P[:, y, x]`` in pixel embeddings.

    A location is positive for an instance if the instance's mask holds the location's pixel and the largest of the four
    distances to the sides of the instance's box is in the range of the level, lower end excluded. Of several such
    instances, it is assigned to the one with the smallest box, and to the first one of equal boxes. Its regression
    targets are the distances to the box's sides, or 0 for a side that the location lies outside of. All other locations
    are negative, pixels of crowds included.

    Source: Gao et al., Learning Category- and Instance-Aware Pixel Embedding for Fast Panoptic Segmentation,
    https://arxiv.org/abs/2009.13342; losses and their normalisation: Tian et al., FCOS, https://arxiv.org/abs/1904.01355

    Args:
        num_classes: Number of thing classes.
        in_channels: Channels of the levels.
        box_embedding_dims: Channels of the box embedding; 0: there is none.
        strides: Pixels of the input between locations, for each level; even.
        test_cfg: Thresholds that differ from the defaults: ``nms_pre``, the largest number of class scores of a level;
            ``score_thr``, for the class score before multiplication by the centerness; ``nms``; ``max_per_img``.
        kwargs: See :class:`mmdet.models.FCOSHead`. Center sampling and normalised distances are not supported.

    Raises:
        ValueError: If an option has a value that is not supported.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        box_embedding_dims: int = 32,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        test_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        for name, value in _FIXED.items():
            if kwargs.get(name, value) != value:
                raise ValueError(f'{name} is always {value} in {type(self).__name__}')
        if box_embedding_dims < 0:
            raise ValueError(f'box_embedding_dims {box_embedding_dims} must be 0 or more')
        if odd := [stride for stride in strides if stride % 2]:
            raise ValueError(f'strides {odd} are odd: their locations are not at a pixel')
        self.box_embedding_dims = box_embedding_dims
        super().__init__(
            num_classes,
            in_channels,
            strides=tuple(strides),
            test_cfg=ConfigDict({**_TEST_CFG, **(test_cfg or {})}),
            **{**kwargs, **_FIXED},
        )
        self.prior_generator = MlvlPointGenerator(self.strides)  # keeps the points, unlike FCOSHead's generator

    def _init_predictor(self) -> None:
        super()._init_predictor()
        if self.box_embedding_dims:
            self.conv_box_embedding = nn.Conv2d(self.feat_channels, self.box_embedding_dims, 3, padding=1)

    def forward(self, x: Sequence[Tensor]) -> CIAEProposals:
        """Outputs of all levels.

        Args:
            x: Levels of shape (N, C, H_i, W_i), one for each stride.

        Raises:
            ValueError: If the number of levels is not the number of strides.
        """
        if len(x) != len(self.strides):
            raise ValueError(f'{len(x)} levels, but strides has {len(self.strides)}')
        return CIAEProposals(*super().forward(x))

    def forward_single(self, x: Tensor, scale: Scale, stride: int) -> tuple[Tensor, ...]:
        """Outputs of one level; ``stride`` is not used."""
        cls_score, bbox_pred, _, reg_feat = super(FCOSHead, self).forward_single(x)
        # In float32: float16 overflows above exp(11).
        outputs = full(cls_score), scale(bbox_pred).float().exp(), full(self.conv_centerness(reg_feat))
        return (*outputs, self.conv_box_embedding(reg_feat)) if self.box_embedding_dims else outputs

    def loss(self, x: Sequence[Tensor], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox`` and ``loss_centerness``, see :meth:`detection_loss`."""
        return self.detection_loss(self(x), batch_data_samples)

    def detection_loss(self, outputs: CIAEProposals, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of FCOS: of classes and centerness by the number of positives, of boxes weighted by centerness.

        Args:
            outputs: Result of ``forward``.
            batch_data_samples: One sample per image, with ``gt_instances``: ``bboxes``, ``labels`` and ``masks`` as
                :obj:`BitmapMasks`, padded or not; their pixels outside ``img_shape`` do not count.

        Returns:
            Scalars ``loss_cls``, ``loss_bbox``, ``loss_centerness``. Without any positive the latter two are 0.

        Raises:
            ValueError: If instances have no bitmap masks.
        """
        gt_instances, gt_ignored, metas = unpack_gt_instances(batch_data_samples)
        gt_instances = [
            _cropped(instances, meta['img_shape']) for instances, meta in zip(gt_instances, metas, strict=True)
        ]
        return self.loss_by_feat(
            outputs.cls_scores, outputs.distances, outputs.centernesses, gt_instances, metas, gt_ignored
        )

    def _get_targets_single(
        self, gt_instances: InstanceData, points: Tensor, regress_ranges: Tensor, num_points_per_lvl: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Labels (P,), ``num_classes`` if negative, and distances (P, 4), 0 if negative, of one image's locations."""
        labels = gt_instances.labels.new_full((len(points),), self.num_classes)
        distances = points.new_zeros(len(points), 4)
        if len(gt_instances):
            boxes = gt_instances.bboxes
            assigned = assign_by_masks(points, regress_ranges, boxes, _bitmaps(gt_instances))
            positive = (assigned >= 0).nonzero().flatten()
            assigned = assigned[positive]
            labels[positive] = gt_instances.labels[assigned]
            distances[positive] = distances_to_sides(points[positive], boxes[assigned])
        return labels, distances

    def predict(self, x: Sequence[Tensor], batch_data_samples: SampleList, rescale: bool = False) -> list[InstanceData]:
        """Detections of each image, see :meth:`detect`."""
        return self.detect(self(x), [sample.metainfo for sample in batch_data_samples], rescale=rescale)

    def detect(
        self, outputs: CIAEProposals, batch_img_metas: list[dict], cfg: ConfigDict | None = None, rescale: bool = False
    ) -> list[InstanceData]:
        """Detections of each image after NMS within each class, best first, without gradient.

        Args:
            outputs: Result of ``forward``.
            batch_img_metas: Metainfo of each image, with ``img_shape``.
            cfg: All thresholds; None: ``test_cfg``.
            rescale: Whether to return boxes at the original size.

        Returns:
            For each image ``bboxes`` (n, 4), clipped to the image; ``scores`` (n,), class score x centerness;
            ``labels`` (n,); and ``points`` (n, 2), int64: x and y of the pixel of the input that represents the
            location that predicted the box, moved to the nearest pixel inside ``img_shape``.
        """
        return self.predict_by_feat(
            [level.float() for level in outputs.cls_scores],  # mmcv's NMS needs float32
            outputs.distances,
            outputs.centernesses,
            batch_img_metas=batch_img_metas,
            cfg=cfg,
            rescale=rescale,
        )

    def _predict_by_feat_single(
        self,
        cls_score_list: list[Tensor],
        bbox_pred_list: list[Tensor],
        score_factor_list: list[Tensor],
        mlvl_priors: list[Tensor],
        img_meta: dict,
        cfg: ConfigDict | None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceData:
        """Detections of one image, like the parent's, with the location of each detection."""
        cfg = self.test_cfg if cfg is None else cfg
        levels = []
        for logits, distances, centerness, points in zip(
            cls_score_list, bbox_pred_list, score_factor_list, mlvl_priors, strict=True
        ):
            scores = logits.flatten(1).t().sigmoid()
            scores, labels, index, _ = filter_scores_and_topk(scores, cfg.score_thr, cfg.nms_pre)
            levels.append(
                InstanceData(
                    scores=scores,
                    labels=labels,
                    points=points[index],
                    distances=distances.flatten(1).t()[index],
                    score_factors=centerness.flatten()[index].float().sigmoid(),
                )
            )
        results = InstanceData.cat(levels)
        img_shape = img_meta['img_shape'][:2]
        results.bboxes = self.bbox_coder.decode(results.points, results.pop('distances'), max_shape=img_shape)
        results = self._bbox_post_process(results, cfg, rescale=rescale, with_nms=with_nms, img_meta=img_meta)
        height, width = img_shape
        results.points = results.points.long().minimum(results.labels.new_tensor([width - 1, height - 1]))
        return results


def distances_to_sides(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances (P, 4) from points (P, 2) to the left, upper, right, lower sides of boxes (P, 4), 0 if negative."""
    return torch.cat([points - boxes[:, :2], boxes[:, 2:] - points], dim=1).clamp(min=0)


def assign_by_masks(points: Tensor, regress_ranges: Tensor, boxes: Tensor, masks: BitmapMasks) -> Tensor:
    """Assign locations to instances.

    Args:
        points: Locations (P, 2), x and y.
        regress_ranges: Range (P, 2) of the largest distance to a side of the box, lower end excluded.
        boxes: Boxes (G, 4) of the instances. A box without width or height has no positives.
        masks: Masks of the instances. Locations outside of all masks are negative.

    Returns:
        Index (P,) of each location's instance, -1 for a negative location. Of several instances with the location's
        pixel in their mask and the box in range, it is the one with the smallest box, and the first of equal boxes.
    """
    # Only pairs of an instance and a location in its mask are computed. There are few, since masks hardly overlap.
    instance, location = _held_by_masks(points, masks).to(boxes.device).nonzero(as_tuple=True)
    distances = distances_to_sides(points[location], boxes[instance])
    largest = distances.amax(dim=1)
    low, high = regress_ranges[location].unbind(dim=1)
    has_extent = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    fits = (largest > low) & (largest <= high) & has_extent[instance]
    instance, location = instance[fits], location[fits]

    # The smallest box is found by its rank in order of area, since ranks, unlike areas, are unique.
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    order = areas.argsort(stable=True)
    none = len(boxes)
    best = order.new_full((len(points),), none).scatter_reduce(0, location, order.argsort()[instance], 'amin')
    return torch.cat([order, order.new_tensor([-1])])[best]


def _held_by_masks(points: Tensor, masks: BitmapMasks) -> Tensor:
    """Whether masks hold the pixels of locations (P, 2): bool (G, P), on the CPU, as masks are there."""
    x, y = points.long().cpu().numpy().T
    inside = (x < masks.width) & (y < masks.height)
    held = np.zeros((len(masks), len(points)), dtype=bool)
    held[:, inside] = masks.masks[:, y[inside], x[inside]]
    return torch.from_numpy(held)


def _bitmaps(instances: InstanceData) -> BitmapMasks:
    masks = instances.get('masks')
    if not isinstance(masks, BitmapMasks):
        raise ValueError(f'gt_instances.masks must be BitmapMasks, not {type(masks).__name__}')
    return masks


def _cropped(instances: InstanceData, img_shape: Sequence[int]) -> InstanceData:
    """Boxes, labels and masks without padding; masks share memory with the original masks."""
    cropped = InstanceData(bboxes=instances.bboxes, labels=instances.labels)
    if len(instances):
        masks = _bitmaps(instances).masks[:, : img_shape[0], : img_shape[1]]
        cropped.masks = BitmapMasks(masks, *masks.shape[1:])
    return cropped
