"""Panoptic PNGs: a segment's id is the colour of its pixels.

Format: https://cocodataset.org/#format-data (4. Panoptic Segmentation).
"""

import cv2
import numpy as np

from mmpanoptic.structures import MAX_ID, id_to_rgb
from mmpanoptic.structures.panoptic_map import channels_to_id, ids_to_runs
from mmpanoptic.utils import DatasetError

from .images import check_size, decoding, encode_png, image_size


def decode_panoptic_png(data: bytes, name: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """Segment ids of a panoptic PNG.

    Args:
        data: The file's bytes.
        name: What to call the file in an error.
        size: Height and width that the map must have, read from the header before it is decoded; None: any that is
            allowed (:func:`~mmpanoptic.formats.images.set_max_pixels`).

    Returns:
        Segment ids, int32 of shape (H, W).

    Raises:
        DatasetError: If the bytes are no PNG, a truncated one, of another size, or not 8-bit RGB.
    """
    if not data.startswith(b'\x89PNG\r\n\x1a\n'):
        raise DatasetError(f'{name} is not a PNG file: panoptic maps are 8-bit RGB PNGs')
    if b'IEND' not in data[-12:]:  # cv2 would return the rows it has and leave the rest black, that is: void
        raise DatasetError(f'{name} is truncated ({len(data)} bytes, no end marker): fetch or write it again')
    claimed = image_size(data, name)
    if size is not None:
        check_size(claimed, size, name, 'its image')
    with decoding(name):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DatasetError(f'{name} cannot be decoded: fetch or write it again')
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4):
        raise DatasetError(f'{name} is {image.dtype} of shape {image.shape}: panoptic maps are 8-bit RGB PNGs')
    if image.shape[2] == 4:
        return channels_to_id(image, cv2.COLOR_BGRA2RGBA)
    return channels_to_id(image, cv2.COLOR_BGR2RGBA)


def encode_panoptic_png(id_map: np.ndarray) -> bytes:
    """The bytes of the panoptic PNG of segment ids of shape (H, W), each 0 (void) to 2**24 - 1.

    Raises:
        ValueError: If an id does not fit into 24 bits.
    """
    if id_map.size and (id_map.min() < 0 or id_map.max() > MAX_ID):
        raise ValueError(f'segment ids {id_map.min()} to {id_map.max()} do not fit into 24 bits')
    return encode_png(id_to_rgb(id_map))


def segment_runs(ids: np.ndarray, segments: list[dict], path: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions in ``segments_info`` by runs of pixels, see :func:`mmpanoptic.structures.panoptic_map.ids_to_runs`.

    Raises:
        DatasetError: If an id occurs that ``segments_info`` lacks.
    """
    try:
        return ids_to_runs(ids, [segment['id'] for segment in segments])
    except KeyError as error:
        raise DatasetError(
            f'{path} holds segment id {error.args[0]} that its segments_info lacks: the PNG and the JSON are not of '
            'one release, or the PNG was edited'
        ) from None
