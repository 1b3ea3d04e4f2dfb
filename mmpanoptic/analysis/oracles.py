"""Replace parts of evidence by the ground truth, to see what fusion makes of it. Pure functions.

An instance matches a thing of the ground truth if they have the same class and their masks (in evidence without masks,
their boxes) have an IoU above ``MATCH_IOU``. Matches are those of the prediction; replaced parts do not change
them.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.models.detectors.ciae import segment_queries
from mmpanoptic.models.fusion import BaseFusionHead, HeuristicFusion
from mmpanoptic.models.fusion.paste.instances import bounds_of
from mmpanoptic.structures import EmbeddingMap, Evidence, StuffLabels
from mmpanoptic.structures.evidence import Stuff
from mmpanoptic.utils import UserError

from .ground_truth import Things, stuff_of, things_of
from .instance_orders import MATCH_IOU, above, mask_iou, true_order

#: What each oracle takes from the ground truth; the help text of ``mmpanoptic oracles`` shows these lines.
ORACLES: Mapping[str, str] = MappingProxyType(
    {
        'order': 'instances are in front of each other as in the ground truth',
        'semantics': 'stuff is that of the ground truth',
        'boxes': 'an instance has the box of the thing that it matches, and its mask is stretched to this box',
        'masks': 'an instance has the mask of the thing that it matches, or the query that fits this mask best',
        'classes': 'an instance that matches a thing of another class has the class of the thing',
        'extra': 'instances that match no thing, or one that another instance matches better, are left out',
        'missed': 'things that no instance matches are added',
    }
)


class Subject(NamedTuple):
    """Evidence and ground truth of an image.

    Attributes:
        evidence: The evidence with the N instances above the score threshold, and only the fields that fusion reads.
        things: The M things of the ground truth.
        annotated: The things as instances with the same fields as the evidence; scores are 1.
        iou: IoU of instances and things, of shape (N, M).
        stuff: The stuff of the ground truth, in the form that the evidence has.
    """

    evidence: Evidence
    things: Things
    annotated: InstanceData
    iou: Tensor
    stuff: Stuff

    @property
    def match(self) -> Tensor:
        """Index of the thing that each instance matches, int64 of shape (N,); -1 for none."""
        same_class = self.evidence.instances.labels[:, None] == self.things.labels
        return above(self.iou * same_class, MATCH_IOU)

    @property
    def match_of_any_class(self) -> Tensor:
        """The same; an instance without a match in its class is matched with the best thing of another class."""
        return torch.where(self.match < 0, above(self.iou, MATCH_IOU), self.match)


def subject_of(evidence: Evidence, annotation: Mapping[str, Any], head: BaseFusionHead) -> Subject:
    """Bring evidence and ground truth of an image together.

    Args:
        evidence: Evidence of the image, on the CPU.
        annotation: Item of the image in :func:`~.ground_truth.annotated_dataset`.
        head: The fusion head.

    Raises:
        UserError: If the head cannot fuse evidence of this kind.
    """
    head.require_taken(evidence)
    instances, counts = evidence.instances, (head.num_things_classes, head.num_stuff_classes)
    things, true_stuff = things_of(annotation), stuff_of(annotation, *counts)
    by_query = isinstance(evidence.stuff, EmbeddingMap)
    names = ('bboxes', 'labels', 'scores', 'embeddings' if by_query else 'masks')
    seen = InstanceData(**{name: instances[name] for name in names})[instances.scores >= head.score_thr]
    top, bottom, left, right = bounds_of(things.masks).unbind(1)
    annotated = InstanceData(
        bboxes=torch.stack([left, top, right, bottom], dim=1).to(seen.bboxes),
        labels=things.labels,
        scores=seen.scores.new_ones(len(things.labels)),
    )
    stuff: Stuff
    if by_query:
        numbers = torch.where(things.shown.any(0), things.shown.byte().argmax(0) if len(things.shown) else 0, -1)
        queries, _ = segment_queries(evidence.stuff.embedding, numbers, len(things.labels), evidence.input_size)
        annotated.embeddings = queries
        iou = bbox_overlaps(seen.bboxes, annotated.bboxes)
        stuff = fitting_map(evidence, true_stuff, head.num_stuff_classes)
    else:
        seen.masks, annotated.masks = seen.masks.bool(), things.masks
        iou = mask_iou(seen.masks, things.masks)
        stuff = StuffLabels(true_stuff)
    found = Evidence(seen, evidence.stuff, evidence.input_size, evidence.output_size)
    return Subject(found, things, annotated, iou, stuff)


def fitting_map(evidence: Evidence, true_stuff: Tensor, num_stuff: int) -> EmbeddingMap:
    """Replace the stuff queries and semantic logits of an embedding map by those that fit the ground truth best.

    The query of a class is the mean embedding of its pixels. A class that does not occur has the query 0, which is the
    most similar one only where all others have a negative similarity. Semantic logits of a separate branch become the
    one-hot classes of the ground truth at the centres of the branch's cells.

    Args:
        evidence: Evidence with an embedding map.
        true_stuff: See :func:`~.ground_truth.stuff_of`.
        num_stuff: Number of stuff classes S.
    """
    found = evidence.stuff
    segments = torch.where(true_stuff < num_stuff, true_stuff, -1)
    queries, _ = segment_queries(found.embedding, segments, num_stuff, evidence.input_size)
    semantic = None
    if found.semantic is not None:
        rows, columns = (
            ((torch.arange(cells) + 0.5) * found.stride / scale).long().clamp(max=side - 1)
            for cells, scale, side in zip(
                found.semantic.shape[1:], evidence.scale[::-1], evidence.output_size, strict=True
            )
        )
        classes = torch.nn.functional.one_hot(true_stuff[rows[:, None], columns], num_stuff + 1)
        semantic = classes.permute(2, 0, 1).to(found.semantic)
    return EmbeddingMap(found.embedding, queries.to(found.stuff_queries), found.stride, semantic)


def refuse(head: BaseFusionHead, oracle: str) -> str | None:
    """Why a fusion head does not support an oracle; None if it does.

    Raises:
        UserError: If there is no such oracle.
    """
    if oracle not in ORACLES:
        raise UserError(f'there is no oracle {oracle!r}: choose from {", ".join(ORACLES)}')
    if oracle == 'order' and not isinstance(head, HeuristicFusion):
        return f'{type(head).__name__} gives every pixel to its most similar query and has no order of instances'
    return None


def mended(subject: Subject, oracles: Collection[str]) -> tuple[Evidence, list[int] | None]:
    """Apply oracles to evidence. The order of their names does not matter.

    Args:
        subject: Evidence and ground truth of an image.
        oracles: Names from :data:`ORACLES`.

    Returns:
        The changed evidence, and the order of the instances for fusion: indices from front to back; None: the order of
        the fusion head.
    """
    found, annotated = subject.evidence.instances, subject.annotated
    match = subject.match_of_any_class if 'classes' in oracles else subject.match
    if 'classes' in oracles:
        found = _with(found, 'labels', match, annotated)
    if 'boxes' in oracles:
        moved = _with(found, 'bboxes', match, annotated)
        if 'masks' in found:
            is_moved = match >= 0
            moved.masks = found.masks.clone()
            moved.masks[is_moved] = stretched(*(x[is_moved] for x in (found.masks, found.bboxes, moved.bboxes)))
        found = moved
    if 'masks' in oracles:
        found = _with(found, 'masks' if 'masks' in found else 'embeddings', match, annotated)
    if 'extra' in oracles:
        kept = _best_of_each(subject.iou, match)
        found, match = found[kept], match[kept]
    if 'missed' in oracles:
        is_there = subject.things.shown.flatten(1).any(1)
        is_there[match[match >= 0]] = False
        missed = is_there.nonzero().flatten()
        found, match = InstanceData.cat([found, annotated[missed]]), torch.cat([match, missed])
    stuff = subject.stuff if 'semantics' in oracles else subject.evidence.stuff
    order = None
    if 'order' in oracles:
        order = true_order(found.masks, match, subject.things.shown, found.scores, range(len(found)))
    return Evidence(found, stuff, subject.evidence.input_size, subject.evidence.output_size), order


def _with(found: InstanceData, name: str, match: Tensor, annotated: InstanceData) -> InstanceData:
    """Copy of instances; those with a match take the field ``name`` from the thing that they match."""
    values = found[name].clone()
    values[match >= 0] = annotated[name][match[match >= 0]].to(values)
    return InstanceData(**dict(found.items(), **{name: values}))


def _best_of_each(iou: Tensor, match: Tensor) -> Tensor:
    """Whether an instance has the greatest IoU of all that match the same thing, bool of shape (N,)."""
    if not iou.numel():
        return torch.zeros(len(iou), dtype=torch.bool)
    columns = torch.arange(iou.shape[1])
    best = torch.where(match[:, None] == columns, iou, -1.0).argmax(dim=0)
    return (match >= 0) & (best[match] == torch.arange(len(match)))


def stretched(masks: Tensor, boxes: Tensor, new_boxes: Tensor) -> Tensor:
    """Move and stretch masks from their boxes to new boxes, with nearest-neighbour interpolation.

    Args:
        masks: bool of shape (N, H, W).
        boxes: Boxes (left, top, right, bottom) of the masks in pixels, of shape (N, 4). A mask does not change if its
            old or new box has no area.
        new_boxes: New boxes, of shape (N, 4).
    """
    if not len(masks):
        return masks
    sources, is_inside = [], []
    for place, side in ((1, masks.shape[1]), (0, masks.shape[2])):
        (start, stop), (new_start, new_stop) = (b[:, place::2].double().T[..., None] for b in (boxes, new_boxes))
        centres = torch.arange(side) + 0.5
        at = start + (centres - new_start) / (new_stop - new_start) * (stop - start)
        is_inside.append((at >= 0) & (at < side))
        sources.append(at.nan_to_num(0).clamp(0, side - 1).long())
    numbers = torch.arange(len(masks))[:, None, None]
    moved = masks[numbers, sources[0][:, :, None], sources[1][:, None]]
    moved &= is_inside[0][:, :, None] & is_inside[1][:, None]
    has_area = [(b[:, 2:] > b[:, :2]).all(dim=1) for b in (boxes, new_boxes)]
    return torch.where((has_area[0] & has_area[1])[:, None, None], moved, masks)
