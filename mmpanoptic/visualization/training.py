"""Pictures of the training targets of an image: semantic map, masks and boxes as they are packed."""

import itertools
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from .panoptic_visualizer import PanopticVisualizer, boxes_of, map_of, masks_of

_DASH = 8  # pixels


def fits(sample: DetDataSample, size: tuple[int, int]) -> bool:
    """Whether the annotations of a packed sample have the size of the packed image, as in training.

    Args:
        sample: The sample.
        size: Height and width of the image.
    """
    if 'gt_sem_seg' in sample:
        return map_of(sample.gt_sem_seg).shape == size
    masks = sample.gt_instances.get('masks') if 'gt_instances' in sample else None
    return masks is None or (masks.height, masks.width) == size


def draw_training(
    visualizer: PanopticVisualizer, canvas: np.ndarray, factor: int, sample: DetDataSample, void: int = 255
) -> np.ndarray:
    """Draw the semantic map and the instances as one panoptic map, with the boxes that are trained on.

    Ignored regions (crowds) are hatched and their boxes dashed. Where masks overlap, the mask whose class the semantic
    map has is on top, and the smallest one if there are several. Overlapping masks are outlined.

    Args:
        visualizer: Visualizer with the classes and their colours.
        canvas: The image, uint8 RGB of shape (factor * H, factor * W, 3).
        factor: Factor by which the image is enlarged.
        sample: Sample with any of ``gt_instances``, ``ignored_instances`` and ``gt_sem_seg``.
        void: Value of void in ``gt_sem_seg``.

    Returns:
        A new picture.
    """
    known = [sample.get(key) for key in ('ignored_instances', 'gt_instances') if len(sample.get(key, ()))]
    labels = [label for instances in known for label in instances.labels.tolist()]
    if 'gt_sem_seg' in sample:
        ids, segments = training_map(sample, void)
        labels += [segment['label'] for segment in segments[len(labels) :]]  # of those above first
        picture = visualizer.draw_map(canvas, factor, ids, segments)
    else:
        picture = visualizer.draw_instances(canvas, factor, sample.get('gt_instances', InstanceData()))
    colors, start = visualizer.colors_of(labels), 0
    for instances in known:
        own_colors, start = colors[start : start + len(instances)], start + len(instances)
        ignored = instances is sample.get('ignored_instances')
        masks, boxes = masks_of(instances), boxes_of(instances)
        if masks is not None:
            scaled = masks.repeat(factor, axis=1).repeat(factor, axis=2)
            region = np.asarray(scaled.any(axis=0))
            picture = _hatched(picture, region) if ignored else _outlined(picture, scaled, own_colors)
        if boxes is not None:
            picture = _boxed(picture, boxes * factor, own_colors, ignored)
    return picture


def training_map(sample: DetDataSample, void: int = 255) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The semantic map and the instances of a sample as one panoptic map.

    Args:
        sample: Sample with ``gt_sem_seg``, and masks of instances if there are any.
        void: Value of void in ``gt_sem_seg``.

    Returns:
        Ids, int32 of shape (H, W), void 0, and the segments with ``id``, ``label`` and ``iscrowd``. Ignored instances
        come first, then other instances, then classes. Pixels of a thing class without an instance form one segment.
    """
    semantic = map_of(sample.gt_sem_seg).astype(np.int32)
    ids = np.where(semantic == void, 0, semantic + 1)
    first = int(ids.max(initial=0)) + 1
    segments: list[dict[str, Any]] = []
    for key in ('ignored_instances', 'gt_instances'):
        instances = sample.get(key, InstanceData())
        labels = instances.labels.tolist() if len(instances) else []
        numbers = range(first + len(segments), first + len(segments) + len(labels))
        ignored = int(key == 'ignored_instances')
        segments += [dict(id=i, label=label, iscrowd=ignored) for i, label in zip(numbers, labels, strict=True)]
        masks = masks_of(instances) if labels else None
        if masks is not None:
            for k in np.argsort(-masks.sum(axis=(1, 2)), kind='stable'):
                ids[masks[k] & (semantic == labels[k])] = numbers[k]
    segments += [dict(id=int(i), label=int(i) - 1) for i in np.unique(ids) if 0 < i < first]
    return ids, segments


def _hatched(picture: np.ndarray, region: np.ndarray, step: int = 12) -> np.ndarray:
    """Hatch a region with white lines, at right angles to the lines of void."""
    rows, columns = np.ogrid[: region.shape[0], : region.shape[1]]
    picture = picture.copy()
    picture[region & ((rows - columns) % step < 2)] = 255
    return picture


def _outlined(picture: np.ndarray, masks: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Outline every mask that overlaps another mask, in the mask's colour."""
    picture = np.ascontiguousarray(picture)
    several = masks.sum(axis=0) > 1
    for mask, color in zip(masks, colors, strict=True):
        if (mask & several).any():
            contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, contours, -1, color.tolist(), 2)
    return picture


def _boxed(picture: np.ndarray, boxes: np.ndarray, colors: np.ndarray, dashed: bool) -> np.ndarray:
    picture = np.ascontiguousarray(picture)
    for box, color in zip(np.rint(boxes).astype(int).tolist(), colors.tolist(), strict=True):
        left, top, right, bottom = box[0], box[1], box[2] - 1, box[3] - 1
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        for start, end in itertools.pairwise(corners):
            _line(picture, start, end, color, dashed)
    return picture


def _line(picture: np.ndarray, start: Sequence[int], end: Sequence[int], color: Sequence[int], dashed: bool) -> None:
    if not dashed:
        cv2.line(picture, start, end, color, 1)
        return
    length = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
    for begin in range(0, length, 2 * _DASH):
        dash_start, dash_end = (
            [round(a + (b - a) * min(at, length) / max(length, 1)) for a, b in zip(start, end, strict=True)]
            for at in (begin, begin + _DASH)
        )
        cv2.line(picture, dash_start, dash_end, color, 1)
