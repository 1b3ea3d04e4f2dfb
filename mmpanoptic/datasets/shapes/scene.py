"""Rendering of a street scene: image, segments, and masks that overlap."""

from dataclasses import dataclass

import cv2
import numpy as np

from mmpanoptic.datasets.shapes.categories import CATEGORIES, LABELS
from mmpanoptic.datasets.shapes.layout import EITHER_IN_FRONT, Thing, place_crowd, place_things
from mmpanoptic.datasets.shapes.silhouettes import DETAIL, OUTLINE
from mmpanoptic.datasets.shapes.textures import Rng, between, chance, curve, luminance, paint_texture, two_colours

_VOID = -1
_LEAST_STUFF = 64  # pixels; smaller shreds of stuff become void
_LEAST_THING = 24  # visible pixels and
_LEAST_SHARE = 20  # visible percent of a thing that stays in the scene


@dataclass
class Segment:
    """One segment of a scene.

    Attributes:
        label: Position in ``CATEGORIES``.
        iscrowd: 1 for a crowd region, else 0.
        visible: bool of shape (H, W), what the panoptic map shows; the visible masks of a scene are disjoint.
        overlapping: bool of shape (H, W), the mask that an annotator of instances draws: visible pixels, and pixels
            that are covered by a thing lying on it (a tie on its person) or by the other one of a ball and a box.
            Equal to ``visible`` for stuff and crowds.
        whole: bool of shape (H, W), the thing with its hidden parts, clipped to the image. Equal to ``visible`` for
            stuff and crowds.
    """

    label: int
    iscrowd: int
    visible: np.ndarray
    overlapping: np.ndarray
    whole: np.ndarray


@dataclass
class Scene:
    """A picture, uint8 RGB of shape (H, W, 3), and its segments: stuff, crowds, then things from back to front."""

    image: np.ndarray
    segments: list[Segment]


def _split_band(rng: Rng, size: tuple[int, int], names: tuple[str, str]) -> np.ndarray:
    """Label map of one of two classes, or of both, side by side with a curved border."""
    first, second = (LABELS[name] for name in (names if chance(rng, 50) else names[::-1]))
    if not chance(rng, 40):
        return np.full(size, first)
    border = between(rng, size[1] // 4, size[1] * 3 // 4) + curve(rng, size[0], size[1] // 5, 4)
    return np.where(np.arange(size[1]) < border[:, None], first, second)


def _stuff(rng: Rng, size: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Label map of the stuff, from the sky down to the road, and the row where the ground begins."""
    height, width = size
    rows = np.arange(height)[:, None]
    horizon = height * between(rng, 38, 52) // 100
    skyline = horizon * between(rng, 35, 65) // 100 + curve(rng, width, height // 6, 5)
    verge = horizon + curve(rng, width, height // 24, 4)
    kerb = horizon + (height - horizon) * between(rng, 30, 65) // 100 + curve(rng, width, height // 10, 3)
    without = between(rng, 0, 9)  # 0 to 3: one of the bands is missing

    labels = _split_band(rng, size, ('building', 'hedge'))
    if without == 0:
        labels[:] = LABELS['sky']
    elif without != 1:
        labels = np.where(rows < skyline, LABELS['sky'], labels)
    ground = _split_band(rng, size, ('grass', 'pavement'))
    if without == 2:
        ground[:] = LABELS['road']
    elif without != 3:
        ground = np.where(rows >= kerb, LABELS['road'], ground)
    return np.where(rows >= verge, ground, labels), horizon


def _blob(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    """A blob that belongs to no class: bool of shape (H, W)."""
    height, width = size
    canvas = np.zeros(size, np.uint8)
    y, x = between(rng, height // 8, height * 7 // 8), between(rng, 0, width)
    for _ in range(3):
        axes = between(rng, width // 30, width // 10), between(rng, height // 30, height // 12)
        centre = x + between(rng, -axes[0], axes[0]), y + between(rng, -axes[1], axes[1])
        cv2.ellipse(canvas, centre, axes, 0, 0, 360, 1, cv2.FILLED)
    return canvas > 0


def _bonnet(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    """The bonnet of the car with the camera, which also belongs to no class: bool of shape (H, W)."""
    height, width = size
    canvas = np.zeros(size, np.uint8)
    axes = width * between(rng, 35, 55) // 100, height * between(rng, 7, 13) // 100
    cv2.ellipse(canvas, (width // 2 + between(rng, -width // 6, width // 6), height), axes, 0, 0, 360, 1, cv2.FILLED)
    return canvas > 0


def _drop_hidden(things: list[Thing], size: tuple[int, int], in_front: np.ndarray) -> list[Thing]:
    """Drop things with too few visible pixels, one by one from the front, and things that lie on dropped things."""
    kept: list[Thing] = []
    covered = in_front.copy()
    for thing in reversed(things):
        whole = thing.mask(size)
        visible = np.count_nonzero(whole & ~covered)
        if visible < _LEAST_THING or 100 * visible < _LEAST_SHARE * np.count_nonzero(whole):
            continue
        kept.append(thing)
        covered |= whole
    ids = {id(thing) for thing in kept}
    return [thing for thing in reversed(kept) if thing.lies_on is None or id(thing.lies_on) in ids]


def _paint(image: np.ndarray, thing: Thing) -> None:
    """Paint a thing; its outline is black on a light fill and white on a dark one."""
    where, codes = thing.clip(image.shape[:2])
    fill, detail = thing.colours
    outline = np.full(3, 20 if luminance(fill) >= 128 else 235)
    palette = np.zeros((4, 3), np.uint8)
    palette[1:] = fill
    palette[DETAIL] = detail
    palette[OUTLINE] = outline
    np.copyto(image[where], palette[codes], where=(codes > 0)[..., None])


def _cast_shadow(image: np.ndarray, mask: np.ndarray, onto: np.ndarray) -> None:
    """Darken pixels below and to the right of a mask (H, W), but only those of ``onto`` (H, W)."""
    rows = np.flatnonzero(mask.any(1))
    shadow = np.zeros_like(mask)
    for step in range(1, 3 + (rows[-1] - rows[0]) // 12):
        shadow[step:, step:] |= mask[:-step, :-step]
        shadow[step:] |= mask[:-step]
    shadow &= onto & ~mask
    image[shadow] //= 3


def render_scene(rng: Rng, size: tuple[int, int] = (192, 288)) -> Scene:
    """Render a street scene.

    The result depends on ``rng`` and ``size`` only: all textures are computed in integers, and nothing is drawn
    anti-aliased.

    Args:
        rng: Random generator.
        size: Height and width in pixels. Textures keep their period in pixels, things grow with the height.

    Returns:
        The scene. Things with less than a fifth visible are left out, so every segment has pixels.
    """
    stuff, horizon = _stuff(rng, size)
    image = np.zeros((*size, 3), np.uint8)
    for label in np.unique(stuff):
        where = stuff == label
        image[where] = paint_texture(rng, CATEGORIES[label]['name'], size)[where]

    blob = _blob(rng, size) if chance(rng, 40) else np.zeros(size, bool)
    image[blob] = two_colours(rng)[0]
    clump = place_crowd(rng, size, horizon) if chance(rng, 15) else []
    things = place_things(rng, size, horizon)
    bonnet = _bonnet(rng, size) if chance(rng, 25) else np.zeros(size, bool)
    things = _drop_hidden(things, size, bonnet)

    # Every pixel belongs to what was painted last: 0 is the crowd, k >= 1 is things[k - 1], _VOID is stuff or void.
    owner = np.full(size, _VOID)
    for member in clump:
        _paint(image, member)
        owner[member.mask(size)] = 0
    wholes = [thing.mask(size) for thing in things]
    for k, (thing, whole) in enumerate(zip(things, wholes, strict=True), start=1):
        if thing.name in EITHER_IN_FRONT:
            partners = [p for p in range(1, k) if things[p - 1].name in EITHER_IN_FRONT]
            _cast_shadow(image, whole, np.isin(owner, partners))
        _paint(image, thing)
        owner[whole] = k
    image[bonnet] = two_colours(rng)[0]

    taken = (owner != _VOID) | blob | bonnet
    owner[bonnet] = _VOID
    segments = [_plain_segment(label, 0, (stuff == label) & ~taken) for label in np.unique(stuff)]
    segments.append(_plain_segment(LABELS[clump[0].name] if clump else 0, 1, owner == 0))
    segments = [segment for segment in segments if np.count_nonzero(segment.visible) >= _LEAST_STUFF]
    for k, (thing, whole) in enumerate(zip(things, wholes, strict=True), start=1):
        over = [j for j, other in enumerate(things, start=1) if j == k or _is_annotated_over(other, thing)]
        segments.append(Segment(LABELS[thing.name], 0, owner == k, whole & np.isin(owner, over), whole))
    return Scene(image, segments)


def _plain_segment(label: int, iscrowd: int, mask: np.ndarray) -> Segment:
    return Segment(int(label), iscrowd, mask, mask, mask)


def _is_annotated_over(front: Thing, back: Thing) -> bool:
    """Whether the pixels of ``back`` that ``front`` hides stay in the overlapping mask of ``back``."""
    pair = {front.name, back.name}
    return front.lies_on is back or pair == EITHER_IN_FRONT
