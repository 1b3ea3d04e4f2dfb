"""Import labels of annotation tools and other datasets, for training.

OUT gets train/ and val/ with links to the images, and annotations/ with panoptic_SPLIT.json, its PNGs, and
instances_SPLIT.json, whose masks overlap as they were drawn. A config needs only data_root='OUT/'. An earlier result in
OUT is replaced when everything is done; a folder with other files is refused. docs/import.md explains the formats, and
the treatment of overlaps and of labels that do not fit.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmpanoptic.engine import cli
from mmpanoptic.importers import (
    ORDERS,
    READERS,
    REPORT,
    WAYS,
    Labels,
    Plan,
    decide,
    given_classes,
    split_names,
    write_dataset,
)
from mmpanoptic.utils import UserError

_SHOWN = 10  # number of left-out items to print


def names(text: str) -> list[str]:
    """Split names at commas."""
    return [name.strip() for name in text.split(',') if name.strip()]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    formats = '\n'.join(f'  {name:22}{reader.says}' for name, reader in READERS.items())
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=f'formats:\n{formats}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('format', metavar='FORMAT', choices=READERS, help='see below')
    parser.add_argument('source', metavar='SOURCE', type=Path, help='the labels')
    parser.add_argument('out', metavar='OUT', type=Path, help='folder for the dataset; an earlier result is replaced')
    parser.add_argument('--images', type=Path, metavar='DIR', help='folder of the images (default: beside the labels)')
    parser.add_argument('--categories', type=Path, metavar='FILE', help='the classes: one name per line, or JSON')
    parser.add_argument('--stuff', type=names, metavar='A,B', help='stuff classes (default: as the format says)')
    parser.add_argument('--background', metavar='NAME', help='stuff class of pixels without a label (default: void)')
    parser.add_argument('--order', choices=ORDERS, help='which shapes are on top (default: as in the format, or area)')
    parser.add_argument('--split', type=float, metavar='SHARE', help='share of the images for training')
    parser.add_argument('--split-by', choices=WAYS, default='image', help='what stays together (default: %(default)s)')
    parser.add_argument('--copy-images', action='store_true', help='copy images instead of linking them')
    parser.add_argument('--workers', type=int, default=2, help='number of processes (default: %(default)s)')
    cli.add_image_arguments(parser)
    return parser.parse_args(argv)


def ask_stuff(classes: Sequence[dict[str, Any]], given: list[str] | None) -> list[str] | None:
    """Names of the stuff classes; ask for them if they are not given and there is a terminal."""
    if given is not None or not classes or any('isthing' in entry for entry in classes):
        return given
    listed = ', '.join(entry['name'] for entry in classes)
    if sys.stdin is None or not sys.stdin.isatty():
        print(f'All classes are things, as --stuff names none: {listed}')
        return None
    try:
        return names(input(f'Classes: {listed}\nWhich are stuff (sky, road), between commas; none: Enter. '))
    except EOFError:
        return None


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Read the labels and write the dataset; see :func:`~mmpanoptic.importers.write_dataset` for the report."""
    if not args.source.exists():
        raise UserError(f'{args.source} does not exist: name {READERS[args.format].says}')
    if args.source.suffix.lower() == '.zip':
        raise UserError(f'{args.source} is a zip: unpack it, and name {READERS[args.format].says}')
    if args.images is not None and not args.images.is_dir():
        raise UserError(f'{args.images} is no folder: name that of the images', 'images')
    given = given_classes(args.categories) if args.categories else None
    reader = READERS[args.format]
    stuff = args.stuff if given is None else ask_stuff(given, args.stuff)
    undecided = [entry['name'] for entry in given or () if 'isthing' not in entry]
    named = [*(stuff or ()), *(name for name in undecided if name == args.background)]
    labels: Labels = reader.read(args.source, args.images, *([given, named] if reader.takes_classes else []))
    if not labels.images and labels.left_out:
        raise UserError(f'no image can be imported, the first because of this: {labels.left_out[0].reason}')
    classes = labels.classes if given is None else given
    stuff = ask_stuff(classes, stuff) if given is None else stuff
    source = str(args.categories or args.source)
    split_of = None
    if args.split is not None:
        split_of = split_names([image.name for image in labels.images], args.split, args.split_by)
    plan = Plan(
        decide(classes, stuff, args.background, source),
        args.order or reader.order,
        args.background,
        split_of,
        args.copy_images,
        args.workers,
        source,
    )
    return write_dataset(labels, args.out, plan)


def show(report: dict[str, Any], out: Path) -> None:
    """Print what was written and what was left out."""
    for split, part in report['splits'].items():
        segments = [f'{number} {name}' for name, number in part['segments'].items() if number]
        absent = len(part['segments']) - len(segments)
        rest = f'; none of {absent} classes' if absent else ''
        print(f'{split}: {part["images"]} images, segments: {", ".join(segments) or "none"}{rest}')
        print(
            f'  {part["instances"]} instances, {part["hidden_instances"]} of them hidden by others; '
            f'{part["overlapping_pixels"]} pixels of several shapes (on top: by {report["order"]}); '
            f'{part["void_share"]:.1%} void'
        )
    if left_out := report['left_out']:
        print(f'{len(left_out)} left out (all of them: {out / REPORT}):')
        for entry in left_out[:_SHOWN]:
            print(f'  {entry["file"]}: {entry["what"]}: {entry["reason"]}')
    missing = {'train', 'val'} - report['splits'].keys()
    if missing:
        print(f'There is no {" and no ".join(sorted(missing))}/: a training needs both; --split 0.8 makes them')
    print(f"In a config: data_root = '{os.path.join(out, '')}'")


def main(argv: Sequence[str] | None = None) -> None:
    """Import the labels and print a report."""
    args = parse_args(argv)
    show(make(args), args.out)


if __name__ == '__main__':
    cli.run(main)
