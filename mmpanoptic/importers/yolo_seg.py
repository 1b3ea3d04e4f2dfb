"""YOLO's polygons: a data.yaml, and for each image a text file with a line per instance.

Format: https://docs.ultralytics.com/datasets/segment/. Coordinates are shares of the image's width and height.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from mmpanoptic.utils import DatasetError
from mmpanoptic.utils.paths import safe_name

from .coco_instances import box_shape
from .records import LabelledImage, Labels, LeftOut, Shape
from .sources import images_below, load_yaml, reading

_SAYS = 'name the data.yaml of the dataset, or the folder that it lies in'
_SPLITS = ('train', 'val', 'test')


def read(source: Path, images: Path | None = None) -> Labels:
    """Read a dataset whose splits and classes are listed in a YAML.

    Args:
        source: The YAML, or the folder with one.
        images: The folder that paths in the YAML are relative to; by default the YAML's folder. ``path`` in the YAML,
            often a path on another machine, is used only if it is a folder within that folder.

    Raises:
        DatasetError: If there is no YAML, or it is damaged or names no image.
    """
    if source.is_dir():
        files = sorted([*source.glob('*.yaml'), *source.glob('*.yml')])
        if len(files) != 1:
            raise DatasetError(f'{source} holds {len(files)} YAML files: {_SAYS}')
        source = files[0]
    content = load_yaml(source, _SAYS)
    with reading(str(source)):
        names = _names(content, source)
        root = images or source.parent
        inner = safe_name(content.get('path') or '')
        root = root / inner if inner and (root / inner).is_dir() else root
        made: list[LabelledImage] = []
        left_out: list[LeftOut] = []
        for split in _SPLITS:
            for found in _images_of(content.get(split), root, source):
                if isinstance(found, LeftOut):
                    left_out.append(found)
                    continue
                image, missing = _image(*found, root, names, split)
                made.append(image)
                left_out += missing
    if not made:
        raise DatasetError(f'{source} names no folder with images below {root}: mend `train` and `val`')
    return Labels(made, [{'name': name} for _, name in sorted(names.items())], left_out)


def _names(content: Any, source: Path) -> dict[int, str]:
    """Names of the classes by number."""
    names = content.get('names') if isinstance(content, dict) else None
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(names, dict) or not names or not all(type(key) is int for key in names):
        raise DatasetError(f'{source} has no `names` of classes: write a list of them')
    names = {key: str(name) for key, name in names.items()}
    if len(set(names.values())) < len(names):
        raise DatasetError(f'{source} has one of its `names` twice: give every class a name of its own')
    return names


def _images_of(entry: Any, root: Path, source: Path) -> Iterator[tuple[Path, str] | LeftOut]:
    """Paths and names of a split's images, from a folder, a text file that lists them, or several of these.

    Lines of a text file that lead out of the root are left out.
    """
    for source_name in entry if isinstance(entry, list) else [] if entry is None else [entry]:
        parts = PurePosixPath(str(source_name).replace('\\', '/')).parts
        while parts and parts[0] in ('..', '.'):  # Roboflow writes paths relative to another folder
            parts = parts[1:]
        name = safe_name('/'.join(parts))
        place = root / name if name else None
        if place is not None and place.is_dir():
            yield from ((path, path.relative_to(place).as_posix()) for path in images_below(place))
        elif place is not None and place.is_file() and place.suffix == '.txt':
            for number, line in enumerate(place.read_text(encoding='utf-8').split('\n'), 1):
                listed = safe_name(line.strip())
                if listed:
                    yield root / listed, PurePosixPath(listed).name
                elif line.strip():
                    reason = f'{line.strip()[:200]!r} is no path below {root}: write it relative to that folder'
                    yield LeftOut(str(place), f'line {number}', reason)
        else:
            raise DatasetError(
                f'{source} names {source_name!r}, and that is no folder or list in {root}: mend it, or give as '
                '`images` the folder that the paths of the YAML are relative to, not that of the images'
            )


def label_file(path: Path, root: Path) -> Path:
    """The text file of an image: in its path below the root, the last folder ``images`` becomes ``labels``."""
    parts = list(path.relative_to(root).with_suffix('.txt').parts)
    places = [index for index, part in enumerate(parts[:-1]) if part == 'images']
    if places:
        parts[places[-1]] = 'labels'
    return root.joinpath(*parts)


def _image(path: Path, name: str, root: Path, names: dict[int, str], split: str) -> tuple[LabelledImage, list[LeftOut]]:
    file = label_file(path, root)
    left_out = []
    if not file.is_file():
        left_out.append(LeftOut(str(file), f'labels of {name}', 'there is no such file: the image has no shape'))
    load = partial(_load, file=file, names=names)
    return LabelledImage(path, name, str(file), load=load, split=split), left_out


def _load(size: tuple[int, int], file: Path, names: dict[int, str]) -> tuple[list[Shape], list[LeftOut]]:
    """Read the shapes in a text file; a line of five numbers is a box."""
    shapes = []
    lines = file.read_text(encoding='utf-8').split('\n') if file.is_file() else []
    for number, line in enumerate(lines, 1):
        if not (values := line.split()):
            continue
        what = f'line {number}'
        label = names.get(int(values[0]))
        if label is None:
            raise DatasetError(f'{file}: {what} has class {values[0]}, which `names` lacks: add it, or mend the line')
        shares = [float(value) for value in values[1:]]
        points = [share * size[1 - index % 2] for index, share in enumerate(shares)]
        if len(points) == 4:
            x, y, width, height = points
            shapes.append(box_shape(label, x - width / 2, y - height / 2, x + width / 2, y + height / 2, what))
        else:
            shapes.append(Shape(label, [points], what))
    return shapes, []
