"""The silhouettes of the thing classes, as small maps of paint codes."""

from collections.abc import Callable

import cv2
import numpy as np

from mmpanoptic.datasets.shapes.textures import Rng, between, chance

OUTSIDE, FILL, DETAIL, OUTLINE = range(4)


class _Pen:
    """Draws on a canvas in thousandths of the thing's height, x from the left and y from the top."""

    def __init__(self, height: int, aspect: int) -> None:
        self.height = height
        self.canvas = np.zeros((height, max(4, height * aspect // 1000)), np.uint8)

    def _scaled(self, value: int) -> int:
        return (value * (self.height - 1) + 500) // 1000

    def polygon(self, code: int, *points: tuple[int, int]) -> None:
        corners = np.array([[self._scaled(x), self._scaled(y)] for x, y in points], np.int32)
        cv2.fillPoly(self.canvas, [corners], code)

    def rectangle(self, code: int, x0: int, y0: int, x1: int, y1: int) -> None:
        self.polygon(code, (x0, y0), (x1, y0), (x1, y1), (x0, y1))

    def disc(self, code: int, x: int, y: int, radius: int) -> None:
        cv2.circle(self.canvas, (self._scaled(x), self._scaled(y)), max(1, self._scaled(radius)), code, cv2.FILLED)


def _person(rng: Rng, height: int) -> np.ndarray:
    """Head, torso with arms, legs in the other colour."""
    pen = _Pen(height, 440)
    stride = between(rng, 0, 50)
    pen.polygon(DETAIL, (110, 560), (220, 560), (190 - stride, 1000), (80 - stride, 1000))
    pen.polygon(DETAIL, (220, 560), (330, 560), (360 + stride, 1000), (250 + stride, 1000))
    pen.polygon(FILL, (120, 210), (320, 210), (435, 330), (425, 540), (360, 540), (335, 400))
    pen.polygon(FILL, (120, 210), (320, 210), (105, 400), (80, 540), (15, 540), (5, 330))
    pen.polygon(FILL, (110, 210), (330, 210), (340, 580), (100, 580))
    pen.disc(FILL, 220, 110, 108)
    pen.rectangle(DETAIL, 120, 20, 320, 70)  # a hat
    return pen.canvas


def _tie(rng: Rng, height: int) -> np.ndarray:
    """A knot and a blade, striped across."""
    pen = _Pen(height, 480)
    pen.polygon(FILL, (100, 0), (380, 0), (300, 220), (460, 780), (240, 1000), (20, 780), (180, 220))
    y, x = np.indices(pen.canvas.shape)
    stripe = max(2, height // 7)
    pen.canvas[(pen.canvas == FILL) & ((x + y) // stripe % 2 == 1)] = DETAIL
    return pen.canvas


def _car(rng: Rng, height: int) -> np.ndarray:
    """Body, cabin with two windows, two wheels."""
    pen = _Pen(height, 2150)
    pen.polygon(FILL, (480, 0), (1330, 0), (1680, 420), (320, 420))
    pen.polygon(FILL, (60, 400), (1980, 400), (2130, 520), (2130, 820), (10, 820), (10, 480))
    pen.polygon(DETAIL, (560, 90), (860, 90), (860, 380), (450, 380))
    pen.polygon(DETAIL, (960, 90), (1270, 90), (1510, 380), (960, 380))
    for x in (480, 1660):
        pen.disc(DETAIL, x, 790, 205)
        pen.disc(FILL, x, 790, 90)
    return pen.canvas if chance(rng, 50) else pen.canvas[:, ::-1]


def _tree(rng: Rng, height: int) -> np.ndarray:
    """A conifer: three tiers on a trunk, the hem of each tier in the other colour."""
    pen = _Pen(height, 600)
    pen.rectangle(DETAIL, 240, 780, 360, 1000)
    for top, bottom, half in ((480, 840, 295), (240, 580, 230), (0, 330, 160)):
        pen.polygon(FILL, (300, top), (300 + half, bottom), (300 - half, bottom))
        hem = (bottom - top) // 4
        inner = half * 3 // 4
        pen.polygon(
            DETAIL, (300 - inner, bottom - hem), (300 + inner, bottom - hem), (300 + half, bottom), (300 - half, bottom)
        )
    return pen.canvas


_STAR = ((0, -1000), (294, -405), (951, -309), (476, 155), (588, 809), (0, 500), (-588, 809), (-476, 155),
         (-951, -309), (-294, -405))  # fmt: skip


def _sign(rng: Rng, height: int) -> np.ndarray:
    """A star on a pole."""
    pen = _Pen(height, 580)
    pen.rectangle(DETAIL, 245, 400, 335, 1000)
    pen.polygon(FILL, *((290 + x * 290 // 1000, 295 + y * 290 // 1000) for x, y in _STAR))
    pen.disc(DETAIL, 290, 300, 95)
    return pen.canvas


def _ball(rng: Rng, height: int) -> np.ndarray:
    """A disc with rings."""
    pen = _Pen(height, 1000)
    for code, radius in ((FILL, 500), (DETAIL, 340), (FILL, 180)):
        pen.disc(code, 500, 500, radius)
    return pen.canvas


def _box(rng: Rng, height: int) -> np.ndarray:
    """A square, strapped crosswise."""
    pen = _Pen(height, 1000)
    pen.rectangle(FILL, 0, 0, 1000, 1000)
    pen.polygon(DETAIL, (0, 0), (160, 0), (1000, 840), (1000, 1000), (840, 1000), (0, 160))
    pen.polygon(DETAIL, (1000, 0), (1000, 160), (160, 1000), (0, 1000), (0, 840), (840, 0))
    return pen.canvas


SILHOUETTES: dict[str, Callable[[Rng, int], np.ndarray]] = {
    'person': _person,
    'tie': _tie,
    'car': _car,
    'tree': _tree,
    'sign': _sign,
    'ball': _ball,
    'box': _box,
}


def draw_silhouette(rng: Rng, name: str, height: int, rim: int = 1) -> np.ndarray:
    """Draw the silhouette of one thing, as codes without colours.

    Args:
        rng: Random generator, for pose and direction.
        name: A key of ``SILHOUETTES``.
        height: Height in pixels; the width follows from the class.
        rim: Width of the outline in pixels; it lies inside the silhouette.

    Returns:
        Codes ``OUTSIDE``, ``FILL``, ``DETAIL`` and ``OUTLINE``, uint8 of shape (h, w).
    """
    codes = np.pad(SILHOUETTES[name](rng, height), 1)
    inside = cv2.erode((codes > 0).astype(np.uint8), np.ones((3, 3), np.uint8), iterations=rim)
    codes[(codes > 0) & (inside == 0)] = OUTLINE
    return codes[1:-1, 1:-1]
