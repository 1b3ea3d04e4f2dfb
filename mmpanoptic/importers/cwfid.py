"""The Crop/Weed Field Image Dataset: 60 images of carrots and weeds, with a YAML of polygons for each.

Format: https://github.com/cwfid/dataset (``annotations/*.yaml``, ``train_test_split.yaml``). The data may be used for
non-commercial research.
"""

import re
from pathlib import Path
from typing import Any

from mmpanoptic.formats.json_checks import check_types
from mmpanoptic.utils import DatasetError

from .classes import names_of
from .rasterise import flat
from .records import LabelledImage, Labels, Shape
from .sources import ImageFinder, each, files_below, load_yaml, reading, require_folder_of

_SAYS = 'name the folder with annotations/*.yaml, images/ and train_test_split.yaml'
_SPLIT = 'train_test_split.yaml'


def read(source: Path, images: Path | None = None) -> Labels:
    """Read all annotations of the dataset.

    Its test images are the split 'val'. An image in both lists, as number 28, is in 'val' only.

    Args:
        source: The folder of the dataset.
        images: The folder of the images; by default ``images`` in it.

    Raises:
        DatasetError: If ``source`` is no folder, it holds no annotations, or its split cannot be read.
    """
    require_folder_of(source, _SAYS)
    files = [file for file in files_below(source, '*.yaml') if file.name != _SPLIT]
    if not files:
        raise DatasetError(f'{source} holds no annotations: {_SAYS}')
    finder, splits = ImageFinder(images, [source / 'images', source]), _splits(source / _SPLIT)
    made, left_out = each(files, lambda file: _read_file(file, finder, splits), '', str)
    return Labels(made, names_of(made), left_out)


def _splits(file: Path) -> dict[int, str]:
    """Split of each image by its number; none if there is no file."""
    if not file.exists():
        return {}
    content = load_yaml(file, _SAYS)
    with reading(str(file)):
        return {int(number): split for key, split in (('train', 'train'), ('test', 'val')) for number in content[key]}


def _read_file(file: Path, finder: ImageFinder, splits: dict[int, str]) -> LabelledImage:
    content = load_yaml(file, _SAYS)
    if not isinstance(content, dict):
        raise DatasetError(f'{file} holds a {type(content).__name__} at the top: {_SAYS}')
    check_types(content, {'filename': str, 'annotation': list}, str(file))
    path, name = finder.find(content['filename'], str(file))
    number = re.match('[0-9]+', Path(name).name)
    split = splits.get(int(number[0])) if number else None
    shapes = [_shape(entry, f'annotation {index}', str(file)) for index, entry in enumerate(content['annotation'])]
    return LabelledImage(path, name, str(file), shapes, split=split)


def _shape(entry: dict[str, Any], what: str, file: str) -> Shape:
    where = f'{file}: {what}'
    check_types(entry, {'type': str, 'points': dict}, where)
    columns = [value if isinstance(value, list) else [value] for value in (entry['points']['x'], entry['points']['y'])]
    return Shape(entry['type'], [flat(list(zip(*columns, strict=True)), where)], what)
