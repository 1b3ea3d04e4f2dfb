"""The images that a user means by files and folders."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mmpanoptic.utils import UserError, require_file

IMAGE_EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')
# Of other images: what cameras, browsers and scanners write.
_OTHER_SUFFIX = re.compile(
    r'\.(3fr|arw|avif|cr[23]|dcm|dib|dng|emf|eps|exr|fits|gif|hdr|heic|heif|icns|ico|j2k|jfif|jp2|jpe|jpx|jxl|mpo|nef|'
    r'orf|p[bgfn]m|pcx|psd|raf|raw|rw2|sgi|svg|svs|tga|wmf|xbm|xpm)',
    re.IGNORECASE,
)

Image = str | os.PathLike | np.ndarray
Images = Image | Sequence[Image]


def iter_images(images: Images | Iterator[Image]) -> Iterator[str | np.ndarray]:
    """What :func:`list_images` gives, of an iterator image by image as they are asked for."""
    if isinstance(images, Iterator):
        for one in images:
            yield from list_images(one)
    else:
        yield from list_images(images)


def list_images(images: Images) -> list[str | np.ndarray]:
    """Images one by one.

    Args:
        images: A file, a folder, an image (uint8 RGB of shape (H, W, 3)), or several of these. Of a folder, the files
            right in it that have a suffix of ``IMAGE_EXTENSIONS``, sorted by name.

    Raises:
        UserError: If a path does not exist or is an address, or there is no image in a folder.
        ValueError: If an array is not of that type and shape.
    """
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[2] != 3:
            raise ValueError(f'an image is uint8 RGB of shape (H, W, 3), not {images.dtype} of shape {images.shape}')
        return [images]
    if not isinstance(images, (str, os.PathLike)):
        return [image for one in images for image in list_images(one)]
    if '://' in os.fspath(images):
        raise UserError(f'image {images} is an address: download it and give the path of the file')
    path = Path(images)
    if not path.is_dir():
        require_file(str(path), 'image')
        return [str(path)]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_EXTENSIONS and file.name[0] != '.')
    if files := [str(file) for file in files if file.is_file()]:
        return files
    raise UserError(f'folder {path} holds no image ({", ".join(IMAGE_EXTENSIONS)})')


def left_out(paths: Iterable[str | os.PathLike]) -> list[str]:
    """Files right in the folders among ``paths`` that are images by their names, and that :func:`list_images` leaves
    out, as their formats are not read; sorted."""
    folders = [Path(path) for path in paths if os.path.isdir(path)]
    return sorted(
        str(file)
        for folder in folders
        for file in folder.iterdir()
        if _OTHER_SUFFIX.fullmatch(file.suffix) and file.name[0] != '.' and file.is_file()
    )
