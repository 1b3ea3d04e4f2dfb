"""Encode pictures as bytes of files."""

from collections.abc import Sequence

import cv2
import numpy as np


def encode_png(image: np.ndarray, params: Sequence[int] = ()) -> bytes:
    """The bytes of a PNG. Files are not written by ``cv2.imwrite``, which does not report a full disk.

    Args:
        image: RGB of shape (H, W, 3), or grey of shape (H, W), uint8.
        params: OpenCV's ``IMWRITE_*`` flags and their values in turns.
    """
    return cv2.imencode('.png', image[..., ::-1] if image.ndim == 3 else image, params)[1].tobytes()


def encode_jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    """The bytes of a JPEG of an RGB image, uint8 of shape (H, W, 3); see :func:`encode_png`."""
    return cv2.imencode('.jpg', image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes()
