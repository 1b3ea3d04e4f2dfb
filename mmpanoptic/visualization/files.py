"""Reading of images to draw on, and names and files of pictures."""

import io
import itertools
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import mmcv
import numpy as np
from matplotlib.figure import Figure

from mmpanoptic.formats.images import decoding, image_size
from mmpanoptic.utils import DatasetError, read_bytes, write_whole


def write_figure(figure: Figure, path: str) -> None:
    """Write a matplotlib figure atomically, in the format of the suffix.

    Raises:
        WriteError: If it cannot be written.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format=Path(path).suffix[1:], dpi=150)
    write_whole(path, drawn.getvalue())


def read_image(path: str, backend_args: dict | None = None, flag: str = 'color', decoder: str = 'cv2') -> np.ndarray:
    """Read an image as uint8 RGB of shape (H, W, 3).

    Args:
        path: Path of the image.
        backend_args: Storage backend, see :mod:`mmengine.fileio`.
        flag: mmcv's flag: 'color', or 'color_ignore_orientation', which ignores the EXIF orientation.
        decoder: mmcv's decoding backend.

    Raises:
        DatasetError: If the file is missing, is not an image or is too large.
    """
    data = read_bytes(path, backend_args)
    image_size(data, path)
    with decoding(path):
        image = mmcv.imfrombytes(data, flag, 'bgr', decoder)  # mmcv honours 'rgb' with some flags only
    if image is None:
        raise DatasetError(f'{path} cannot be drawn: it is not an image that can be decoded; fetch it again')
    return image[..., ::-1] if image.ndim == 3 else np.stack([image] * 3, axis=-1)


def picture_names(paths: Iterable[str]) -> dict[str, str]:
    """A unique file name, without extension, for the picture of each image.

    The name is the image's stem. If images share a stem, their folders below the folder common to all images are added,
    then the extension, then a number.
    """
    paths = sorted(set(paths))
    stems = Counter(Path(path).stem for path in paths)
    names = {path: Path(path).stem for path in paths if stems[Path(path).stem] == 1}
    taken = set(names.values())
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths]) if paths else ''
    for path in paths:
        if path in names:
            continue
        flat = os.path.relpath(os.path.abspath(path), root).replace(os.sep, '_')
        numbered = (f'{flat}_{i}' for i in itertools.count(2))
        candidates = itertools.chain([os.path.splitext(flat)[0], flat.replace('.', '_')], numbered)
        names[path] = next(name for name in candidates if name not in taken)
        taken.add(names[path])
    return names
