"""Render Shapes, the built-in dataset: street scenes with panoptic maps and overlapping instances, in COCO's formats.

OUT gets train/ and val/ with the images, and annotations/ with panoptic_*.json, instances_*.json and the PNGs. An
earlier result in OUT is replaced when everything is done; a folder with other files is refused.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmpanoptic.datasets.shapes import write_dataset
from mmpanoptic.engine import cli


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', metavar='OUT', type=Path, help='folder for the dataset; an earlier result is replaced')
    parser.add_argument('--train', type=int, default=1000, help='number of training images (default: %(default)s)')
    parser.add_argument('--val', type=int, default=200, help='number of validation images (default: %(default)s)')
    parser.add_argument(
        '--size', type=int, nargs=2, default=(192, 288), metavar=('H', 'W'), help='pixels (default: 192 288)'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the scenes (default: %(default)s)')
    parser.add_argument('--workers', type=int, default=2, help='number of processes (default: %(default)s)')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Render the dataset and print its size and folder."""
    args = parse_args(argv)
    numbers = {'train': args.train, 'val': args.val}
    instances = write_dataset(args.out, numbers, tuple(args.size), args.seed, args.workers)
    print(f'Wrote {args.train} training and {args.val} validation images with {instances} instances to {args.out}')


if __name__ == '__main__':
    cli.run(main)
