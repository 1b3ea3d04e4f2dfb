"""Score panoptic predictions in files as the official tool does, and list the causes of all lost points.

python tools/analysis_tools/pq.py GT_JSON GT_DIR PRED_JSON [PRED_DIR] [--classwise] [--bootstrap 1000]
    [--against JSON DIR] [--instances JSON] [--workers N] [--out scores.json]

All files are in COCO's panoptic format, which Cityscapes' panoptic files have too. A folder of PNGs may be a zip.
PRED_JSON may be a zip that holds the JSON and the PNGs, as for COCO's server.
"""

import argparse
import json
import os.path as osp
from functools import partial

from mmpanoptic.engine import cli
from mmpanoptic.evaluation.file_scores import Bootstrap, score_files
from mmpanoptic.evaluation.score_tables import account_table, against_table, scores_table
from mmpanoptic.formats.file_sources import default_folder
from mmpanoptic.utils import UserError, require_folder, sole_writer, tracked_map, write_whole
from mmpanoptic.utils.memory import keep_freed_memory


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Panoptic quality of files, and causes of lost points')
    cli.add_file_arguments(parser)
    parser.add_argument('--classwise', action='store_true', help='list every class')
    parser.add_argument(
        '--bootstrap', type=int, metavar='N', help='confidence intervals from N draws of images, such as 1000'
    )
    parser.add_argument('--confidence', type=float, default=0.95, help='confidence of the intervals (default: 0.95)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the draws (default: 0)')
    parser.add_argument('--out', metavar='FILE.json', help='write all scores')
    parser.add_argument('--segments', action='store_true', help='list every segment with its cause and points in --out')
    cli.add_image_arguments(parser)
    return parser.parse_args()


def bootstrap_of(args: argparse.Namespace) -> Bootstrap | None:
    """Settings of the intervals; None without ``--bootstrap``.

    Raises:
        UserError: If there are too few draws, the confidence is not between 0 and 1, or the seed is negative.
    """
    if args.bootstrap is None:
        return None
    if args.bootstrap < 10:
        raise UserError(f'--bootstrap {args.bootstrap}: an interval needs at least 10 draws, 1000 for two digits')
    if not 0 < args.confidence < 1:
        raise UserError(f'--confidence {args.confidence}: give a share such as 0.95')
    if args.seed < 0:
        raise UserError(f'--seed {args.seed}: give a number from 0 on')
    return Bootstrap(args.bootstrap, args.seed, args.confidence)


def main() -> None:
    args = parse_args()
    bootstrap = bootstrap_of(args)
    predictions = [(args.pred_json, args.pred_dir or default_folder(args.pred_json))]
    predictions += [tuple(args.against)] if args.against else []
    if args.segments and args.out is None:
        raise UserError('--segments: say where the list of segments goes by --out')
    if args.out is not None:
        require_folder(osp.dirname(args.out), '--out')
        if osp.isdir(args.out):
            raise UserError(f'--out {args.out} is a folder: name a file')
    mapper = partial(tracked_map, workers=args.workers, description='Counting')
    instances = (args.instances, args.score_thr) if args.instances else None
    result = score_files(
        args.gt_json, args.gt_dir, predictions, bootstrap, args.trust_categories, mapper, instances, args.segments
    )
    for note in result['notes']:
        print(f'note: {note}')
    print(scores_table(result, args.classwise))
    print(account_table(result))
    if args.against:
        print(against_table(result))
    if args.out is not None:
        with sole_writer(args.out, '--out'):
            write_whole(args.out, json.dumps(result, indent=1))


if __name__ == '__main__':
    keep_freed_memory()
    cli.run(main)
