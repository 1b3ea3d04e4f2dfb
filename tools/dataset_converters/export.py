"""Export COCO panoptic files, labels or predictions, to the formats of annotation tools.

Exported predictions of predict.py can be corrected as labels. OUT gets the files and links to the images. An earlier
result in OUT is replaced when everything is done; a folder with other files is refused.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmpanoptic.engine import cli
from mmpanoptic.exporters import TARGETS, Options, PanopticFiles, export
from mmpanoptic.utils import UserError


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    formats = '\n'.join(f'  {name:18}{target.says}' for name, target in TARGETS.items())
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=f'formats:\n{formats}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Options()
    parser.add_argument('format', metavar='FORMAT', choices=TARGETS, help='see below')
    parser.add_argument('json_file', metavar='JSON', type=Path, help='the panoptic JSON')
    parser.add_argument('png_folder', metavar='PNGS', type=Path, help='folder of the PNGs')
    parser.add_argument('images', metavar='IMAGES', type=Path, help='folder of the images')
    parser.add_argument('out', metavar='OUT', type=Path, help='folder for the result; an earlier result is replaced')
    parser.add_argument('--polygons', action='store_true', help='cvat, label-studio: polygons instead of masks')
    parser.add_argument('--final', action='store_true', help='label-studio: annotations instead of predictions')
    parser.add_argument(
        '--image-prefix', default=default.image_prefix, help='label-studio: prefix of file names (default: %(default)s)'
    )
    parser.add_argument('--split', default=default.split, help='yolo-seg: name of the split (default: %(default)s)')
    parser.add_argument('--copy-images', action='store_true', help='copy images instead of linking them')
    parser.add_argument('--workers', type=int, default=2, help='number of processes (default: %(default)s)')
    cli.add_image_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Export the files, and print numbers of images and segments."""
    args = parse_args(argv)
    if args.split not in ('train', 'val', 'test'):
        raise UserError(f'{args.split} is no split: name train, val or test', 'split')
    files = PanopticFiles(args.json_file, args.png_folder, args.images)
    options = Options(args.polygons, args.final, args.image_prefix, args.split)
    numbers = export(args.format, files, args.out, options, args.copy_images, args.workers)
    print(f'Wrote {numbers["images"]} images with {numbers["segments"]} segments to {args.out}')
    if numbers['crowds'] and not TARGETS[args.format].crowds:
        print(f'{args.format} has no crowds: {numbers["crowds"]} of the segments were left out')


if __name__ == '__main__':
    cli.run(main)
