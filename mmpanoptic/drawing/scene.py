"""Draw a panoptic map or instances, predicted or annotated, over their image."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import draw

ALPHA = 0.55  # opacity of the colours over the image
MIN_SIDE = 360  # pixels; images with a shorter side are enlarged before drawing


def segment_texts(segment: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """What to write on a segment, the fullest version first: class name with a number or the mark of a crowd.

    Args:
        segment: ``label``, perhaps ``iscrowd``, and perhaps a number: the text ``number``, or ``score``, which gets two
            decimals.
        classes: Class names by label.
    """
    name = classes[segment['label']]
    if segment.get('iscrowd'):
        return [f'{name} (crowd)']
    number, score = segment.get('number'), segment.get('score')
    if number is None and score is not None:
        number = f'{float(score):.2f}'
    return [name] if number is None else [f'{name} {number}', name]


def draw_map(
    canvas: np.ndarray,
    factor: int,
    ids: np.ndarray,
    segments: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    palette: Sequence,
    alpha: float = ALPHA,
) -> np.ndarray:
    """Draw a map of segment ids, with names on segments that have room for them.

    Args:
        canvas: The image, uint8 RGB of shape (factor * H, factor * W, 3).
        factor: Factor by which the image was enlarged.
        ids: The map, of shape (H, W). Ids that no segment has are void.
        segments: Its segments, with ``id``, ``label`` and the values that :func:`segment_texts` takes.
        classes: Class names by label.
        palette: RGB colours by label.
        alpha: Opacity of the colours.

    Returns:
        A new picture.
    """
    segments = [{**segment, 'texts': segment_texts(segment, classes)} for segment in segments]
    colors = draw.segment_colors([segment['label'] for segment in segments], palette)
    indices = draw.segment_indices(ids, segments)
    indices = indices.repeat(factor, axis=0).repeat(factor, axis=1)
    return draw.draw_labels(draw.overlay(canvas, indices, colors, alpha), indices, segments, colors)


def draw_found(
    canvas: np.ndarray,
    factor: int,
    boxes: np.ndarray | None,
    masks: np.ndarray | None,
    labels: Sequence[int],
    scores: Sequence[float | None],
    classes: Sequence[str],
    palette: Sequence,
    alpha: float = ALPHA,
) -> np.ndarray:
    """Draw instances, the first one on top.

    Args:
        canvas, factor, classes, palette, alpha: See :func:`draw_map`.
        boxes: Left, top, right and bottom in pixels of the image, of shape (n, 4), or None.
        masks: bool of shape (n, H, W), or None.
        labels: Contiguous labels of the n instances.
        scores: Scores of the instances, or None.

    Returns:
        A new picture; the canvas if there are neither boxes nor masks.
    """
    if boxes is None and masks is None:
        return canvas
    texts = [
        segment_texts({'label': label, 'score': score}, classes)[0] for label, score in zip(labels, scores, strict=True)
    ]
    boxes = None if boxes is None else boxes * factor
    masks = None if masks is None else masks.repeat(factor, axis=1).repeat(factor, axis=2)
    return draw.draw_instances(canvas, boxes, masks, draw.segment_colors(labels, palette), texts, alpha)
