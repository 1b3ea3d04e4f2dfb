"""Images that are the same but for their size and compression, found by what they look like."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

_SIDE = 16  # of the thumbnail that settles a case
_FLAT = 2.0  # grey levels; below this standard deviation, an image has no structure to compare


class Fingerprint(NamedTuple):
    """What an image looks like.

    Attributes:
        bits: Whether each of 8x8 cells is darker than its neighbour to the right, 64 bits (a "difference hash",
            https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html).
        thumbnail: Grey levels, float32 of shape (256,), less their mean and of length 1.
    """

    bits: int
    thumbnail: np.ndarray


def fingerprint(image: np.ndarray) -> Fingerprint | None:
    """The fingerprint of an image, uint8 of shape (H, W, 3); None of one that is all but flat."""
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2GRAY)
    cells = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    thumbnail = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    if thumbnail.std() < _FLAT:
        return None
    thumbnail -= thumbnail.mean()
    bits = int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), 'big')
    return Fingerprint(bits, thumbnail / np.linalg.norm(thumbnail))


def near_duplicates(
    ones: Sequence[Fingerprint | None],
    others: Sequence[Fingerprint | None],
    max_bits: int = 16,
    min_correlation: float = 0.96,
) -> list[tuple[int, int]]:
    """Pairs of images that look the same, one from each list.

    Args:
        ones: Fingerprints of the first list.
        others: Those of the second.
        max_bits: Bits that may differ; few, so that thumbnails are compared for few pairs.
        min_correlation: What the thumbnails must have: the bits alone would call dark images with bright spots equal.

    Returns:
        Places in the two lists, in order.
    """
    kept = [place for place, one in enumerate(ones) if one is not None]
    if not kept:
        return []
    bits = np.array([ones[place].bits for place in kept], np.uint64)
    thumbnails = np.stack([ones[place].thumbnail for place in kept])
    found = []
    for place, other in enumerate(others):
        if other is None:
            continue
        near = np.flatnonzero(np.bitwise_count(bits ^ np.uint64(other.bits)) <= max_bits)
        alike = near[thumbnails[near] @ other.thumbnail >= min_correlation]
        found += [(kept[k], place) for k in alike.tolist()]
    return sorted(found)
