"""Predict images: pictures to look at, and COCO's formats to go on with.

python tools/predict.py CONFIG CHECKPOINT INPUT... --out DIR [--device cuda:0] [--no-pictures]

Inputs are images or folders of images. When all of them are done, DIR gets pictures/*.png and, in COCO's formats
(https://cocodataset.org/#format-results), panoptic.json with panoptic/*.png or, from models of instances only,
instances.json; what an earlier run made there is replaced. Images that cannot be read are left out: they are listed at
the end, and the exit status is 1. If none can be read, or a result cannot be written, DIR is what it was.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic.apis import PanopticInferencer, PanopticResult, list_images
from mmpanoptic.apis.image_lists import IMAGE_EXTENSIONS, left_out
from mmpanoptic.drawing.encode import encode_png
from mmpanoptic.engine import cli
from mmpanoptic.engine.configs import load_config
from mmpanoptic.formats.images import check_complete, image_size
from mmpanoptic.formats.panoptic_png import encode_panoptic_png
from mmpanoptic.formats.panoptic_writer import PanopticItem, fill_panoptic, image_ids
from mmpanoptic.utils import (
    DatasetError,
    UserError,
    check_replaceable,
    one_line,
    read_bytes,
    tracked_map,
    whole_folder,
)
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


def readable(paths: list[str]) -> tuple[list[str], list[UserError]]:
    """Images that are whole and not too large by their headers, and what is wrong with the others."""
    good, problems = [], []
    for path in paths:
        try:
            data = read_bytes(path)
            check_complete(data, path)
            image_size(data, path)
            good.append(path)
        except UserError as error:
            problems.append(error)
    return good, problems


def report(problems: list[UserError], skipped: list[str], number: int, out: Path) -> None:
    """Tell what was left out.

    Args:
        problems: What is wrong with images.
        skipped: Files of formats that are not read.
        number: How many images there were.
        out: The folder of the results.

    Raises:
        UserError: If there are problems.
    """
    if skipped:
        names = ', '.join(os.path.basename(path) for path in skipped)
        print(f'{len(skipped)} files of other formats are left out ({", ".join(IMAGE_EXTENSIONS)} are read): {names}')
    if len(problems) == number:
        kept = f'nothing is predicted, and {out} is what it was'
    else:
        kept = f'{number - len(problems)} of {number} images are predicted: {out}/'
    if len(problems) == 1:
        raise UserError(f'{problems[0]}; {kept}', problems[0].argument)
    for problem in problems:
        print(f'left out: {one_line(problem)}', file=sys.stderr)
    if problems:
        raise UserError(f'{len(problems)} of {number} files are unusable, see above; {kept}', problems[0].argument)
    print(f'{kept}')


def to_panoptic(result: PanopticResult, image_id: int, name: str) -> PanopticItem:
    """The panoptic map of a result in COCO's format."""
    png = encode_panoptic_png(result.id_map)
    return PanopticItem(result.coco_image(image_id), f'{name}.png', png, result.coco_segments())


def predict(inferencer: PanopticInferencer, paths: list[str], folder: Path, pictures: bool) -> list[UserError]:
    """Predict all images into an empty folder.

    Returns:
        What is wrong with images that cannot be decoded or predicted; the results are of the others.

    Raises:
        UserError: If the checkpoint does not know its categories.
        OSError: If a file cannot be written.
    """
    names, ids = picture_names(paths), dict(zip(paths, image_ids(paths), strict=True))
    in_file_order = inferencer.dataset_meta.get('categories')
    if in_file_order is None:
        raise UserError(
            "the checkpoint knows its classes by name only, and they are not COCO's: name a JSON of its data with "
            '--cfg-options test_dataloader.dataset.ann_file=...'
        )
    problems = []

    def result_of(path: str) -> PanopticResult | None:
        try:
            return next(inferencer(path))
        except DatasetError as error:  # of this image; what else is wrong is wrong with all of them
            problems.append(error)
            return None

    def predicted() -> Iterator[PanopticResult]:
        for result in filter(None, tracked_map(result_of, paths, 1, 'Predicting')):
            if pictures:
                (folder / 'pictures' / f'{names[result.path]}.png').write_bytes(encode_png(result.draw()))
            yield result

    if pictures:
        (folder / 'pictures').mkdir()
    if hasattr(inferencer.model, 'panoptic_fusion_head'):
        items = (to_panoptic(r, ids[r.path], names[r.path]) for r in predicted())
        own = ('id', 'name', 'isthing', 'color')
        shown = [{key: category[key] for key in own if key in category} for category in in_file_order]
        pngs, out_json = folder / 'panoptic', folder / 'panoptic.json'
        pngs.mkdir()
        out_json.write_text(json.dumps(fill_panoptic(pngs, items, shown, out_json, pngs)))
    else:
        found = [one for r in predicted() for one in r.coco_instances(ids[r.path])]
        (folder / 'instances.json').write_text(json.dumps(found))
    return problems


def main() -> None:
    args = parse_args()
    check_replaceable(args.out, MAKER, '--out')
    paths = list(dict.fromkeys(list_images(args.inputs)))
    good, problems = readable(paths)
    if good:
        config = load_config(args.config, args.cfg_options)
        with contextlib.suppress(_NothingPredictedError), whole_folder(args.out, MAKER, '--out') as folder:
            inferencer = PanopticInferencer(config, args.checkpoint, args.device, args.trust_checkpoint, args.allow_nan)
            problems += predict(inferencer, good, folder, pictures=not args.no_pictures)
            if len(problems) == len(paths):
                raise _NothingPredictedError
    report(problems, left_out(args.inputs), len(paths), args.out)


class _NothingPredictedError(Exception):
    """What was made is not to replace what is there."""


if __name__ == '__main__':
    cli.run(main)
