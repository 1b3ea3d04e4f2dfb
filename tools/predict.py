"""Predict images and videos, and write pictures and files in COCO's formats.

python tools/predict.py CONFIG CHECKPOINT INPUT... --out DIR [--device cuda:0] [--batch-size 8] [--dtype float16]
    [--score-thr 0.5] [--number similarity] [--no-pictures] [--resume]

Inputs are images, folders with their subfolders, patterns ('day*/*.jpg'), lists of these (FILE.txt, one per line), http
and https addresses, and videos. When all inputs are done, DIR gets pictures/*.png, videos/*.mp4 and, in COCO's formats
(https://cocodataset.org/#format-results), panoptic.json with panoptic/*.png or, from models that predict only
instances, instances.json. The results of an earlier run in DIR are replaced. Inputs that cannot be read are listed at
the end, and the exit status is 1. If no input can be read, or a result cannot be written, DIR does not change. After
Ctrl-C, finished results are in DIR.unfinished; the same command with --resume continues. See docs/predict.md.
"""

import argparse
from pathlib import Path

from mmpanoptic.apis.predict import Run, predict
from mmpanoptic.engine import cli
from mmpanoptic.engine.precision import DTYPES
from mmpanoptic.results import RATINGS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Predict images and videos')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='image, folder, pattern, list, address or video')
    parser.add_argument(
        '--out', required=True, type=Path, metavar='DIR', help='folder for the results; an earlier result is replaced'
    )
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: the GPU if there is one, else cpu)')
    parser.add_argument('--batch-size', type=int, default=1, metavar='N', help='images per batch (default: 1)')
    parser.add_argument(
        '--threads', type=int, default=2, metavar='N', help='threads that read, and threads that write (default: 2)'
    )
    parser.add_argument('--dtype', default='float32', choices=('float32', *DTYPES), help='precision of the network')
    parser.add_argument(
        '--compile', action='store_true', help='compile backbone and neck: for many images of equal size'
    )
    parser.add_argument('--tile', type=int, metavar='N', help='predict in tiles of NxN pixels: for large images')
    parser.add_argument('--overlap', type=int, default=256, metavar='N', help='pixels that tiles share (default: 256)')
    parser.add_argument('--score-thr', type=float, metavar='S', help='leave out segments, or instances, below')
    parser.add_argument(
        '--number',
        choices=(*RATINGS, 'none'),
        default='score',
        help='number beside names in pictures (default: score)',
    )
    parser.add_argument('--no-pictures', action='store_true', help='write no pictures and videos, only the JSON')
    parser.add_argument('--resume', action='store_true', help='continue an interrupted run')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_checkpoint_arguments(parser)
    cli.add_image_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = vars(parse_args())
    args.pop('max_pixels')
    args['number'] = None if args['number'] == 'none' else args['number']
    predict(Run(pictures=not args.pop('no_pictures'), **args))


if __name__ == '__main__':
    cli.run(main)
