"""Make panoptic and instance annotations of Cityscapes in COCO's formats, with cityscapesscripts.

ROOT holds leftImg8bit/ and gtFine/ as they are distributed. cityscapesscripts' createPanopticImgs converts every image,
in several processes. Missing label and instance PNGs are made from the polygons first. The results are
gtFine/cityscapes_panoptic_SPLIT.json and gtFine/cityscapes_panoptic_SPLIT/, with label ids (7 to 33), and
gtFine/cityscapes_instances_SPLIT.json, with the 8 thing classes of the benchmark and groups of things as crowds.
"""

import argparse
import contextlib
import errno
import io
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from PIL import Image

from mmpanoptic.engine import cli
from mmpanoptic.formats.cityscapes_categories import panoptic_categories, thing_categories
from mmpanoptic.formats.images import check_pixels, image_size, load_label_map
from mmpanoptic.formats.instances_writer import (
    InstanceItem,
    has_instances_of,
    instances_to_coco,
    write_instances,
)
from mmpanoptic.formats.panoptic_writer import PanopticItem, write_panoptic
from mmpanoptic.utils import DatasetError, WriteError, tracked_map, write_whole

POLYGONS, LABELS, INSTANCES = '_gtFine_polygons.json', '_gtFine_labelIds.png', '_gtFine_instanceIds.png'
IMAGES = '_leftImg8bit.png'


def find_images(root: Path, split: str) -> list[str]:
    """The images of a split as ``city/image id``, in the order of their names.

    Raises:
        DatasetError: If a folder is missing, there are no images, an image has no annotation, or an annotation has no
            image.
    """
    stems: dict[str, set[str]] = {}
    for folder, suffixes in (('leftImg8bit', (IMAGES,)), ('gtFine', (POLYGONS, INSTANCES))):
        path = root / folder / split
        if not path.is_dir():
            raise DatasetError(f'{path} is no folder: ROOT must hold leftImg8bit/ and gtFine/ with {split}/ in them')
        stems[folder] = {
            f'{file.parent.name}/{file.name.removesuffix(suffix)}'
            for suffix in suffixes
            for file in path.glob(f'*/*{suffix}')
        }
    for here, there in (('leftImg8bit', 'gtFine'), ('gtFine', 'leftImg8bit')):
        if missing := sorted(stems[here] - stems[there]):
            raise DatasetError(
                f'{root / there / split} lacks {len(missing)} of the {len(stems[here])} images of '
                f'{root / here / split}, first {missing[0]}: unpack both archives completely'
            )
    if not stems['gtFine']:
        raise DatasetError(f'{root / "leftImg8bit" / split} holds no CITY/*{IMAGES}: unpack the archives there')
    return sorted(stems['gtFine'])


def call_script(file: Path, function: Callable[..., Any], *args: Any) -> None:
    """Call a function of cityscapesscripts without its output. Its failures become errors that name ``file``."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            function(*args)
    except SystemExit:
        reason = next((line for line in printed.getvalue().splitlines() if line.startswith('ERROR: ')), 'no reason')
        raise DatasetError(f'{file}: cityscapesscripts refuses it: {reason.removeprefix("ERROR: ")}') from None
    except (OSError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise WriteError(tempfile.gettempdir(), error.strerror) from error
        raise DatasetError(f'{file}: cityscapesscripts fails on it ({error!r}): fetch it again') from error


def save_16_bit(instances: Image.Image | np.ndarray, path: str | Path) -> None:
    """Save an instance map as a 16-bit PNG, the format of Cityscapes."""
    Image.fromarray(np.array(instances).astype(np.uint16)).save(path)


def draw_instances(polygons: str, png: str) -> None:
    """Like json2instanceImg, which saves an image in a mode that Pillow 13 no longer writes as PNG."""
    annotation = Annotation()
    annotation.fromJsonFile(polygons)
    save_16_bit(createInstanceImage(annotation, 'ids'), png)


def check_polygons(path: Path) -> None:
    """Refuse polygons of an image that is too large, before cityscapesscripts allocates memory for it."""
    try:
        content = json.loads(path.read_bytes())
        size = int(content['imgHeight']), int(content['imgWidth'])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DatasetError(f'{path} cannot be read ({error!r}): fetch it again') from error
    check_pixels(*size, str(path))


def make_from_polygons(polygons: Path, png: Path, draw: Callable[[str, str], None]) -> None:
    """Draw a label or instance PNG, unless it exists or there are no polygons."""
    if png.exists() or not polygons.exists():
        return
    check_polygons(polygons)
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder, png.name)
        call_script(polygons, draw, str(polygons), str(drawn))
        write_whole(png, drawn.read_bytes())


def read_instance_ids(image: Path, instance_map: Path) -> np.ndarray:
    """Read an instance map of shape (H, W), which must have the size of its image."""
    ids = load_label_map(instance_map, image_size(image), 'its image')
    if ids.ndim != 2:
        raise DatasetError(f'{instance_map} is of shape {ids.shape}, no map of one channel: fetch it again')
    return ids


def convert(name: str, root: Path, split: str) -> PanopticItem:
    """Convert one image, ``city/image id``, by createPanopticImgs."""
    image, ground_truth = root / 'leftImg8bit' / split / f'{name}{IMAGES}', root / 'gtFine' / split / name
    polygons, label_map, instance_map = (
        ground_truth.with_name(ground_truth.name + suffix) for suffix in (POLYGONS, LABELS, INSTANCES)
    )
    make_from_polygons(polygons, label_map, json2labelImg)
    make_from_polygons(polygons, instance_map, draw_instances)
    with tempfile.TemporaryDirectory() as folder:
        tree, out = Path(folder, 'in'), Path(folder, 'out')
        linked = tree / split / name.split('/')[0] / instance_map.name
        linked.parent.mkdir(parents=True)
        out.mkdir()
        ids = read_instance_ids(image, instance_map)
        if ids.dtype == np.uint8:  # with numpy 2, 8-bit values overflow in the script
            save_16_bit(ids, linked)
        else:
            linked.symlink_to(instance_map.resolve())
        call_script(instance_map, convert2panoptic, str(tree), str(out), False, [split])
        content = json.loads((out / f'cityscapes_panoptic_{split}.json').read_text())
        (annotation,) = content['annotations']
        png = (out / f'cityscapes_panoptic_{split}' / annotation['file_name']).read_bytes()
    return PanopticItem(content['images'][0], annotation['file_name'], png, annotation['segments_info'])


def convert_instances(name: str, root: Path, split: str) -> InstanceItem:
    """The instances of one image, ``city/image id``. Ids below 1000 are labels of groups, without a number."""
    image, ground_truth = root / 'leftImg8bit' / split / f'{name}{IMAGES}', root / 'gtFine' / split / name
    polygons, instance_map = (ground_truth.with_name(ground_truth.name + suffix) for suffix in (POLYGONS, INSTANCES))
    make_from_polygons(polygons, instance_map, draw_instances)
    ids = read_instance_ids(image, instance_map)
    things = {category['id'] for category in thing_categories()}
    label_of = {i: i // 1000 if i >= 1000 else i for i in np.unique(ids).tolist()}
    height, width = ids.shape
    return InstanceItem(
        {'id': name.split('/')[1], 'file_name': f'{name}{IMAGES}', 'width': width, 'height': height},
        instances_to_coco(
            ids, {i: label for i, label in label_of.items() if label in things}, [i for i in label_of if i < 1000]
        ),
    )


def is_complete(out_json: Path, names: list[str]) -> bool:
    """Whether an earlier run, of this or of the original script, left complete results for the images."""
    try:
        annotations = json.loads(out_json.read_text())['annotations']
        written = {annotation['file_name'] for annotation in annotations}
        present = {path.name for path in out_json.with_suffix('').iterdir()}
        return written <= present and {a['image_id'] for a in annotations} == {name.split('/')[1] for name in names}
    except (OSError, ValueError, KeyError, TypeError):
        return False


def make_panoptic(root: Path, split: str, names: list[str], workers: int) -> None:
    out_json = root / 'gtFine' / f'cityscapes_panoptic_{split}.json'
    if is_complete(out_json, names):
        print(f'{split}: {out_json} is complete ({len(names)} images); delete it and its folder to make it again')
        return
    items = tracked_map(partial(convert, root=root, split=split), names, workers, f'Converting {split}')
    dataset = write_panoptic(out_json, items, panoptic_categories())
    segments = sum(len(annotation['segments_info']) for annotation in dataset['annotations'])
    print(f'{split}: {len(names)} images, {segments} segments: {out_json} and {out_json.with_suffix("")}/')


def make_instances(root: Path, split: str, names: list[str], workers: int) -> None:
    out_json = root / 'gtFine' / f'cityscapes_instances_{split}.json'
    if has_instances_of(out_json, [name.split('/')[1] for name in names]):
        print(f'{split}: {out_json} is complete ({len(names)} images); delete it to make it again')
        return
    items = tracked_map(partial(convert_instances, root=root, split=split), names, workers, f'Instances of {split}')
    dataset = write_instances(out_json, items, thing_categories())
    print(f'{split}: {len(names)} images, {len(dataset["annotations"])} instances: {out_json}')


def run(args: argparse.Namespace) -> None:
    names_of = {split: find_images(args.root, split) for split in args.split}
    for split, names in names_of.items():
        make_panoptic(args.root, split, names, args.workers)
        make_instances(args.root, split, names, args.workers)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('root', type=Path, help='folder that holds leftImg8bit/ and gtFine/')
    parser.add_argument('--split', nargs='+', default=['train', 'val'], choices=['train', 'val', 'test'],
                        help='default: train val (the annotations of test are dummies)')  # fmt: skip
    parser.add_argument('--workers', type=int, default=2, help='number of processes (default: 2)')
    cli.add_image_arguments(parser)
    return parser.parse_args()


if __name__ == '__main__':
    cli.run(lambda: run(parse_args()))
