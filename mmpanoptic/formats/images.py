"""Image files: what their headers claim, whether they are whole, and how they are decoded.

A few bytes can claim an image of many gigabytes, which a decoder then makes room for. Therefore the size is read from
the header, by Pillow, and compared with what is allowed and with what a JSON says before anything is decoded.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mmpanoptic.utils import DatasetError, UserError

MAX_PIXELS = 2**27
# Of what OpenCV decodes, that of which Pillow reads the size which is decoded. A JPEG 2000 states it twice.
FORMATS = ('AVIF', 'BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
_LOSSY = ('AVIF', 'JPEG', 'WEBP')  # or may be
_ORIENTATION, _TURNED = 0x0112, range(5, 9)  # of EXIF: by 90 or 270 degrees
_TURNABLE = ('JPEG', 'MPO', 'PNG')  # OpenCV looks for EXIF in no others
_VARIABLE = 'MMPANOPTIC_MAX_PIXELS'
_LARGEST = 2**30  # OpenCV's own limit


def set_max_pixels(pixels: int) -> None:
    """Let images, label maps and panoptic PNGs have at most so many pixels, in this process and those it starts.

    It is kept in the environment, as ``MMPANOPTIC_MAX_PIXELS``, where workers find it however they are started.
    Pillow's own limit, ``PIL.Image.MAX_IMAGE_PIXELS``, is raised to it where it is lower.

    Raises:
        UserError: If it is not 1 to 2**30, beyond which OpenCV decodes nothing.
    """
    os.environ[_VARIABLE] = str(pixels)
    max_pixels()


def max_pixels() -> int:
    """The limit that :func:`set_max_pixels` or the environment has set, 2**27 if none has.

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
    """Refuse an image that has no pixel or more than are allowed.

    Raises:
        DatasetError: Naming the size and the limit.
    """
    if min(height, width) < 1:
        raise DatasetError(f'{name} is {height}x{width} (height x width): an image has pixels')
    if height * width > max_pixels():
        raise _too_large(name, f'to be {height}x{width} (height x width)')


def _too_large(name: str, claim: str) -> DatasetError:
    return DatasetError(
        f'{name} claims {claim}, and {max_pixels()} pixels are allowed: fetch or write it again or, if it is right, '
        'set max_pixels',
        argument='max_pixels',
    )


def image_size(file: bytes | str | Path, name: str | None = None) -> tuple[int, int]:
    """Height and width of an image as its header claims them, an orientation in EXIF not applied; nothing is decoded.

    Args:
        file: The contents, or a local path.
        name: What to call it in an error; by default the path.

    Raises:
        DatasetError: If it is no image of :data:`FORMATS`, holds several, or claims more pixels than are allowed.
    """
    name = name or str(file)
    with decoding(name), _open(file) as image:
        width, height = image.size
        # A camera's JPEG may hold previews; its first picture is the one that is meant.
        pages = 1 if image.format in ('JPEG', 'MPO') else getattr(image, 'n_frames', 1)
    if pages > 1:
        raise DatasetError(f'{name} holds {pages} images, of which only the first would be read: write a file for each')
    check_pixels(height, width, name)
    return height, width


def loaded_size(path: str | Path) -> tuple[int, int]:
    """Height and width of an image file as it is loaded for training: turned where EXIF says so; nothing is decoded.

    Raises:
        DatasetError: See :func:`image_size`.
    """
    height, width = image_size(path)
    with decoding(str(path)), _open(path) as image:
        turned = image.format in _TURNABLE and image.getexif().get(_ORIENTATION) in _TURNED
    return (width, height) if turned else (height, width)


def check_size(size: tuple[int, int], expected: tuple[int, int], name: str, of: str) -> None:
    """Refuse an image or a map of another size, both as (height, width), than that of what it belongs to.

    Raises:
        DatasetError: Naming both sizes.
    """
    if size != expected:
        raise DatasetError(
            f'{name} is {size[0]}x{size[1]} (height x width), {of} {expected[0]}x{expected[1]}: wrong file or wrong '
            'size'
        )


def load_label_map(path: Path, expected: tuple[int, int], of: str) -> np.ndarray:
    """A label map as it is stored: values, or indices of a palette.

    Args:
        path: Its file.
        expected: Height and width that it must have.
        of: What has them, for the error.

    Returns:
        Array of shape (H, W), or (H, W, C) from a file of several channels.

    Raises:
        DatasetError: If it is no image of that size, of a format that changes values, or cannot be decoded.
    """
    check_size(image_size(path), expected, str(path), of)
    with decoding(str(path)), _open(path) as image:
        kind = 'JPEG' if image.info.get('compression') == 'jpeg' else image.format
        if kind in _LOSSY:
            raise DatasetError(f'{path} is compressed as {kind}, which changes labels: write PNG, TIFF or npy')
        return np.array(image)


@contextlib.contextmanager
def decoding(name: str) -> Iterator[None]:
    """What a decoder raises inside is an error of one line that names the file.

    Raises:
        DatasetError: See above.
    """
    try:
        yield
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # names a limit of Pillow's own
        pixels = re.search(r'(\d+) pixels', str(error))
        raise _too_large(name, f'to have {pixels[1]} pixels' if pixels else 'to be larger') from None
    except Exception as error:  # decoders meet bytes that nobody has checked, and raise whatever these lead to
        text = str(error).strip().partition('\n')[0]
        reason = '' if isinstance(error, Image.UnidentifiedImageError) or not text else f' ({text})'
        raise DatasetError(f'{name} cannot be decoded as an image: fetch or write it again{reason}') from None


def _open(file: bytes | str | Path) -> Image.Image:
    """A file in Pillow, of which only the header is read."""
    limit = max_pixels()
    if Image.MAX_IMAGE_PIXELS is not None and limit > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit
    return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS)


def remedy_of(data: bytes) -> str:
    """What to do about a file that OpenCV does not decode."""
    with contextlib.suppress(Exception), _open(data) as image:
        if image.mode in ('F', 'I'):
            return 'it has 32 bits a channel, write it with 8 or 16'
    return 'fetch or write it again'


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
