"""Shapes from maps, which are images whose values are labels."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmpanoptic.formats.images import load_label_map
from mmpanoptic.formats.instances_writer import encode_instances
from mmpanoptic.utils import DatasetError

from .records import LabelledImage, LeftOut, Shape
from .sources import images_below


def shapes_of_map(
    values: np.ndarray, label_of: Mapping[int, str | None], crowds: Collection[int] = (), order: int = 0
) -> list[Shape]:
    """Make a shape for every value of a map that ``label_of`` holds.

    Args:
        values: The map, any integers of shape (H, W).
        label_of: Class by value; None: void.
        crowds: Values of crowds.
        order: See :class:`~.records.Shape`.
    """
    return [
        Shape(label_of[value], mask, f'value {value}', value in crowds, order=order)
        for value, mask in encode_instances(values, label_of).items()
    ]


def one_channel(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Load a map of one channel, see :func:`~mmpanoptic.formats.images.load_label_map`.

    Raises:
        DatasetError: If it has several channels, or another size.
    """
    values = load_label_map(path, size, 'its image')
    if values.ndim != 2:
        raise DatasetError(f'{path} is of shape {values.shape}, no map of one channel: write it again')
    return values.astype(np.int64)


def check_known(values: np.ndarray, known: Collection[int], path: Path, listed: str) -> None:
    """Refuse a map with unknown values.

    Raises:
        DatasetError: Naming the first unknown value.
    """
    unknown = np.setdiff1d(values, np.fromiter(known, np.int64))
    if len(unknown):
        raise DatasetError(f'{path} holds {unknown[0]}, which {listed} lacks: add the class, or mend the map')


def pair_by_stem(images: Path, maps: Path, suffix: str = '.png') -> tuple[list[tuple[Path, str, Path]], list[LeftOut]]:
    """Pair images and maps whose paths below their folders are equal except for the suffix.

    Args:
        images: The folder of the images.
        maps: The folder of the maps.
        suffix: Suffix of the maps.

    Returns:
        Tuples of an image, its name and its map; and the images without a map.
    """
    pairs, left_out = [], []
    for path in images_below(images):
        name = path.relative_to(images)
        file = (maps / name).with_suffix(suffix)
        if file.is_file():
            pairs.append((path, name.as_posix(), file))
        else:
            left_out.append(LeftOut(str(path), f'image {name}', f'{file} does not exist: add it'))
    return pairs, left_out


def refuse_without_images(images: Sequence[LabelledImage], source: Path, says: str) -> None:
    """Refuse a source without labelled images.

    Raises:
        DatasetError: Saying what should be there.
    """
    if not images:
        raise DatasetError(f'{source} holds no images with labels: {says}')
