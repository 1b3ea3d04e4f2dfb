"""CIAE."""

import torch
import torch.nn.functional as F
from mmdet.models import SingleStageDetector
from mmdet.structures import DetDataSample, OptSampleList, SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.models.dense_heads import CIAEProposals
from mmpanoptic.models.layers.precision import full
from mmpanoptic.models.losses import EMBEDDING_STRIDE, mean_queries, segment_sums
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import EmbeddingMap, Evidence
from mmpanoptic.utils import UserError

from .base import PanopticDetector
from .samples import output_size, without_classes


@MODELS.register_module()
class CIAE(PanopticDetector, SingleStageDetector):
    """FCOS and an embedding of every pixel; a pixel is assigned to the stuff class or instance with the nearest query.

    Source: Gao et al., Learning Category- and Instance-Aware Pixel Embedding for Fast Panoptic Segmentation,
    https://arxiv.org/abs/2009.13342

    Args:
        backbone, neck, data_preprocessor, init_cfg: See :class:`mmdet.models.SingleStageDetector`. The neck returns
            the levels P2 to P7.
        bbox_head: Config of :class:`~mmpanoptic.models.CIAEProposalHead`. Its inputs are the last levels, one per
            stride. With ``num_classes=1`` it is class-agnostic (table II); embeddings then decide about classes.
        semantic_head: Config of :class:`~mmpanoptic.models.CIAEHead`. Its inputs are the first levels.
        panoptic_fusion_head: Config of :class:`~mmpanoptic.models.EmbeddingFusion`.
        oracle: Whether prediction takes boxes, classes and masks of instances from the ground truth, with the mean of
            the mask's embeddings as the instance's query (table IV). Only for testing.
        test_cfg: Thresholds of the proposal head.

    Raises:
        ValueError: If instances would have no class, or the parts differ in the number of classes or in the dimensions
            of the box embeddings.
    """

    def __init__(self, *args, semantic_head: dict, panoptic_fusion_head: dict, oracle: bool = False, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.semantic_head = MODELS.build(semantic_head)
        self.build_fusion_head(panoptic_fusion_head)
        self.oracle = oracle
        self.tells_classes = self.bbox_head.num_classes == self.num_things_classes
        from_embedding = self.panoptic_fusion_head.category_from == 'embedding'
        if not self.tells_classes and (self.bbox_head.num_classes != 1 or not from_embedding):
            raise ValueError(
                f'bbox_head has {self.bbox_head.num_classes} of {self.num_things_classes} classes: give it all, or 1 '
                "and the fusion head category_from='embedding'"
            )
        if from_embedding and self.semantic_head.thing_queries is None:
            raise ValueError("category_from='embedding' needs thing_categories='spec' and stuff_modeling='ciae'")
        for name in ('num_things_classes', 'num_stuff_classes'):
            if getattr(self.semantic_head, name) != getattr(self, name):
                raise ValueError(
                    f'{name} is {getattr(self.semantic_head, name)} in semantic_head and {getattr(self, name)} in '
                    'panoptic_fusion_head'
                )
        given, taken = self.bbox_head.box_embedding_dims, self.semantic_head.box_embedding_dims
        if given != taken:  # if only bbox_head has them, their convolution would never get a gradient
            raise ValueError(f'box_embedding_dims is {given} in bbox_head and {taken} in semantic_head')

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of detection and of the embeddings.

        Args:
            batch_inputs: Images of shape (N, 3, H, W), normalised and padded.
            batch_data_samples: One sample per image, with ``gt_instances``, ``ignored_instances`` and ``gt_sem_seg``.

        Returns:
            Losses by name.
        """
        feats = self.extract_feat(batch_inputs)
        proposals = self._proposals(feats)
        samples = batch_data_samples
        if not self.tells_classes:
            samples = [without_classes(sample) for sample in samples]
        losses = self.bbox_head.detection_loss(proposals, samples)
        losses.update(self.semantic_head.loss(feats, proposals.box_embeddings, batch_data_samples))
        return losses

    def _proposals(self, feats: tuple[Tensor, ...]) -> CIAEProposals:
        return self.bbox_head(feats[-len(self.bbox_head.strides) :])

    @torch.no_grad()
    def evidence(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> list[Evidence]:
        """Instances without masks and an embedding map, see :meth:`PanopticDetector.evidence`.

        Args:
            batch_inputs: Images of shape (N, 3, H, W), normalised and padded.
            batch_data_samples: One sample per image; with ``oracle``, with ``gt_panoptic_seg`` at the original size.
            rescale: Whether to return results at the original size.

        Returns:
            Evidence whose instances have ``embeddings`` and, except with ``oracle``, ``points``. A point is the column
            and row, at the size of the output, of the pixel that the query was read at.

        Raises:
            UserError: If the oracle lacks the ground truth.
        """
        feats = self.extract_feat(batch_inputs)
        proposals = self._proposals(feats)
        pixels = self.semantic_head(feats, proposals.box_embeddings)
        embeddings = full(pixels.embedding)
        semantics = [None] * len(embeddings) if pixels.semantic is None else pixels.semantic
        metas = [sample.metainfo for sample in batch_data_samples]
        if self.oracle:
            instances = [annotated_instances(*pair) for pair in zip(batch_data_samples, embeddings, strict=True)]
        else:
            instances = self.bbox_head.detect(proposals, metas)
            for found, embedding in zip(instances, embeddings, strict=True):
                found.embeddings = self.semantic_head.queries(embedding, found.points)
                found.labels = self.panoptic_fusion_head.labels(found, self.semantic_head.thing_queries)
        evidence = []
        for found, embedding, semantic, meta in zip(instances, embeddings, semantics, metas, strict=True):
            stuff = EmbeddingMap(embedding, self.semantic_head.stuff_queries, EMBEDDING_STRIDE, semantic)
            of_image = Evidence(found, stuff, tuple(meta['img_shape'][:2]), output_size(meta, rescale))
            found.bboxes = found.bboxes / found.bboxes.new_tensor(of_image.scale * 2)
            if 'points' in found:
                found.points = ((found.points + 0.5).double() / found.bboxes.new_tensor(of_image.scale).double()).long()
            evidence.append(of_image)
        return evidence

    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None) -> tuple:
        """Raw outputs, for counting operations: class logits, distances, centerness, box embeddings, embeddings."""
        feats = self.extract_feat(batch_inputs)
        proposals = self._proposals(feats)
        return *proposals, *(x for x in self.semantic_head(feats, proposals.box_embeddings) if x is not None)


def annotated_instances(sample: DetDataSample, embedding: Tensor) -> InstanceData:
    """The instances of the ground truth, in the form of detections.

    Args:
        sample: Sample with ``gt_panoptic_seg`` at the original size; crowds are left out.
        embedding: Raw map of the image, of shape (D, h, w), at a quarter of the input's size.

    Returns:
        ``bboxes`` at the size of the input, ``labels``, ``scores`` (1) and ``embeddings``, the mean of the enlarged
        map over each mask, of length 1. Instances without a pixel at the size of the input are left out.

    Raises:
        UserError: If there is no ground truth.
    """
    if 'gt_panoptic_seg' not in sample:
        raise UserError(
            f'{sample.get("img_path", "an image")}: the oracle needs ground truth (gt_panoptic_seg): test it on '
            'annotated images, or build it with oracle=False'
        )
    height, width = sample.img_shape[:2]
    truth = sample.gt_panoptic_seg
    things = [info for info in truth.segments_info if info['is_thing'] and not info['iscrowd']]
    segments = torch.full_like(truth.sem_seg[0], -1)
    for index, info in enumerate(things):
        segments[truth.sem_seg[0] == info['id']] = index
    queries, seen = segment_queries(embedding, segments, len(things), (height, width))
    boxes = embedding.new_tensor([info['bbox'] for info in things]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    boxes *= embedding.new_tensor([width, height] * 2) / embedding.new_tensor(truth.sem_seg.shape[:-3:-1]).repeat(2)
    found = InstanceData(
        bboxes=boxes,
        labels=torch.tensor([info['label'] for info in things], dtype=torch.long, device=boxes.device),
        scores=boxes.new_ones(len(things)),
        embeddings=queries,
    )
    return found[seen]


def segment_queries(
    embedding: Tensor, segments: Tensor, number: int, input_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Best queries for the segments of an image: the mean embedding of each segment, of length 1.

    Args:
        embedding: Raw map of the image, of shape (D, h, w), at a quarter of the input's size.
        segments: Index of each pixel's segment, integers of shape (H, W), of any size; -1 for none.
        number: Number of segments M.
        input_size: Height and width of the image as the network saw it, without padding.

    Returns:
        Queries of shape (M, D), and whether each segment has a pixel at the input's size, bool of shape (M,). A segment
        without one has query 0.
    """
    height, width = input_size
    segments = F.interpolate(segments[None, None].double(), (height, width), mode='nearest-exact').long().flatten()
    large = F.interpolate(embedding[None], scale_factor=EMBEDDING_STRIDE, mode='bilinear', align_corners=False)
    pixels = large[0, :, :height, :width].flatten(1)
    seen = torch.bincount(segments + 1, minlength=number + 1)[1:] > 0
    return mean_queries(segment_sums(pixels, segments, number)), seen
