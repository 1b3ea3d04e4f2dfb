"""Image files: the size in the header, completeness, and decoding.

A few bytes can claim an image of many gigabytes, and a decoder allocates memory for it. Therefore Pillow reads the size
from the header, and the size is compared with the limit and with the JSON before anything is decoded.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from mmpanoptic.utils import DatasetError, UserError

MAX_PIXELS = 2**27
# Formats that OpenCV decodes to the size that Pillow reads. JPEG 2000 is none: it states its size twice.
FORMATS = ('AVIF', 'BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
_LOSSY = ('AVIF', 'JPEG', 'WEBP')  # formats that can change pixels
_ORIENTATION, _TURNED = 0x0112, {5, 6, 7, 8}  # EXIF's tag, and its values for turns by 90 or 270 degrees
# An entry of EXIF with that tag and one 16-bit number, in both byte orders.
_ENTRY = re.compile(rb'\x12\x01\x03\x00\x01\x00\x00\x00(.)\x00|\x01\x12\x00\x03\x00\x00\x00\x01\x00(.)', re.DOTALL)
_WIDTH, _HEIGHT = 256, 257  # tags of a TIFF
_PNG = b'\x89PNG'
_VARIABLE = 'MMPANOPTIC_MAX_PIXELS'
_LARGEST = 2**30  # OpenCV's own limit


def set_max_pixels(pixels: int) -> None:
    """Set the largest number of pixels of images, label maps and panoptic PNGs, in this process and those it starts.

    The limit is kept in the environment variable ``MMPANOPTIC_MAX_PIXELS``, where workers find it however they are
    started. If Pillow's own limit, ``PIL.Image.MAX_IMAGE_PIXELS``, is lower, it is raised to the same number.

    Raises:
        UserError: If it is not 1 to 2**30. OpenCV decodes no larger image.
    """
    os.environ[_VARIABLE] = str(pixels)
    max_pixels()


def max_pixels() -> int:
    """The limit from :func:`set_max_pixels` or the environment; 2**27 by default.

    Raises:
        UserError: If it is no number from 1 to 2**30.
    """
    text = os.environ.get(_VARIABLE)
    if text is None:
        return MAX_PIXELS
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= _LARGEST):
        raise UserError(f'max_pixels ({_VARIABLE}) is {text}: give a number of pixels from 1 to {_LARGEST}')
    return int(text)


def check_pixels(height: int, width: int, name: str) -> None:
    """Refuse an image that has no pixels, or more than are allowed.

    Raises:
        DatasetError: Naming the size and the limit.
    """
    if min(height, width) < 1:
        raise DatasetError(f'{name} is {height}x{width} (height x width): an image needs at least one pixel')
    if height * width > max_pixels():
        raise _too_large(name, f'to be {height}x{width} (height x width)')


def _too_large(name: str, claim: str) -> DatasetError:
    return DatasetError(
        f'{name} claims {claim}, and {max_pixels()} pixels are allowed: fetch or write it again or, if it is right, '
        'set max_pixels',
        argument='max_pixels',
    )


def image_size(file: bytes | str | Path, name: str | None = None) -> tuple[int, int]:
    """Height and width in an image's header. EXIF's orientation is not applied, and nothing is decoded.

    Args:
        file: The contents, or a local path.
        name: What to call the image in an error; by default the path.

    Raises:
        DatasetError: If it is no image of :data:`FORMATS`, holds several, or claims more pixels than are allowed.
    """
    name = name or str(file)
    with decoding(name), _open(file) as image:
        width, height = _stored_size(image)
        # A camera's JPEG may hold previews after the image itself.
        pages = 1 if image.format in ('JPEG', 'MPO') else getattr(image, 'n_frames', 1)
    if pages > 1:
        raise DatasetError(f'{name} holds {pages} images, of which only the first would be read: write a file for each')
    check_pixels(height, width, name)
    return height, width


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of what a file stores; Pillow's size of a TIFF is the one after it is turned."""
    return (image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]) if isinstance(image, TiffImageFile) else image.size


def loaded_size(path: str | Path) -> tuple[int, int]:
    """Height and width of an image file as training loads it, turned where OpenCV turns it.

    OpenCV looks for an orientation in JPEG, PNG and TIFF, but not in every place that may hold one. So an image that
    may have an orientation is decoded; no other image is.

    Raises:
        DatasetError: See :func:`image_size`, or if the image has to be decoded and cannot be.
    """
    data = _read(path)
    size = image_size(data, str(path))
    return decode_image(data, str(path)).shape[:2] if _may_be_turned(data) else size


def _may_be_turned(data: bytes) -> bool:
    """Whether something in an image may say that height and width are to change places."""
    if data.startswith(_PNG):  # in which Pillow looks behind the pixels, too, and decodes these
        return b'eXIf' in data
    try:
        with _open(data) as image:
            if image.format == 'TIFF':
                return image.getexif().get(_ORIENTATION) in _TURNED
            segments = getattr(image, 'applist', ())  # of a JPEG; OpenCV takes others for EXIF than Pillow does
            exif = b''.join(content for name, content in segments if name == 'APP1') or image.info.get('exif', b'')
    except Exception:  # the decoder will tell
        return True
    if not any(_ORIENTATION.to_bytes(2, order) in exif for order in ('big', 'little')):
        return False
    # A well-formed entry decides. Readers differ on others, so an image with one is decoded.
    found = [value for pair in _ENTRY.findall(exif) for value in b''.join(pair)]
    return not found or not _TURNED.isdisjoint(found)


def is_tiff(data: bytes) -> bool:
    """Whether the contents of a file are a TIFF."""
    return data.startswith((b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'))


def decode_image(data: bytes, name: str) -> np.ndarray:
    """An image as it is loaded for training.

    Args:
        data: The contents of its file.
        name: What to call it in an error.

    Returns:
        BGR, uint8 of shape (H, W, 3).

    Raises:
        DatasetError: See :func:`image_size`, or if it cannot be decoded.
    """
    image_size(data, name)
    with decoding(name):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError(f'{name} cannot be decoded as an image: {remedy_of(data)}')
    return image


def check_size(size: tuple[int, int], expected: tuple[int, int], name: str, of: str) -> None:
    """Refuse an image or a map whose size is not the expected one; both are (height, width).

    Args:
        size: Its size.
        expected: The size that it must have.
        name: What to call it in an error.
        of: What has the expected size, for the error.

    Raises:
        DatasetError: Naming both sizes.
    """
    if size != expected:
        raise DatasetError(
            f'{name} is {size[0]}x{size[1]} (height x width), {of} {expected[0]}x{expected[1]}: wrong file or wrong '
            'size'
        )


def load_label_map(path: Path, expected: tuple[int, int], of: str) -> np.ndarray:
    """Load a label map without conversion: values, or indices of a palette.

    Args:
        path: The file.
        expected: Height and width that the map must have.
        of: What has this size, for the error.

    Returns:
        Array of shape (H, W), or (H, W, C) from a file of several channels.

    Raises:
        DatasetError: If it is no image of that size, of a format that changes values, or cannot be decoded.
    """
    data = _read(path)  # of a path, Pillow maps a turned TIFF into memory as if it were stored turned
    image_size(data, str(path))
    with decoding(str(path)), _open(data) as image:
        check_size(image.size[::-1], expected, str(path), of)  # what it has after Pillow has turned it
        kind = 'JPEG' if image.info.get('compression') == 'jpeg' else image.format
        if kind in _LOSSY:
            raise DatasetError(f'{path} is compressed as {kind}, which changes labels: write PNG, TIFF or npy')
        return np.array(image)


@contextlib.contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn any error of a decoder into one line that names the file.

    Raises:
        DatasetError: If anything is raised inside.
    """
    try:
        yield
    except UserError:
        raise
    except (
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:  # Pillow's message has its own limit
        pixels = re.search(r'(\d+) pixels', str(error))
        raise _too_large(name, f'to have {pixels[1]} pixels' if pixels else 'to be larger') from None
    except Exception as error:  # unchecked bytes can make a decoder raise anything
        text = str(error).strip().partition('\n')[0]
        reason = '' if isinstance(error, Image.UnidentifiedImageError) or not text else f' ({text})'
        raise DatasetError(f'{name} cannot be decoded as an image: fetch or write it again{reason}') from None


def _read(path: str | Path) -> bytes:
    """The contents of an image file."""
    with decoding(str(path)):
        return Path(path).read_bytes()


def _open(file: bytes | str | Path) -> Image.Image:
    """Open a file with Pillow, which reads only the header."""
    limit = max_pixels()
    if Image.MAX_IMAGE_PIXELS is not None and limit > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit
    return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS)


def remedy_of(data: bytes) -> str:
    """How to mend a file that OpenCV does not decode."""
    with contextlib.suppress(Exception), _open(data) as image:
        if image.mode in ('F', 'I'):
            return 'it has 32 bits a channel, write it with 8 or 16'
    return 'fetch or write it again'


def check_complete(data: bytes, name: str) -> None:
    """Refuse a JPEG or PNG that ends too early. Decoders would fill the missing rows with grey or black.

    Raises:
        DatasetError: If the bytes are a JPEG or PNG without its end marker.
    """
    if data.startswith(_PNG):
        complete = data.rfind(b'IEND') > 0
    elif data.startswith(b'\xff\xd8'):
        # An EXIF thumbnail has an end marker too: the last scan must be followed by one.
        complete = data.rfind(b'\xff\xd9') > data.rfind(b'\xff\xda')
    else:
        complete = len(data) > 0
    if not complete:
        raise DatasetError(f'{name} is truncated ({len(data)} bytes, no end marker): fetch or write it again')
