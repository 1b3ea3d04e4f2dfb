"""Segment ids of COCO's panoptic format: 24 bits, the colour of the PNG's pixels (R + 256 G + 65536 B), 0 is void.

Format: https://cocodataset.org/#format-data (4. Panoptic Segmentation).
"""

import numpy as np

INSTANCE_OFFSET = 1000  # same value as in mmdet, whose import takes seconds
VOID_ID = 0
MAX_ID = 2**24 - 1


def id_to_rgb(ids: np.ndarray) -> np.ndarray:
    """Convert segment ids of shape (H, W) to the colours of a panoptic PNG, uint8 of shape (H, W, 3).

    Raises:
        ValueError: If an id has more than 24 bits or is negative.
    """
    ids = np.asarray(ids)
    if ids.size and not 0 <= ids.min() <= ids.max() <= MAX_ID:
        raise ValueError(f'segment ids from {ids.min()} to {ids.max()}: a PNG has room for 0 to {MAX_ID}')
    return np.stack([ids & 255, (ids >> 8) & 255, (ids >> 16) & 255], axis=-1).astype(np.uint8)
