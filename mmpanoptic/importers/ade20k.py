"""ADE20K's scene parsing release with its instance release: 150 classes, 100 of them things.

Format: http://sceneparsing.csail.mit.edu and https://github.com/CSAILVision/placeschallenge (instance segmentation). In
``annotations/``, values are numbers of classes, and 0 is void. In ``annotations_instance/``, red is the number of one
of the 100 thing classes (0: none), and green is the number of the instance. Classes and their order are those of mmdet.
"""

from functools import partial
from pathlib import Path

import numpy as np

import mmpanoptic.registry  # noqa: F401  (before mmdet, whose notices it drops)

# isort: split
from mmdet.datasets.ade20k import ADE20KInstanceDataset, ADE20KSegDataset

from mmpanoptic.formats.images import load_label_map
from mmpanoptic.utils import DatasetError

from .maps import check_known, one_channel, pair_by_stem, refuse_without_images, shapes_of_map
from .records import LabelledImage, Labels, LeftOut, Shape
from .sources import require_folder_of, split_of

_SAYS = 'it should have images/, annotations/ and annotations_instance/ with training/ and validation/ in each'
_CLASSES = [name.strip() for name in ADE20KSegDataset.METAINFO['classes']]
_THINGS = [name.strip() for name in ADE20KInstanceDataset.METAINFO['classes']]


def read(source: Path, images: Path | None = None) -> Labels:
    """Read the training and validation images that are present.

    Instances lie on top of the semantic map. Pixels of a thing class without an instance are void.

    Args:
        source: The folder, ADEChallengeData2016, with annotations_instance/ unpacked in it.
        images: The folder that holds training/ and validation/ of the images; by default ``images/``.

    Raises:
        DatasetError: If a folder is missing.
    """
    for kind in ('annotations', 'annotations_instance'):
        require_folder_of(source / kind, _SAYS)
    made: list[LabelledImage] = []
    left_out: list[LeftOut] = []
    for split in ('training', 'validation'):
        folder = (images or source / 'images') / split
        if not folder.is_dir():
            continue
        pairs, missing = pair_by_stem(folder, source / 'annotations' / split)
        left_out += missing
        for path, name, file in pairs:
            instances = source / 'annotations_instance' / split / file.name
            load = partial(_load, semantic=file, instances=instances)
            made.append(LabelledImage(path, name, str(file), load=load, split=split_of(split)))
    refuse_without_images(made, source, _SAYS)
    classes = [{'id': i, 'name': name, 'isthing': int(name in _THINGS)} for i, name in enumerate(_CLASSES, 1)]
    return Labels(made, classes, left_out)


def _load(size: tuple[int, int], semantic: Path, instances: Path) -> tuple[list[Shape], list[LeftOut]]:
    classes = one_channel(semantic, size)
    check_known(classes, range(len(_CLASSES) + 1), semantic, 'the list of 150 classes')
    stuff = {i: None if name in _THINGS else name for i, name in enumerate(_CLASSES, 1)}
    if not instances.is_file():
        raise DatasetError(f'{instances} does not exist: unpack the instance release in {semantic.parents[2]}')
    colours = load_label_map(instances, size, 'its image')
    if colours.ndim != 3 or colours.shape[2] < 3 or colours.dtype != np.uint8:
        raise DatasetError(f'{instances} is {colours.dtype} of shape {colours.shape}: instance maps are RGB')
    things, numbers = colours[..., 0].astype(np.int64), colours[..., 1].astype(np.int64)
    check_known(things, range(len(_THINGS) + 1), instances, 'the list of 100 things')
    values = np.where(things > 0, things * 256 + numbers, 0)
    label_of = {value: _THINGS[value // 256 - 1] for value in np.unique(values).tolist() if value}
    return shapes_of_map(classes, stuff, order=-1) + shapes_of_map(values, label_of), []
