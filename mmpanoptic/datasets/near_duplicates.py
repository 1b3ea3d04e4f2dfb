"""Search for images that are equal except for size and compression, by their appearance."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

_SIDE = 16  # side of the thumbnail that decides
_FLAT = 2.0  # grey levels; below this standard deviation, an image has no structure to compare


class Fingerprint(NamedTuple):
    """Appearance of an image.

    Attributes:
        bits: Whether each of 8x8 cells is darker than its neighbour to the right, 64 bits (a "difference hash",
            https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html).
        thumbnail: Grey levels, float32 of shape (256,), minus their mean and normalised to length 1.
    """

    bits: int
    thumbnail: np.ndarray


def fingerprint(image: np.ndarray) -> Fingerprint | None:
    """The fingerprint of an image, uint8 of shape (H, W, 3); None if the image has almost no contrast."""
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2GRAY)
    cells = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    thumbnail = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    if thumbnail.std() < _FLAT:
        return None
    thumbnail -= thumbnail.mean()
    bits = int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), 'big')
    return Fingerprint(bits, thumbnail / np.linalg.norm(thumbnail))


def near_duplicates(
    firsts: Sequence[Fingerprint | None],
    seconds: Sequence[Fingerprint | None],
    max_bits: int = 16,
    min_correlation: float = 0.96,
) -> list[tuple[int, int]]:
    """Pairs of images that look the same, one image from each list.

    Args:
        firsts: Fingerprints of the first list.
        seconds: Fingerprints of the second list.
        max_bits: Largest number of bits that differ; small, so that few pairs of thumbnails are compared.
        min_correlation: Least correlation of the thumbnails; by bits alone, dark images with bright spots would match.

    Returns:
        Indices into the two lists, sorted.
    """
    kept = [(index, first) for index, first in enumerate(firsts) if first is not None]
    if not kept:
        return []
    bits = np.array([first.bits for _, first in kept], np.uint64)
    thumbnails = np.stack([first.thumbnail for _, first in kept])
    found = []
    for index, second in enumerate(seconds):
        if second is None:
            continue
        near = np.flatnonzero(np.bitwise_count(bits ^ np.uint64(second.bits)) <= max_bits)
        alike = near[thumbnails[near] @ second.thumbnail >= min_correlation]
        found += [(kept[k][0], index) for k in alike.tolist()]
    return sorted(found)
