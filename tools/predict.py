"""Predict images: pictures to look at, and COCO's formats to go on with.

python tools/predict.py CONFIG CHECKPOINT INPUT... --out DIR [--device cuda:0] [--no-pictures]

Inputs are images or folders of images. When all of them are done, DIR gets pictures/*.png and, in COCO's formats
(https://cocodataset.org/#format-results), panoptic.json with panoptic/*.png or, from models of instances only,
instances.json; what an earlier run made there is replaced. If one fails, DIR is what it was.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

from mmdet.structures.mask import encode_mask_results

from mmpanoptic.apis import PanopticInferencer, PanopticResult, list_images
from mmpanoptic.engine import cli
from mmpanoptic.engine.configs import load_config
from mmpanoptic.formats.images import check_complete, encode_png, image_size
from mmpanoptic.formats.panoptic_png import encode_panoptic_png
from mmpanoptic.formats.panoptic_writer import PanopticItem, fill_panoptic, image_ids
from mmpanoptic.structures import panoptic_to_coco
from mmpanoptic.utils import DatasetError, UserError, check_replaceable, read_bytes, tracked_map, whole_folder
from mmpanoptic.visualization.files import picture_names

MAKER = 'tools/predict.py'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Predict images')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='image, or folder of images (not its subfolders)')
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='folder to make, or to make again')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: the GPU if there is one, else cpu)')
    parser.add_argument('--no-pictures', action='store_true', help='write no pictures, only the JSON')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_checkpoint_arguments(parser)
    cli.add_image_arguments(parser)
    return parser.parse_args()


def check_readable(paths: list[str]) -> None:
    """Refuse files that are no images, end too early or claim to be too large, before anything is predicted.

    Raises:
        UserError: Naming the first five, and what is wrong with the first.
    """
    broken = {}
    for path in paths:
        try:
            data = read_bytes(path)
            check_complete(data, path)
            image_size(data, path)
        except DatasetError as error:
            broken[path] = error
    if len(broken) == 1:
        raise next(iter(broken.values()))
    if broken:
        first, *others = broken
        shown = ', '.join(others[:4]) + (', ...' if len(others) > 4 else '')
        raise UserError(
            f'{len(broken)} of {len(paths)} files are unusable: {broken[first]}; also {shown}', broken[first].argument
        )


def to_panoptic(result: PanopticResult, image_id: int, name: str, categories: list[dict]) -> PanopticItem:
    """The panoptic map of a result in COCO's format; ``categories`` by label."""
    category_ids = [category['id'] for category in categories]
    ids, infos = panoptic_to_coco(result.panoptic, result.segments_info, category_ids, void=len(categories))
    height, width = result.panoptic.shape
    image = dict(id=image_id, file_name=os.path.basename(result.path), width=width, height=height)
    return PanopticItem(image, f'{name}.png', encode_panoptic_png(ids), infos)


def to_instances(result: PanopticResult, image_id: int, categories: list[dict]) -> list[dict]:
    """The instances of a result in COCO's format; ``categories`` by label. Masks are compressed RLE."""
    found = []
    for i in range(len(result.instances)):
        one = result.instances[i]
        x1, y1, x2, y2 = one.bboxes[0].tolist()
        entry = dict(image_id=image_id, category_id=categories[one.labels.item()]['id'], score=one.scores.item())
        entry['bbox'] = [x1, y1, x2 - x1, y2 - y1]
        if 'masks' in one:
            (encoded,) = encode_mask_results(one.masks.numpy())
            entry['segmentation'] = dict(size=encoded['size'], counts=encoded['counts'].decode())
        found.append(entry)
    return found


def predict(inferencer: PanopticInferencer, paths: list[str], folder: Path, pictures: bool) -> None:
    """Predict all images into an empty folder.

    Raises:
        UserError: If an image cannot be read, or the checkpoint does not know its categories.
        OSError: If a file cannot be written.
    """
    names, ids = picture_names(paths), dict(zip(paths, image_ids(paths), strict=True))
    in_file_order = inferencer.dataset_meta.get('categories')
    if in_file_order is None:
        raise UserError('the checkpoint knows its classes by name only: train it on a dataset of mmpanoptic')
    categories = sorted(in_file_order, key=lambda category: category['label'])

    def predicted() -> Iterator[PanopticResult]:
        for result in tracked_map(lambda path: next(inferencer(path)), paths, 1, 'Predicting'):
            if pictures:
                (folder / 'pictures' / f'{names[result.path]}.png').write_bytes(encode_png(inferencer.draw(result)))
            yield result

    if pictures:
        (folder / 'pictures').mkdir()
    if hasattr(inferencer.model, 'panoptic_fusion_head'):
        items = (to_panoptic(r, ids[r.path], names[r.path], categories) for r in predicted())
        own = ('id', 'name', 'isthing', 'color')
        shown = [{key: category[key] for key in own if key in category} for category in in_file_order]
        pngs, out_json = folder / 'panoptic', folder / 'panoptic.json'
        pngs.mkdir()
        out_json.write_text(json.dumps(fill_panoptic(pngs, items, shown, out_json, pngs)))
    else:
        found = [one for r in predicted() for one in to_instances(r, ids[r.path], categories)]
        (folder / 'instances.json').write_text(json.dumps(found))


def main() -> None:
    args = parse_args()
    check_replaceable(args.out, MAKER, '--out')
    paths = list(dict.fromkeys(list_images(args.inputs)))
    check_readable(paths)
    config = load_config(args.config, args.cfg_options)
    with whole_folder(args.out, MAKER, '--out') as folder:
        inferencer = PanopticInferencer(config, args.checkpoint, args.device, args.trust_checkpoint, args.allow_nan)
        predict(inferencer, paths, folder, pictures=not args.no_pictures)
    print(f'{len(paths)} images predicted: {args.out}/')


if __name__ == '__main__':
    cli.run(main)
