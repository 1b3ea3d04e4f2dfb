"""List the images of test sets, which are distributed without annotations."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpanoptic.formats.cityscapes_categories import panoptic_categories
from mmpanoptic.formats.images import image_size
from mmpanoptic.formats.panoptic_json import annotations_by_image, read_json
from mmpanoptic.importers.mapillary import LAYOUTS, NEWEST, find_images, read_labels
from mmpanoptic.results.coco import CocoImage
from mmpanoptic.utils import UserError, require_file

_SUFFIX = '_leftImg8bit.png'  # of Cityscapes' images
_SHOWN = 5  # names in an error


@dataclass(frozen=True)
class ImageList:
    """Images of a test set and the categories of its server.

    Attributes:
        source: File or folder that lists the images.
        folder: Folder that the images' ``file_name`` is relative to.
        images: Entries as in COCO's ``images``: ``id``, ``file_name``, ``height`` and ``width`` in pixels.
        categories: Categories of the server, by the file that holds them: ``id``, ``name`` and, if it is known,
            ``isthing``. A model must match one of the files.
    """

    source: str
    folder: str
    images: list[CocoImage]
    categories: dict[str, list[dict[str, Any]]]


def coco_images(root: str, list_file: str | None = None, folder: str | None = None) -> ImageList:
    """List the images of COCO's ``image_info_test-dev2017.json``, which has no annotations.

    Source: https://cocodataset.org/#download (2017 Testing Image info)

    Args:
        root: Folder of the data.
        list_file: The JSON; by default ``annotations/image_info_test-dev2017.json`` in ``root``.
        folder: Folder of the images; by default ``test2017/`` in ``root``.

    Raises:
        UserError: If the JSON is missing or lists no images, or the folder lacks images.
    """
    list_file = list_file or os.path.join(root, 'annotations/image_info_test-dev2017.json')
    folder = folder or os.path.join(root, 'test2017')
    data = read_json(list_file, remedy='unpack image_info_test2017.zip of COCO there, or name the JSON by --list')
    pairs = annotations_by_image({'images': data.get('images')}, list_file)
    images = [
        CocoImage(id=image['id'], file_name=image['file_name'], height=image['height'], width=image['width'])
        for image, _ in pairs
    ]
    _require_images(folder, [image['file_name'] for image in images], list_file)
    return ImageList(list_file, folder, images, {list_file: data.get('categories') or []})


def cityscapes_images(root: str, list_file: str | None = None, folder: str | None = None) -> ImageList:
    """List the images of Cityscapes' test set: ``<city>/<city>_<sequence>_<frame>_leftImg8bit.png``.

    Args:
        root: Folder of the data.
        list_file: Must be None, since the images are listed by the folder.
        folder: Folder of the cities; by default ``leftImg8bit/test/`` in ``root``.

    Raises:
        UserError: If a list is given, the folder holds no such image, or an image cannot be read.
    """
    _refuse_list(list_file, 'cityscapes')
    folder = folder or os.path.join(root, 'leftImg8bit/test')
    paths = sorted(Path(folder).glob(f'*/*{_SUFFIX}'))
    if not paths:
        raise UserError(
            f'{folder} holds no <city>/*{_SUFFIX}: unpack leftImg8bit there, or name the folder by --images'
        )
    images = []
    for path in paths:
        name = path.name.removesuffix(_SUFFIX)
        if name.count('_') < 2 or name.split('_')[0] != path.parent.name:
            raise UserError(
                f'{path} is none of Cityscapes (such as berlin/berlin_000000_000019{_SUFFIX}): move it away'
            )
        images.append(_entry(name, path, folder))
    return ImageList(folder, folder, images, {'Cityscapes': panoptic_categories()})


def mapillary_images(root: str, list_file: str | None = None, folder: str | None = None) -> ImageList:
    """List the images of Mapillary Vistas' test set, ``testing/images/*.jpg``, and the classes of v1.2 and v2.0.

    Args:
        root: Folder of the data, with ``config.json`` or the configurations of v2.0's archive.
        list_file: Must be None, since the images are listed by the folder.
        folder: Folder of the images; by default ``testing/images/`` in ``root``.

    Raises:
        UserError: If a list is given, a folder or the configuration is missing, or an image cannot be read.
    """
    _refuse_list(list_file, 'mapillary')
    if folder is None:
        folder = os.path.join(root, 'testing/images')
        stems = find_images(Path(root), 'testing', '')
    else:
        stems = sorted(path.stem for path in Path(folder).glob('*.jpg'))
        if not stems:
            raise UserError(f'{folder} holds no *.jpg: name the folder of the test images by --images')
    configs = [Path(root, config) for config, _ in (NEWEST, *LAYOUTS) if Path(root, config).is_file()]
    if not configs:
        names = ' nor '.join(config for config, _ in (*LAYOUTS, NEWEST))
        raise UserError(f'{root} holds neither {names}, which number the classes: name the folder by --data-root')
    categories = {
        str(config): [
            dict(id=place + 1, name=label['readable'], isthing=int(bool(label['instances'])))
            for place, label in enumerate(read_labels(config))
            if label.get('evaluate', True)
        ]
        for config in configs
    }
    images = [_entry(stem, Path(folder, f'{stem}.jpg'), folder) for stem in stems]
    return ImageList(folder, folder, images, categories)


def _entry(image_id: str, path: Path, folder: str) -> CocoImage:
    """An entry of ``images``, with the size in the file's header. EXIF orientation is not applied."""
    height, width = image_size(path)
    return CocoImage(id=image_id, file_name=os.path.relpath(path, folder), height=height, width=width)


def _refuse_list(list_file: str | None, target: str) -> None:
    if list_file is not None:
        raise UserError(f'--list {list_file}: the images of {target} are those of a folder: name it by --images')


def _require_images(folder: str, names: Sequence[str], source: str) -> None:
    """Refuse a folder that lacks images.

    Raises:
        UserError: Naming the first missing images and their number.
    """
    present: dict[str, set[str]] = {}  # file names by folder, so that each folder is listed once
    missing = []
    for name in names:
        place = os.path.join(folder, os.path.dirname(name))
        if place not in present:
            present[place] = set(os.listdir(place)) if os.path.isdir(place) else set()
        if os.path.basename(name) not in present[place]:
            missing.append(name)
    if missing:
        more = f' and {len(missing) - _SHOWN} more' if len(missing) > _SHOWN else ''
        raise UserError(
            f'{folder} lacks {len(missing)} of the {len(names)} images of {source}: {", ".join(missing[:_SHOWN])}'
            f'{more}: unpack all of them there, or name another folder by --images'
        )


def require_given(list_file: str | None, folder: str | None) -> None:
    """Refuse a list or a folder that is given and does not exist.

    Raises:
        UserError: If it does not exist.
    """
    if list_file is not None:
        require_file(list_file, '--list')
    if folder is not None and not os.path.isdir(folder):
        raise UserError(f'--images: {folder} is no folder')
