"""The bytes of picture files."""

from collections.abc import Sequence

import cv2
import numpy as np


def encode_png(image: np.ndarray, params: Sequence[int] = ()) -> bytes:
    """The bytes of a PNG; OpenCV's own writing of files says nothing of a full disk.

    Args:
        image: RGB of shape (H, W, 3), or grey of shape (H, W), uint8.
        params: Pairs of OpenCV's ``IMWRITE_*`` and values.
    """
    return cv2.imencode('.png', image[..., ::-1] if image.ndim == 3 else image, params)[1].tobytes()


def encode_jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    """The bytes of a JPEG of an RGB image, uint8 of shape (H, W, 3); see :func:`encode_png`."""
    return cv2.imencode('.jpg', image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes()
