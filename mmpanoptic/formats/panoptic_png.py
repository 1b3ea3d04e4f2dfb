"""Panoptic PNGs: a segment's id is the colour of its pixels.

Format: https://cocodataset.org/#format-data (4. Panoptic Segmentation).
"""

import struct
import zlib
from collections.abc import Sequence

import cv2
import numpy as np

try:
    from kornia_rs import io as fast_png
except ImportError:
    fast_png = None  # type: ignore[assignment]  # there is no wheel for this platform

from mmpanoptic.drawing.encode import encode_png
from mmpanoptic.results.coco import CheckedSegment
from mmpanoptic.structures import MAX_ID, id_to_rgb, rgb_to_id
from mmpanoptic.structures.panoptic_map import channels_to_id, ids_to_runs
from mmpanoptic.utils import DatasetError

from .images import check_pixels, check_size, decoding, image_size

_RGB_8_BITS = b'\x08\x02'  # bit depth and colour type in a PNG's header
_END = b'\0\0\0\0IEND\xaeB`\x82'


def decode_panoptic_png(data: bytes, name: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """Segment ids of a panoptic PNG.

    Args:
        data: The file's bytes.
        name: What to call the file in an error.
        size: Height and width that the map must have; the header is compared with it before decoding. None: any size
            within the limit (:func:`~mmpanoptic.formats.images.set_max_pixels`).

    Returns:
        Segment ids, int32 of shape (H, W).

    Raises:
        DatasetError: If the bytes are no PNG, are truncated, have another size, or are not 8-bit RGB.
    """
    if not data.startswith(b'\x89PNG\r\n\x1a\n'):
        raise DatasetError(f'{name} is not a PNG file: panoptic maps are 8-bit RGB PNGs')
    if b'IEND' not in data[-12:]:  # cv2 would decode the rows that are there and leave the rest black, which is void
        raise DatasetError(f'{name} is truncated ({len(data)} bytes, no end marker): fetch or write it again')
    claimed = _claimed_size(data, name)
    if size is not None:
        check_size(claimed, size, name, 'its image')
    rgb = _decode_fast(data, claimed)
    if rgb is not None:
        return rgb_to_id(rgb)
    with decoding(name):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DatasetError(f'{name} cannot be decoded: fetch or write it again')
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4):
        raise DatasetError(f'{name} is {image.dtype} of shape {image.shape}: panoptic maps are 8-bit RGB PNGs')
    if image.shape[2] == 4:
        return channels_to_id(image, cv2.COLOR_BGRA2RGBA)
    return channels_to_id(image, cv2.COLOR_BGR2RGBA)


def _claimed_size(data: bytes, name: str) -> tuple[int, int]:
    """Height and width in the header. Pillow reads only unusual headers and those of animations."""
    whole = data[8:16] == b'\0\0\0\rIHDR' and zlib.crc32(data[12:29]) == int.from_bytes(data[29:33], 'big')
    if not whole or b'acTL' in data[: data.find(b'IDAT')]:
        return image_size(data, name)
    width, height = struct.unpack('>II', data[16:24])
    check_pixels(height, width, name)
    return height, width


def _decode_fast(data: bytes, size: tuple[int, int]) -> np.ndarray | None:
    """Decode an 8-bit RGB PNG in a third of OpenCV's time.

    Returns:
        RGB, uint8 of shape (H, W, 3); None if this decoder cannot decode it. OpenCV then decodes it or says why not.
    """
    # Unlike OpenCV's, this decoder ignores what follows the pixels; the check of the end makes up for it.
    if fast_png is None or data[12:16] != b'IHDR' or data[24:26] != _RGB_8_BITS or not data.endswith(_END):
        return None
    try:
        return fast_png.decode_image_png_u8(data, size, 'rgb')
    except Exception:  # damaged or unsupported; the decoder raises plain Exception
        return None


def encode_panoptic_png(id_map: np.ndarray) -> bytes:
    """Encode segment ids of shape (H, W), each 0 (void) to 2**24 - 1, as a panoptic PNG.

    Raises:
        ValueError: If an id does not fit into 24 bits.
    """
    if id_map.size and (id_map.min() < 0 or id_map.max() > MAX_ID):
        raise ValueError(f'segment ids {id_map.min()} to {id_map.max()} do not fit into 24 bits')
    return encode_png(id_to_rgb(id_map))


def segment_runs(ids: np.ndarray, segments: Sequence[CheckedSegment], path: str) -> tuple[np.ndarray, np.ndarray]:
    """Index into ``segments_info`` for runs of pixels, see :func:`mmpanoptic.structures.panoptic_map.ids_to_runs`.

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
