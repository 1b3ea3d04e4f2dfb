"""Image files."""

from collections.abc import Sequence

import cv2
import numpy as np

from mmpanoptic.utils import DatasetError


def encode_png(image: np.ndarray, params: Sequence[int] = ()) -> bytes:
    """The bytes of a PNG; OpenCV's own writing of files says nothing of a full disk.

    Args:
        image: RGB of shape (H, W, 3), or grey of shape (H, W), uint8.
        params: Pairs of OpenCV's ``IMWRITE_*`` and values.
    """
    return cv2.imencode('.png', image[..., ::-1] if image.ndim == 3 else image, params)[1].tobytes()


def check_complete(data: bytes, name: str) -> None:
    """Refuse a JPEG or PNG that ends too early; decoders fill the missing rows with grey or black.

    Raises:
        DatasetError: If the bytes are a JPEG or PNG without its end.
    """
    if data.startswith(b'\x89PNG'):
        complete = data.rfind(b'IEND') > 0
    elif data.startswith(b'\xff\xd8'):
        # An EXIF thumbnail has an end marker too: the last scan must be followed by one.
        complete = data.rfind(b'\xff\xd9') > data.rfind(b'\xff\xda')
    else:
        complete = len(data) > 0
    if not complete:
        raise DatasetError(f'{name} is truncated ({len(data)} bytes, no end marker): fetch or write it again')
