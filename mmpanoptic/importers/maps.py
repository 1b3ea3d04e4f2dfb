"""Shapes from maps: images whose values are labels."""

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
    """A shape for every value of a map that has a label.

    Args:
        values: Of shape (H, W), any integers.
        label_of: The class by value, None: void.
        crowds: Values that are crowds.
        order: See :class:`~.records.Shape`.
    """
    return [
        Shape(label_of[value], mask, f'value {value}', value in crowds, order=order)
        for value, mask in encode_instances(values, label_of).items()
    ]


def one_channel(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A map of one channel, see :func:`~mmpanoptic.formats.images.load_label_map`.

    Raises:
        DatasetError: If it has several, or is of another size.
    """
    values = load_label_map(path, size, 'its image')
    if values.ndim != 2:
        raise DatasetError(f'{path} is of shape {values.shape}, no map of one channel: write it again')
    return values.astype(np.int64)


def check_known(values: np.ndarray, known: Collection[int], path: Path, listed: str) -> None:
    """Refuse a map with values that mean nothing.

    Raises:
        DatasetError: Naming the first.
    """
    unknown = np.setdiff1d(values, np.fromiter(known, np.int64))
    if len(unknown):
        raise DatasetError(f'{path} holds {unknown[0]}, which {listed} lacks: add the class, or mend the map')


def pair_by_stem(images: Path, maps: Path, suffix: str = '.png') -> tuple[list[tuple[Path, str, Path]], list[LeftOut]]:
    """Images with maps of their names but for the suffix, folders included.

    Args:
        images: The folder of the images.
        maps: The folder of the maps.
        suffix: That of the maps.

    Returns:
        Image, its name and its map; and the images that have none.
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
    """Refuse a source in which nothing was found.

    Raises:
        DatasetError: Saying what should be there.
    """
    if not images:
        raise DatasetError(f'{source} holds no images with labels: {says}')
