"""Options of COCO's AP: checks before a test, and names of scores that state the limits used."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmpanoptic.utils import UserError

#: IoU thresholds of COCO's mAP, computed as in mmdet.
COCO_IOUS = np.linspace(0.5, 0.95, 10)
_AT_IOU = {'mAP_50': 0.5, 'mAP_75': 0.75}
_OF_AP = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')


class CocoOptions:
    """Limits, IoUs and items of :class:`~.instance_metric.InstanceMetric`.

    Args:
        metrics: 'bbox', 'segm', 'proposal' (recall of any class, from pycocotools) and 'proposal_fast' (the same from
            mmdet).
        proposal_nums: Limits on the detections of a class in an image; AR is given at each limit. Three ascending
            numbers; for 'proposal_fast' alone, any number of them.
        iou_thrs: One or more IoU thresholds within (0, 1].
        metric_items: Scores to give: mAP, mAP_50, mAP_75, mAP_s, mAP_m, mAP_l and, with the limits 100, 300 and 1000,
            AR@100, AR@300, AR@1000, AR_s@1000, AR_m@1000, AR_l@1000. None: mmdet's default for each metric.
        classwise: Whether to give the AP of each class. mmdet finds it by the index of COCO's thresholds.

    Attributes:
        iou_thrs: The thresholds as an array, which pycocotools needs.
        mmdet_items: ``metric_items`` under mmdet's names, which always state the limits 100, 300 and 1000.

    Raises:
        UserError: If an option is invalid, would have no effect, or contradicts another.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        proposal_nums: Sequence[int],
        iou_thrs: float | Sequence[float],
        metric_items: Sequence[str] | None,
        classwise: bool,
    ) -> None:
        of_pycocotools = [metric for metric in metrics if metric != 'proposal_fast']
        self.iou_thrs = _ious(iou_thrs)
        nums = list(proposal_nums)
        ascending = nums == sorted(set(nums)) and all(type(limit) is int and limit > 0 for limit in nums)
        if not (ascending and (len(nums) == 3 if of_pycocotools else nums)):
            wanted = 'three ascending numbers' if of_pycocotools else 'ascending numbers'
            raise _refusal(f'proposal_nums is {tuple(nums)}: {wanted} are needed, such as (100, 300, 1000)')
        if classwise and not {'bbox', 'segm'} & set(metrics):
            raise _refusal(f'classwise has no effect on {", ".join(metrics)}: drop it, or score bbox or segm')
        if classwise and not np.array_equal(self.iou_thrs, COCO_IOUS):
            raise _refusal("classwise needs COCO's iou_thrs: drop one of them")
        if metric_items is not None and not of_pycocotools:
            raise _refusal('metric_items has no effect on proposal_fast: drop it')
        self._name_of = _names(nums) if of_pycocotools else {}
        self.mmdet_items = None if metric_items is None else [self._mmdet_item(item) for item in metric_items]

    def named(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Rename mmdet's scores to state the limits used; leave out scores not asked for or without their threshold."""
        left_out = {item for item, iou in _AT_IOU.items() if iou not in self.iou_thrs}
        if self.mmdet_items is not None:
            left_out |= set(_OF_AP) - set(self.mmdet_items)
        named = {}
        for key, score in scores.items():
            kind, separator, item = key.partition('_') if key.startswith(('bbox_', 'segm_')) else ('', '', key)
            if item not in left_out:
                named[f'{kind}{separator}{self._name_of.get(item, item)}'] = score
        return named

    def _mmdet_item(self, item: str) -> str:
        mmdet_of = {name: item for item, name in self._name_of.items()}
        if item not in mmdet_of:
            raise _refusal(f'metric_items holds {item!r}: choose from {", ".join(mmdet_of)}')
        if item in _AT_IOU and _AT_IOU[item] not in self.iou_thrs:
            raise _refusal(f'metric_items holds {item!r}, and iou_thrs lacks {_AT_IOU[item]}: add it there')
        return mmdet_of[item]


def _ious(given: float | Sequence[float]) -> np.ndarray:
    try:
        ious = np.atleast_1d(np.asarray(given, float))
    except (TypeError, ValueError):
        ious = np.zeros(0)
    if ious.ndim != 1 or not len(ious) or not ((ious > 0) & (ious <= 1)).all():
        raise _refusal(f'iou_thrs is {given!r}: a number within (0, 1] or a list of them is needed')
    return ious


def _names(nums: Sequence[int]) -> dict[str, str]:
    """The names of mmdet's items, which state COCO's limits, with the limits ``nums``."""
    first, second, third = nums
    recalls = {'AR@100': f'AR@{first}', 'AR@300': f'AR@{second}', 'AR@1000': f'AR@{third}'}
    of_sizes = {f'AR_{size}@1000': f'AR_{size}@{third}' for size in 'sml'}
    return {item: item for item in _OF_AP} | recalls | of_sizes


def _refusal(problem: str) -> UserError:
    return UserError(f'InstanceMetric: {problem}')
