"""Pictures of panoptic maps and of instances: pure functions on numpy arrays, drawn by OpenCV.

Images are uint8 RGB of shape (H, W, 3). Segments are dicts with ``id`` (the value in the map), ``label`` (contiguous
class) and, for :func:`draw_labels`, ``texts`` (versions of the text to write, the longest first).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from .text import put_text, text_box, text_scale

CONTOUR_COLOR = (255, 255, 255)
HEADER_COLOR = (32, 32, 32)

# Steps of a sequence that spreads evenly over the unit cube (1/g, 1/g^2, 1/g^3 with g^4 = g + 1):
# https://extremelearning.com.au/unreasonable-effectiveness-of-quasirandom-sequences/
_SPREAD = 1.2207440846 ** -np.arange(1, 4)

MAX_SIDE = 2**14  # pixels


def upscale(image: np.ndarray, min_side: int) -> tuple[np.ndarray, int]:
    """Enlarge a small image by the smallest integer factor that brings its short side to ``min_side`` pixels.

    The factor is smaller if the long side would exceed :data:`MAX_SIDE`, as that of an image of few rows.

    Returns:
        The image, of shape (f * H, f * W, 3), and the factor f; the image itself and 1 if it is large enough.
    """
    short, long = sorted(image.shape[:2])
    factor = min(-(-min_side // max(1, short)), MAX_SIDE // max(1, long))
    if factor <= 1:
        return image, 1
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), factor


def segment_colors(labels: Sequence[int], palette: Sequence, spread: Sequence[float] = (30, 34, 34)) -> np.ndarray:
    """Colours of segments: the first one of a class has the colour of the class, each further one a similar shade.

    Args:
        labels: Contiguous labels of the N segments, in the order in which they get shades.
        palette: RGB colours by label.
        spread: Half the range of the shades in CIE Lab: lightness (0 to 100), a and b.

    Returns:
        uint8 RGB of shape (N, 3), determined by the arguments.
    """
    if not len(labels):
        return np.zeros((0, 3), np.uint8)
    seen: Counter = Counter()
    ranks = []
    for label in labels:
        ranks.append(seen[label])
        seen[label] += 1
    base = np.array([palette[label] for label in labels], np.float32).reshape(-1, 1, 3)
    offsets = ((0.5 + np.outer(ranks, _SPREAD)) % 1 - 0.5) * 2 * np.asarray(spread)
    lab = cv2.cvtColor(base / 255, cv2.COLOR_RGB2LAB)[:, 0] + offsets
    # Lightness is reflected at both ends, not clipped, so that shades of black and of white differ.
    lab[:, 0] = 100 - np.abs(100 - np.abs(lab[:, 0]))
    rgb = cv2.cvtColor(lab.astype(np.float32)[:, None], cv2.COLOR_LAB2RGB)[:, 0]
    shades = np.rint(rgb.clip(0, 1) * 255).astype(np.uint8)
    first = np.array(ranks) == 0  # exact colours: conversion to Lab and back rounds
    shades[first] = base[first, 0].astype(np.uint8)
    return shades


def segment_indices(id_map: np.ndarray, segments: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Replace the ids in a map by positions of segments.

    Returns:
        uint16 of shape (H, W): i + 1 where ``id_map == segments[i]['id']``, 0 elsewhere (void).
    """
    ids = [segment['id'] for segment in segments]
    table = np.zeros(max([int(id_map.max(initial=0)), *ids]) + 1, np.uint16)
    table[ids] = np.arange(1, len(ids) + 1)
    return table[id_map]


def _borders(indices: np.ndarray) -> np.ndarray:
    """Pixels, uint8 of shape (H, W), whose neighbour to the right or below belongs to another segment."""
    borders = np.zeros(indices.shape, np.uint8)
    borders[:, :-1] = indices[:, 1:] != indices[:, :-1]
    borders[:-1] |= indices[1:] != indices[:-1]
    return borders


def _draw_contours(picture: np.ndarray, borders: np.ndarray) -> None:
    width = _line_width(picture.shape)
    if width > 1:
        borders = cv2.dilate(borders, np.ones((width, width), np.uint8))
    picture[borders.view(bool)] = CONTOUR_COLOR


def _line_width(shape: Sequence[int], pixels_per_width: int = 600) -> int:
    return max(1, round(min(shape[:2]) / pixels_per_width))


def overlay(
    image: np.ndarray, indices: np.ndarray, colors: np.ndarray, alpha: float = 0.55, hatch_step: int = 12
) -> np.ndarray:
    """Draw segments over an image, each in its colour with a thin contour; void becomes grey and hatched.

    Args:
        image: The image, uint8 RGB of shape (H, W, 3).
        indices: Map of shape (H, W) from :func:`segment_indices`.
        colors: uint8 RGB of the N segments, of shape (N, 3).
        alpha: Opacity of the colours.
        hatch_step: Distance between the hatching's lines in pixels, measured along a row.

    Raises:
        ValueError: If image and map differ in size.
    """
    if image.shape[:2] != indices.shape:
        raise ValueError(f'the image is {image.shape[:2]}, the panoptic map {indices.shape} (height, width)')
    table = np.concatenate([np.zeros((1, 3), np.uint8), colors])
    picture = cv2.addWeighted(image, 1 - alpha, table[indices], alpha, 0)
    width = _line_width(image.shape)

    void = indices == 0
    if void.any():
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) // 2
        rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
        grey[(rows + columns) % (hatch_step * width) < width] = 140
        picture[void] = grey[void][:, None]

    _draw_contours(picture, _borders(indices))
    return picture


def draw_instances(
    picture: np.ndarray,
    boxes: np.ndarray | None,
    masks: np.ndarray | None,
    colors: np.ndarray,
    texts: Sequence[str],
    alpha: float = 0.55,
) -> np.ndarray:
    """Draw instances with masks, contours, boxes and texts, the first instance on top.

    Args:
        picture: uint8 RGB of shape (H, W, 3).
        boxes: Left, top, right and bottom in pixels, of shape (n, 4); None: texts are placed at the masks.
        masks: bool of shape (n, H, W); None: only boxes are drawn.
        colors: uint8 RGB of the n instances, of shape (n, 3), for masks, boxes and the background of texts.
        texts: Text of each instance, written above its box or, at the upper edge of the picture, inside of it.
        alpha: Opacity of the masks.

    Returns:
        A new picture.

    Raises:
        ValueError: If there are neither boxes nor masks.
    """
    picture = picture.copy()
    width, scale = _line_width(picture.shape), text_scale(picture.shape)
    from_behind = range(len(texts) - 1, -1, -1)
    if masks is not None:
        borders = np.zeros(picture.shape[:2], np.uint8)
        for i in from_behind:
            picture[masks[i]] = np.rint((1 - alpha) * picture[masks[i]] + alpha * colors[i])
            borders |= _borders(masks[i])
        _draw_contours(picture, borders)
    if boxes is not None:
        corners = np.rint(boxes[:, :2]).astype(int).tolist()
        for i in from_behind:
            left, top, right, bottom = np.rint(boxes[i]).astype(int).tolist()
            cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), colors[i].tolist(), 2 * width)
    elif masks is not None:
        corners = [cv2.boundingRect(mask.view(np.uint8))[:2] for mask in masks]
    else:
        raise ValueError('instances need boxes or masks to be drawn')
    for i in from_behind:
        x, y = _place_at(corners[i], text_box(texts[i], scale)[:2], picture.shape)
        put_text(picture, texts[i], x, y, scale, colors[i].tolist())
    return picture


def _place_at(corner: Sequence[int], size: Sequence[int], shape: Sequence[int]) -> tuple[int, int]:
    """Top left corner for a text of this (width, height): above a box's corner or, without room there, below it."""
    (left, top), (width, height) = corner, size
    y = top - height if top >= height else top
    return max(0, min(left, shape[1] - width)), max(0, min(y, shape[0] - height))


def _poles(inside: np.ndarray, mask: np.ndarray, size: tuple[int, int], tries: int) -> Iterator[tuple[int, int]]:
    """Top left corners for a box of ``size`` (width, height), the best first, around the innermost points of a mask.

    Each point is outside of the boxes around the previous ones. ``mask`` is changed.
    """
    rows, columns = mask.shape
    width, height = size
    for _ in range(tries):
        _, depth, _, (x, y) = cv2.minMaxLoc(inside, mask)
        if depth <= 0:
            return
        # Near the edge of the picture, the box is moved into the picture.
        yield min(max(0, x - width // 2), columns - width), min(max(0, y - height // 2), rows - height)
        mask[max(0, y - height // 2) : y + height // 2 + 1, max(0, x - width // 2) : x + width // 2 + 1] = 0


def draw_labels(
    picture: np.ndarray,
    indices: np.ndarray,
    segments: Sequence[Mapping[str, Any]],
    colors: np.ndarray,
    max_cover: float = 0.4,
    max_cover_first: float = 1.8,
    tries: int = 4,
) -> np.ndarray:
    """Write each segment's text where the segment is widest, at the maximum of the distance to its border.

    Texts stay inside of the picture and do not cover each other. If a text would hide too much of its segment, shorter
    versions are tried, and then it is left out, so that names do not hide small instances.

    Args:
        picture: uint8 RGB of shape (H, W, 3).
        indices: Map of shape (H, W) from :func:`segment_indices`.
        segments: The N segments with their ``texts``.
        colors: uint8 RGB of the N segments, of shape (N, 3), for the background of texts.
        max_cover: Largest area of a text relative to the area of its segment.
        max_cover_first: The same until a segment of the class has a name; larger, so that most classes are named.
        tries: Places to try per text before it is left out.

    Returns:
        A new picture.
    """
    picture = picture.copy()
    rows, columns = indices.shape
    scale = text_scale(picture.shape)
    # One distance transform for all segments; the picture's edge is a border too.
    borders = _borders(indices)
    borders[1:] |= borders[:-1]
    borders[:, 1:] |= borders[:, :-1]
    inside = cv2.distanceTransform(cv2.copyMakeBorder(1 - borders, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
    inside = np.ascontiguousarray(inside[1:-1, 1:-1])

    named: set[int] = set()
    taken = np.zeros(indices.shape, bool)
    areas = np.bincount(indices.ravel(), minlength=len(segments) + 1)[1:]
    for i in np.argsort(-areas, kind='stable'):
        label = segments[i]['label']
        limit = areas[i] * (max_cover if label in named else max_cover_first)
        for text in segments[i]['texts']:
            width, height, _ = text_box(text, scale)
            if width > columns or height > rows or width * height > limit:
                continue
            places = _poles(inside, (indices == i + 1).view(np.uint8), (width, height), tries)
            free = ((x, y) for x, y in places if not taken[y : y + height, x : x + width].any())
            if place := next(free, None):
                x, y = place
                taken[y : y + height, x : x + width] = True
                named.add(label)
                put_text(picture, text, x, y, scale, colors[i].tolist())
                break
    return picture


def with_header(picture: np.ndarray, title: str) -> np.ndarray:
    """The picture with a title in a strip above it."""
    scale = 1.2 * text_scale(picture.shape)
    _, height, _ = text_box(title, scale)
    strip = np.full((height + 2, picture.shape[1], 3), HEADER_COLOR, np.uint8)
    put_text(strip, title, 0, 1, scale, HEADER_COLOR)
    return np.concatenate([strip, picture])


def side_by_side(panels: Sequence[np.ndarray], gap: int = 6) -> np.ndarray:
    """Panels of equal height in a row, with ``gap`` white pixels between them."""
    spacer = np.full((panels[0].shape[0], gap, 3), 255, np.uint8)
    row = [panels[0]]
    for panel in panels[1:]:
        row += [spacer, panel]
    return np.concatenate(row, axis=1)


def grid(panels: Sequence[np.ndarray], columns: int, gap: int = 6) -> np.ndarray:
    """Panels of equal size in rows of ``columns`` panels, with ``gap`` white pixels between them, the rest white."""
    panels = [*panels, *(np.full_like(panels[0], 255) for _ in range(-len(panels) % columns))]
    rows = [side_by_side(panels[start : start + columns], gap) for start in range(0, len(panels), columns)]
    spacer = np.full((gap, *rows[0].shape[1:]), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (spacer, row)][1:])


def titled_grid(panels: Iterable[tuple[str, np.ndarray]], columns: int) -> np.ndarray:
    """:func:`grid` of pictures with titles above them, in up to ``columns`` columns."""
    drawn = [with_header(picture, title) for title, picture in panels]
    return grid(drawn, min(columns, len(drawn)))
