"""Mapillary Vistas as distributed, v1.2 and v2.0.

Format: https://www.mapillary.com/dataset/vistas. In the 16-bit instance PNGs, a value is 256 times the index of its
label in the configuration plus the number of the instance. Labels that are not evaluated are void.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.utils import DatasetError

from .maps import one_channel, shapes_of_map
from .records import LabelledImage, Labels, LeftOut, Shape
from .sources import split_of

IDS_PER_LABEL = 256
# Configuration and folder of instance maps, in the archives of v1.2 and of v2.0.
LAYOUTS = (('config.json', 'instances'), ('config_v1.2.json', 'v1.2/instances'))
NEWEST = ('config_v2.0.json', 'v2.0/instances')
_SPLITS = ('training', 'validation')


def find_layout(root: Path, layouts: Sequence[tuple[str, str]] = LAYOUTS) -> tuple[Path, str]:
    """Find the first layout that is present: its configuration, and its folder of instance maps within a split."""
    for config, instances in layouts:
        if (root / config).is_file():
            return root / config, instances
    raise DatasetError(
        f'{root} holds neither {" nor ".join(config for config, _ in layouts)}: unpack the archive there'
    )


def read_labels(config: Path) -> list[dict[str, Any]]:
    """Read ``labels`` of the configuration; instance maps number them in this order.

    Raises:
        DatasetError: If it cannot be read, a label lacks a key or has a value of another type, no label has
            instances, or two labels with instances have the same name.
    """
    try:
        labels = json.loads(config.read_text(encoding='utf-8'))['labels']
        for label in labels:
            for key, kind in (('readable', str), ('name', str), ('color', list)):
                if type(label[key]) is not kind:
                    raise TypeError(f'{key} is a {type(label[key]).__name__}')
        things = [label['readable'] for label in labels if label['instances']]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(
            f'{config} is not the configuration of Mapillary Vistas ({repr(error)[:200]}): its `labels` need name, '
            'readable, instances and color; unpack it again'
        ) from error
    if not things:
        raise DatasetError(f'{config} marks none of its {len(labels)} labels `instances`: unpack it again')
    if len(set(things)) < len(things):
        raise DatasetError(f'{config}: two labels with instances are `readable` alike: unpack it again')
    return labels


def find_images(root: Path, split: str, instances: str) -> list[str]:
    """Names of a split's images without suffix, sorted.

    Raises:
        DatasetError: If a folder is missing or empty, or names of images and instance maps do not match.
    """
    stems = {}
    folders = (('images', '.jpg'), (instances, '.png'))
    for folder, suffix in folders[: 1 if split == 'testing' else 2]:
        path = root / split / folder
        if not path.is_dir():
            raise DatasetError(f'{path} is no folder: ROOT must hold {split}/images/ and {split}/{instances}/')
        stems[folder] = {file.stem for file in path.glob(f'*{suffix}')}
    for here, there in (('images', instances), (instances, 'images')) if len(stems) > 1 else ():
        if missing := sorted(stems[here] - stems[there]):
            raise DatasetError(
                f'{root / split / there} lacks {len(missing)} of the {len(stems[here])} images of '
                f'{root / split / here}, first {missing[0]}: unpack the archive completely'
            )
    if not stems['images']:
        raise DatasetError(f'{root / split / "images"} holds no *.jpg: unpack the archive there')
    return sorted(stems['images'])


def read(source: Path, images: Path | None = None) -> Labels:
    """Read the training and validation images that are present.

    Args:
        source: A configuration, or the folder that holds it; in a folder the newest one is taken.
        images: The folder that holds training/images/ and validation/images/; by default the source.

    Raises:
        DatasetError: If there is no configuration, it is damaged, or images or maps are missing.
    """
    layouts: tuple[tuple[str, str], ...] = (NEWEST, *LAYOUTS)
    if source.is_file():
        layouts, source = tuple(layout for layout in layouts if layout[0] == source.name), source.parent
    config, instances = find_layout(source, layouts)
    labels = read_labels(config)
    name_of = [label['readable'] if label.get('evaluate', True) else None for label in labels]
    classes = [
        {
            'id': place + 1,
            'name': label['readable'],
            'isthing': int(bool(label['instances'])),
            'supercategory': label['name'],
            'color': list(label['color']),
        }
        for place, label in enumerate(labels)
        if name_of[place]
    ]
    things = [bool(label['instances']) for label in labels]
    made = []
    for split in (split for split in _SPLITS if (source / split).is_dir()):
        folder = images / split / 'images' if images else source / split / 'images'
        for stem in find_images(source, split, instances):
            file = source / split / instances / f'{stem}.png'
            load = partial(_load, file=file, name_of=name_of, things=things)
            name = f'{stem}.jpg'
            made.append(LabelledImage(folder / name, name, str(file), load=load, split=split_of(split)))
    if not made:
        raise DatasetError(f'{source} holds neither {" nor ".join(_SPLITS)}: unpack the archive there')
    return Labels(made, classes)


def _load(
    size: tuple[int, int], file: Path, name_of: list[str | None], things: list[bool]
) -> tuple[list[Shape], list[LeftOut]]:
    values = one_channel(file, size)
    if (largest := int(values.max()) // IDS_PER_LABEL) >= len(name_of):
        raise DatasetError(
            f'{file} holds label {largest}, and the configuration has {len(name_of)} labels: do not mix versions'
        )
    is_thing = np.array(things)[values // IDS_PER_LABEL]
    values = np.where(is_thing, values, values // IDS_PER_LABEL * IDS_PER_LABEL)  # stuff has no instances
    return shapes_of_map(values, {value: name_of[value // IDS_PER_LABEL] for value in np.unique(values).tolist()}), []
