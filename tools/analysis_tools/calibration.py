"""Measure by class whether scores of predicted segments are probabilities: reliability and calibration error.

python tools/analysis_tools/calibration.py GT_JSON GT_DIR PRED_JSON [PRED_DIR] [--bins 10] [--workers N]

All files are in COCO's panoptic format; segments of predictions need scores, as mmpanoptic predict writes them. A
segment is right if it matches one of the ground truth (IoU above 0.5). Its purity is the share of its pixels that
belong to its class.
"""

import argparse
from functools import partial

from rich.table import Table

from mmpanoptic.engine import cli
from mmpanoptic.evaluation.calibration import Rated, rated_segments, reliability
from mmpanoptic.evaluation.panoptic_files import count_files
from mmpanoptic.evaluation.tables import render
from mmpanoptic.formats.file_sources import default_folder, read_json_of
from mmpanoptic.utils import UserError, tracked_map


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Whether scores of segments are probabilities')
    parser.add_argument('gt_json', help="the ground truth's panoptic JSON, or a zip with one in it")
    parser.add_argument('gt_dir', help='folder or zip of the PNGs of the ground truth')
    parser.add_argument('pred_json', help="the predictions' JSON, or a zip with it and the PNGs")
    parser.add_argument('pred_dir', nargs='?', help='folder or zip of the predicted PNGs (default: named as the JSON)')
    parser.add_argument('--bins', type=int, default=10, metavar='N', help='number of bins of scores (default: 10)')
    parser.add_argument('--workers', type=int, default=1, metavar='N', help='processes that decode (default: 1)')
    cli.add_image_arguments(parser)
    return parser.parse_args()


def class_table(rated: Rated, categories: list[dict], bins: int) -> str:
    """Mean scores, shares of right segments and calibration errors, by class and for things and stuff; in percent."""
    table = Table('class', *('segments', 'score', 'right', 'pure', 'ECE (right)', 'ECE (pure)'))
    by_label = sorted(categories, key=lambda category: category['label'])
    rows = [(category['name'], [category['label']]) for category in by_label]
    rows += [(name, [c['label'] for c in by_label if c['isthing'] == k]) for name, k in (('Things', 1), ('Stuff', 0))]
    for name, labels in rows:
        places = [place for place, label in enumerate(rated.label) if label in labels]
        if places:
            score, right, pure = (getattr(rated, key)[places] for key in ('score', 'matched', 'purity'))
            errors = [reliability(score, values, bins).error for values in (right, pure)]
            cells = (score.mean(), right.mean(), pure.mean(), *errors)
            table.add_row(name, str(len(places)), *(f'{100 * value:.1f}' for value in cells))
    return render(table)


def bin_table(rated: Rated, labels: set[int], bins: int, title: str) -> str:
    """Reliability of the segments of some classes, by bins of their scores; in percent."""
    chosen = [label in labels for label in rated.label.tolist()]
    found = reliability(rated.score[chosen], rated.matched[chosen], bins)
    table = Table('score', 'segments', 'mean score', 'right', title=title)
    for place in found.count.nonzero()[0].tolist():
        span = f'{100 * place / bins:.0f} to {100 * (place + 1) / bins:.0f}'
        table.add_row(
            span, str(found.count[place]), f'{100 * found.score[place]:.1f}', f'{100 * found.share[place]:.1f}'
        )
    return render(table)


def main() -> None:
    args = parse_args()
    if args.bins < 1:
        raise UserError(f'--bins {args.bins}: give a number from 1 on')
    mapper = partial(tracked_map, workers=args.workers, description='Counting')
    pred_dir = args.pred_dir or default_folder(args.pred_json)
    counted = count_files(args.gt_json, args.gt_dir, [(args.pred_json, pred_dir)], mapper)
    scores = {
        (annotation['image_id'], segment['id']): float(segment['score'])
        for annotation in read_json_of(args.pred_json)['annotations']
        for segment in annotation['segments_info']
        if segment.get('score') is not None
    }
    if not scores:
        raise UserError(f'{args.pred_json}: no segment has a score: write predictions by mmpanoptic predict')
    rated = rated_segments(counted.sets[0], scores, [image['id'] for image in counted.images])
    print(class_table(rated, counted.categories, args.bins))
    for title, isthing in (('Things', True), ('Stuff', False)):
        labels = {category['label'] for category in counted.categories if bool(category['isthing']) == isthing}
        print(bin_table(rated, labels, args.bins, title))


if __name__ == '__main__':
    cli.run(main)
