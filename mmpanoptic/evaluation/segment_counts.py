"""Segments of images and the pixels that they share, the input of scores and of the account of lost points."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from mmpanoptic.structures import VOID_ID
from mmpanoptic.utils import DatasetError, UserError

from .overlaps import Overlaps, find_overlaps, sum_by


class Counts(NamedTuple):
    """Segments of one or more images and the pixels that they share; a few numbers a segment, cheap to pickle.

    All arrays except those in ``overlaps`` are indexed by place, see :class:`~.overlaps.Overlaps`: places of
    ground-truth segments begin at 1 (0 is void), those of predicted segments at 2 (1 is void, 0 does not occur).

    Attributes:
        overlaps: Pairs that share pixels, ascending by (image, ground-truth id, predicted id), and areas.
        gt_image: Index of the image of each ground-truth segment, int64; -1 for void.
        gt_id: Id of each ground-truth segment, int64.
        gt_label: Contiguous label of each ground-truth segment, int64; -1 for void, which no prediction has.
        is_crowd: Whether each ground-truth segment is a crowd, bool.
        excuses: Whether each ground-truth segment is the last listed crowd of its class in its image, bool.
        pred_image: Index of the image of each predicted segment, int64; -1 in the first two places.
        pred_id: Id of each predicted segment, int64.
        pred_label: Contiguous label of each predicted segment, int64; -2 in the first two places.
    """

    overlaps: Overlaps
    gt_image: np.ndarray
    gt_id: np.ndarray
    gt_label: np.ndarray
    is_crowd: np.ndarray
    excuses: np.ndarray
    pred_image: np.ndarray
    pred_id: np.ndarray
    pred_label: np.ndarray

    @property
    def same_class(self) -> np.ndarray:
        """Whether the two segments of each pair have the same class, bool by pair."""
        return self.gt_label[self.overlaps.gt] == self.pred_label[self.overlaps.pred]

    @property
    def void_area(self) -> np.ndarray:
        """Pixels of each predicted segment on void of the ground truth, int64."""
        return shared_with(self.overlaps, self.overlaps.gt == 0)


def shared_with(overlaps: Overlaps, chosen: np.ndarray) -> np.ndarray:
    """Pixels of each predicted segment in the chosen pairs (bool by pair), int64 by place."""
    return sum_by(overlaps.pred[chosen], overlaps.pixels[chosen], len(overlaps.pred_area))


def count_segments(
    gt_ids: np.ndarray | Tensor,
    gt_segments: Sequence[Mapping[str, Any]],
    pred_map: np.ndarray | Tensor,
    pred_segments: Sequence[Mapping[str, Any]],
    void: int = VOID_ID,
    name: str = 'image',
) -> Counts:
    """Count the pixels that the segments of one image share.

    See :func:`~.panoptic_quality.match_segments` for the arguments and errors.
    """
    if gt_ids.shape != pred_map.shape:
        raise UserError(
            f'{name}: the prediction is {tuple(pred_map.shape)} (height, width), the ground truth '
            f'{tuple(gt_ids.shape)}: predict at the original image size'
        )
    gt_by_id = sorted(gt_segments, key=itemgetter('id'))
    pred_by_id = sorted(pred_segments, key=itemgetter('id'))
    overlaps = find_overlaps(gt_ids, gt_by_id, pred_map, pred_by_id, void, name)
    _check_areas(overlaps, gt_by_id, name)
    last_crowd = {s['label']: s['id'] for s in gt_segments if s['iscrowd'] == 1}
    return Counts(
        overlaps,
        gt_image=np.array([-1] + [0] * len(gt_by_id)),
        gt_id=np.array([VOID_ID, *(s['id'] for s in gt_by_id)]),
        gt_label=np.array([-1, *(s['label'] for s in gt_by_id)]),
        is_crowd=np.array([False, *(s['iscrowd'] == 1 for s in gt_by_id)]),
        excuses=np.array([False, *(last_crowd.get(s['label']) == s['id'] for s in gt_by_id)]),
        pred_image=np.array([-1, -1] + [0] * len(pred_by_id)),
        pred_id=np.array([VOID_ID, VOID_ID, *(s['id'] for s in pred_by_id)]),
        pred_label=np.array([-2, -2, *(s['label'] for s in pred_by_id)]),
    )


def _check_areas(overlaps: Overlaps, gt_segments_by_id: Sequence[Mapping[str, Any]], name: str) -> None:
    """Refuse a ground truth whose areas in the JSON differ from its map: with them, IoUs could exceed 1."""
    for segment, pixels in zip(gt_segments_by_id, overlaps.gt_area[1:].tolist(), strict=True):
        if segment['area'] != pixels:
            raise DatasetError(
                f'ground truth of {name}: segment id {segment["id"]} has area {segment["area"]} in the JSON and '
                f'{pixels} pixels in the map: write the number of pixels there'
            )


def join_counts(images: Sequence[Counts]) -> Counts:
    """Join the counts of many images; ``gt_image`` and ``pred_image`` are indices into ``images``."""
    if not images:
        return _no_counts()
    gt_shift = np.cumsum([0] + [len(counts.gt_id) - 1 for counts in images])
    pred_shift = np.cumsum([0] + [len(counts.pred_id) - 2 for counts in images])
    every = [counts.overlaps for counts in images]
    pairs = [len(overlaps.gt) for overlaps in every]
    gt, pred, pixels = (np.concatenate([getattr(o, key) for o in every]) for key in ('gt', 'pred', 'pixels'))
    areas = [
        np.concatenate(
            [[sum(int(getattr(o, key)[i]) for o in every) for i in range(first)]]
            + [getattr(o, key)[first:] for o in every]
        )
        for key, first in (('gt_area', 1), ('pred_area', 2))
    ]
    overlaps = Overlaps(
        np.where(gt > 0, gt + np.repeat(gt_shift[:-1], pairs), 0),
        np.where(pred > 1, pred + np.repeat(pred_shift[:-1], pairs), pred),
        pixels,
        *areas,
    )
    joined = {
        key: np.concatenate(
            [getattr(images[0], key)[: 2 if key.startswith('pred') else 1]]
            + [getattr(counts, key)[2 if key.startswith('pred') else 1 :] for counts in images]
        )
        for key in Counts._fields[1:]
    }
    for key, shift in (('gt_image', gt_shift), ('pred_image', pred_shift)):
        joined[key][len(joined[key]) - shift[-1] :] = np.repeat(np.arange(len(images)), np.diff(shift))
    return Counts(overlaps, **joined)


def _no_counts() -> Counts:
    nothing = np.zeros((1, 1), np.int64)
    return count_segments(nothing, [], nothing, [])
