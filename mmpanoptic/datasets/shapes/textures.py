"""Colours, curves and the textures of the stuff classes, computed in integers to be the same on every machine."""

from collections.abc import Callable

import numpy as np

Rng = np.random.Generator


def between(rng: Rng, low: int, high: int) -> int:
    """Uniform integer, both ends included."""
    return int(rng.integers(low, high + 1))


def chance(rng: Rng, percent: int) -> bool:
    """True in ``percent`` of 100 cases."""
    return between(rng, 1, 100) <= percent


def luminance(colour: np.ndarray) -> int:
    """Luma of an RGB colour, 0 to 255."""
    return int(colour @ np.array([77, 150, 29])) >> 8


def two_colours(rng: Rng, contrast: int = 80, apart_from: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Two random RGB colours whose lumas differ by at least ``contrast``.

    All stuff and things use such colours, so colour is independent of the class.

    Args:
        rng: Random generator.
        contrast: Smallest difference in luma.
        apart_from: A colour from which the first colour must differ by as much, or None.

    Returns:
        Two int64 arrays of shape (3,).
    """

    def differs(a: np.ndarray, b: np.ndarray | None) -> bool:
        return b is None or abs(luminance(a) - luminance(b)) >= contrast

    while not differs(first := rng.integers(0, 256, 3), apart_from):
        pass
    while not differs(second := rng.integers(0, 256, 3), first):
        pass
    return first, second


def curve(rng: Rng, length: int, spread: int, pieces: int) -> np.ndarray:
    """A smooth random line: a uniform quadratic B-spline, evaluated in integers.

    Args:
        rng: Random generator.
        length: Number of points.
        spread: The control points lie in [-spread, spread].
        pieces: Number of spline pieces.

    Returns:
        int64 array of shape (length,).
    """
    control = rng.integers(-spread, spread + 1, pieces + 2)
    n = -(-length // pieces)
    piece, t = np.divmod(np.arange(length), n)
    weights = (n - t) ** 2, n * n + 2 * n * t - 2 * t * t, t * t
    return sum(w * control[piece + k] for k, w in enumerate(weights)) // (2 * n * n)


def _triangle_wave(x: np.ndarray, period: int, height: int) -> np.ndarray:
    return abs(x % period - period // 2) * 2 * height // period


def _clouds(rng: Rng, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sparse flat ellipses in staggered rows."""
    period, rise = between(rng, 30, 36), between(rng, 15, 18)
    row, v = np.divmod(y, rise)
    u = (x + row % 2 * (period // 2)) % period
    return (u - period // 2) ** 2 + 9 * (v - rise // 2) ** 2 < (period // 3) ** 2


def _windows(rng: Rng, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A grid of upright rectangles."""
    across, down = between(rng, 10, 12), between(rng, 13, 16)
    return (x % across < across * 5 // 10) & (y % down < down * 6 // 10)


def _leaves(rng: Rng, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Irregular grain of about 4 pixels: random dots, summed over 4 x 4 windows."""
    height, width = y.shape[0], x.shape[1]
    sums = np.pad(rng.integers(0, 2, (height + 4, width + 4)).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    window = sums[4:, 4:] - sums[:-4, 4:] - sums[4:, :-4] + sums[:-4, :-4]
    return window[:height, :width] > 8


def _blades(rng: Rng, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Fine, nearly vertical zigzag stripes."""
    period = between(rng, 5, 6)
    return (x + _triangle_wave(y, between(rng, 14, 18), 5)) % period < period // 2


def _tiles(rng: Rng, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A checkerboard, rotated by 45 degrees."""
    side = between(rng, 12, 15)
    return ((x + y) // side + (x - y) // side) % 2 == 0


def _ripples(rng: Rng, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Horizontal stripes in slow waves."""
    period = between(rng, 8, 10)
    return (y + _triangle_wave(x, between(rng, 40, 56), 6)) % period < period // 2


TEXTURES: dict[str, Callable[[Rng, np.ndarray, np.ndarray], np.ndarray]] = {
    'sky': _clouds,
    'building': _windows,
    'hedge': _leaves,
    'grass': _blades,
    'pavement': _tiles,
    'road': _ripples,
}


def paint_texture(rng: Rng, name: str, size: tuple[int, int]) -> np.ndarray:
    """A whole picture of one stuff class in two random colours.

    Args:
        rng: Random generator, for colours, phase and period (within the class's range).
        name: A key of ``TEXTURES``.
        size: Height and width.

    Returns:
        uint8 RGB of shape (H, W, 3).
    """
    colours = np.array(two_colours(rng, contrast=50), np.uint8)
    shift_y, shift_x = between(rng, 0, 999), between(rng, 0, 999)
    y = np.arange(shift_y, shift_y + size[0])[:, None]
    x = np.arange(shift_x, shift_x + size[1])[None, :]
    return colours[TEXTURES[name](rng, y, x).astype(np.intp)]
