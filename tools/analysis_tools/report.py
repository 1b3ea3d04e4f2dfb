"""Make a page that shows where panoptic quality is lost: causes, classes, and images with their segments.

python tools/analysis_tools/report.py GT_JSON GT_DIR PRED_JSON [PRED_DIR] --images DIR [-o report.html]
    [--against JSON DIR] [--instances JSON] [--pictures 60] [--bootstrap 1000] [--workers N]

All files are in COCO's panoptic format. The page is a single file that loads no other files. It lists all images and
shows pictures of a selection: the worst, the best, the most typical, those that lose most points and, with two sets of
predictions, those that differ most. Plots need plotly: pip install plotly.
"""

import argparse
import os.path as osp
from functools import partial

from mmpanoptic.engine import cli
from mmpanoptic.evaluation.file_scores import Bootstrap, score_files
from mmpanoptic.formats.file_sources import default_folder
from mmpanoptic.report import build_report
from mmpanoptic.utils import UserError, require_folder, sole_writer, tracked_map, write_whole

MAX_BYTES = 30 * 2**20


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='A page that shows where panoptic quality is lost')
    cli.add_file_arguments(parser)
    parser.add_argument('--images', required=True, metavar='DIR', help='folder of the images')
    parser.add_argument('--names', nargs='+', metavar='NAME', help='names of the predictions (default: their files)')
    parser.add_argument('--pictures', type=int, default=60, metavar='N', help='number of images to show (default: 60)')
    parser.add_argument('--bootstrap', type=int, default=1000, metavar='N', help='draws for intervals (default: 1000)')
    parser.add_argument(
        '-o', '--out', default='report.html', metavar='FILE', help='page to write (default: report.html)'
    )
    cli.add_image_arguments(parser)
    return parser.parse_args()


def names_of(args: argparse.Namespace, number: int) -> list[str]:
    """Names of the sets of predictions.

    Raises:
        UserError: If the number of ``--names`` is not the number of sets.
    """
    names = args.names or [args.pred_json, *(args.against or ())[:1]]
    if len(names) != number:
        raise UserError(f'--names has {len(names)} names, and there are {number} sets of predictions')
    return names


def main() -> None:
    args = parse_args()
    if args.pictures < 0:
        raise UserError(f'--pictures {args.pictures}: give a number from 0 on')
    if args.bootstrap < 10:
        raise UserError(f'--bootstrap {args.bootstrap}: an interval needs at least 10 draws')
    if not osp.isdir(args.images):
        raise UserError(f'--images {args.images} is no folder')
    require_folder(osp.dirname(args.out), '--out')
    predictions = [(args.pred_json, args.pred_dir or default_folder(args.pred_json))]
    predictions += [tuple(args.against)] if args.against else []
    names = names_of(args, len(predictions))
    mapper = partial(tracked_map, workers=args.workers, description='Counting')
    instances = (args.instances, args.score_thr) if args.instances else None
    bootstrap = Bootstrap(args.bootstrap)
    result = score_files(
        args.gt_json, args.gt_dir, predictions, bootstrap, args.trust_categories, mapper, instances, segments=True
    )
    page = build_report(result, (args.gt_json, args.gt_dir), predictions, names, args.images, args.pictures).encode()
    with sole_writer(args.out, '--out'):
        write_whole(args.out, page)
    print(f'PQ {100 * result["scores"]["All"]["pq"]:.2f}, {len(page) / 2**20:.1f} MB: {args.out}')
    if len(page) > MAX_BYTES:
        print(
            f'note: the page is large for browsers: --pictures {max(1, args.pictures * MAX_BYTES // len(page))} is less'
        )


if __name__ == '__main__':
    cli.run(main)
