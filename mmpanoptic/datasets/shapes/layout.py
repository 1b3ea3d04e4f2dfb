"""Positions of things in a scene and their order in depth."""

from dataclasses import dataclass

import numpy as np

from mmpanoptic.datasets.shapes.silhouettes import OUTSIDE, draw_silhouette
from mmpanoptic.datasets.shapes.textures import Rng, between, chance, two_colours

#: Heights near the viewer in thousandths of the image's height, and frequencies of the classes in percent.
_HEIGHT = {'person': 500, 'car': 270, 'tree': 520, 'sign': 400, 'ball': 250, 'box': 250}
_OFTEN = {'person': 28, 'car': 24, 'tree': 18, 'sign': 18, 'ball': 6, 'box': 6}
_FAR = 250  # size at the horizon, in thousandths of the size near the viewer
_SMALLEST_WITH_TIE = 40  # height of a person in pixels
#: Two classes whose order in depth is by size. The smaller of two such things lies in front.
EITHER_IN_FRONT = frozenset({'ball', 'box'})


@dataclass(eq=False)
class Thing:
    """One thing before it is painted.

    Attributes:
        name: Class of the thing.
        codes: Silhouette, uint8 of shape (h, w), see ``draw_silhouette``.
        top: Row in the image of the silhouette's first row; may be outside of the image.
        left: Column in the image of the silhouette's first column; may be outside of the image.
        colours: Colours of fill and detail.
        lies_on: The larger thing on which it always lies (a tie's person), or None.
    """

    name: str
    codes: np.ndarray
    top: int
    left: int
    colours: tuple[np.ndarray, np.ndarray]
    lies_on: 'Thing | None' = None

    def clip(self, size: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
        """Rows and columns of an image of this size (H, W) that the silhouette covers, and its part there."""
        rows = slice(max(0, self.top), max(0, min(size[0], self.top + self.codes.shape[0])))
        columns = slice(max(0, self.left), max(0, min(size[1], self.left + self.codes.shape[1])))
        part = self.codes[
            rows.start - self.top : max(0, rows.stop - self.top),
            columns.start - self.left : max(0, columns.stop - self.left),
        ]
        return (rows, columns), part

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """Whole silhouette, hidden parts included, clipped to the image: bool of shape (H, W)."""
        mask = np.zeros(size, bool)
        where, codes = self.clip(size)
        mask[where] = codes != OUTSIDE
        return mask


def _thing(rng: Rng, name: str, height: int, x: int, bottom: int) -> Thing:
    rim = 1 + (height >= 36) + (name in EITHER_IN_FRONT and height >= 18)
    codes = draw_silhouette(rng, name, height, rim)
    return Thing(name, codes, bottom - height, x - codes.shape[1] // 2, two_colours(rng))


def _tie_on(rng: Rng, person: Thing) -> Thing:
    height, width = person.codes.shape
    codes = draw_silhouette(rng, 'tie', height * between(rng, 29, 34) // 100)
    colours = two_colours(rng, apart_from=person.colours[0])
    left = person.left + (width - codes.shape[1]) // 2
    return Thing('tie', codes, person.top + height * 22 // 100, left, colours, lies_on=person)


def _draw_name(rng: Rng) -> str:
    ticket = between(rng, 1, sum(_OFTEN.values()))
    for name, often in _OFTEN.items():
        ticket -= often
        if ticket <= 0:
            return name
    raise AssertionError('unreachable')


def _height(rng: Rng, name: str, depth: int, image_height: int) -> int:
    near = _HEIGHT[name] * image_height // 1000
    return max(8, near * (_FAR + (1000 - _FAR) * depth // 1000) * between(rng, 88, 108) // 100_000)


def _pair(rng: Rng, x: int, bottom: int, depth: int, image_height: int) -> list[Thing]:
    """A ball and a box, the smaller in front of a side of the larger."""
    large, small = ('ball', 'box') if chance(rng, 50) else ('box', 'ball')
    height = max(18, _height(rng, large, min(1000, depth + 150), image_height))
    small_height = max(9, height * between(rng, 45, 70) // 100)
    shift = height * between(rng, 25, 55) // 100 * (1 if chance(rng, 50) else -1)
    rise = height * between(rng, -15, 35) // 100
    return [
        _thing(rng, large, height, x, bottom),
        _thing(rng, small, small_height, x + shift, bottom - rise),
    ]


def place_things(rng: Rng, size: tuple[int, int], horizon: int) -> list[Thing]:
    """Place things in clusters, so that they hide each other.

    Args:
        rng: Random generator.
        size: Height and width of the image.
        horizon: Row above which no thing stands; things shrink towards it.

    Returns:
        Things from back to front. Balls and boxes are ordered by size among themselves, the smallest in front; other
        things by the row of their bottom. A tie follows its person.
    """
    height, width = size
    standing: list[tuple[int, Thing]] = []
    clusters = between(rng, 2, 3)
    start = between(rng, 0, width)
    for k in range(clusters):
        x = (start + k * width // clusters + between(rng, -width // 12, width // 12)) % width
        depth = between(rng, 0, 1000)
        for _ in range(between(rng, 2, 4)):
            here = min(1000, max(0, depth + between(rng, -180, 180)))
            bottom = horizon + (height - horizon) * here // 1000 + between(rng, 2, height // 24)
            name = _draw_name(rng)
            new = _thing(rng, name, _height(rng, name, here, height), x, bottom)
            standing.append((bottom, new))
            step = new.codes.shape[1] * between(rng, 20, 60) // 100 + 2
            x += step if chance(rng, 65) else -step
    if chance(rng, 55):
        depth = between(rng, 0, 1000)
        bottom = horizon + (height - horizon) * depth // 1000 + height // 24
        standing += [(bottom, thing) for thing in _pair(rng, between(rng, 0, width), bottom, depth, height)]

    standing.sort(key=lambda item: item[0])  # a stable sort
    things = [thing for _, thing in standing]
    places = [k for k, thing in enumerate(things) if thing.name in EITHER_IN_FRONT]
    by_size = sorted((things[k] for k in places), key=lambda thing: -np.count_nonzero(thing.codes))
    for k, thing in zip(places, by_size, strict=True):
        things[k] = thing

    with_ties = []
    for thing in things:
        with_ties.append(thing)
        if thing.name == 'person' and thing.codes.shape[0] >= _SMALLEST_WITH_TIE and chance(rng, 75):
            with_ties.append(_tie_on(rng, thing))
    return with_ties


def place_crowd(rng: Rng, size: tuple[int, int], horizon: int) -> list[Thing]:
    """A crowd of one class, with members too small to be separated."""
    name = ('person', 'person', 'car', 'ball')[between(rng, 0, 3)]
    unit = {'person': 12, 'car': 7, 'ball': 7}[name]
    x, bottom = between(rng, 0, size[1]), horizon + between(rng, unit // 2, unit)
    clump = []
    for _ in range(between(rng, 8, 14)):
        clump.append(_thing(rng, name, unit + between(rng, -1, 2), x, bottom + between(rng, -unit // 3, unit // 3)))
        x += between(rng, unit // 4, unit * 3 // 4)
    return clump
