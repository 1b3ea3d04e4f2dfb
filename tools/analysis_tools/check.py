"""Check all files of a dataset and print statistics.

python tools/analysis_tools/check.py JSON [--panoptic-dir DIR] [--images DIR] [--workers N] [--out report.json]
python tools/analysis_tools/check.py CONFIG [--workers N] [--out report.json]

JSON is a panoptic or an instances annotation file. With a CONFIG, all its datasets are checked, and training and
validation data are compared: classes that one of them lacks, images that are in both or look the same. Up to 20 faults
of each kind are listed; with any fault, the exit status is 1. Notable facts that are no faults are warnings.
"""

import argparse
import json
import os.path as osp
import sys
from functools import partial

from mmengine.registry import init_default_scope

from mmpanoptic.analysis.dataset_report import listed, source_of_json, sources_of_config, tables
from mmpanoptic.datasets.inspection import inspect
from mmpanoptic.datasets.statistics import statistics_of, warnings_of
from mmpanoptic.engine import cli
from mmpanoptic.engine.configs import load_config
from mmpanoptic.utils import UserError, require_folder, sole_writer, tracked_map, write_whole


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Faults and statistics of a dataset')
    parser.add_argument('target', metavar='JSON|CONFIG', help='annotation file (.json), or a config')
    parser.add_argument('--panoptic-dir', metavar='DIR', help='PNGs of a panoptic JSON (default: named as the JSON)')
    parser.add_argument('--images', metavar='DIR', help='folder of its images (default: do not check images)')
    parser.add_argument('--workers', type=int, default=1, metavar='N', help='processes that decode (default: 1)')
    parser.add_argument('--out', metavar='FILE.json', help='write the statistics, warnings and all faults')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_image_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.out is not None:
        require_folder(osp.dirname(args.out), '--out')
    init_default_scope('mmpanoptic')
    if args.target.endswith('.json'):
        sources = [('data', source_of_json(args.target, args.panoptic_dir, args.images), None)]
    elif args.panoptic_dir or args.images:
        raise UserError(f'{args.target} is a config, which names its folders: leave out --panoptic-dir and --images')
    else:
        sources = list(sources_of_config(load_config(args.target, args.cfg_options)))
    found, faults = {}, {}
    for split, source, refusal in sources:
        found[split] = inspect(source, partial(tracked_map, workers=args.workers, description=f'Reading {split}'))
        faults[split] = dict(found[split].faults)
        if refusal is not None and not any(refusal in lines for lines in faults[split].values()):
            faults[split]['dataset'] = [refusal]
    statistics = {split: statistics_of(inspection) for split, inspection in found.items()}
    warnings = warnings_of(found, statistics)
    print(tables(statistics))
    for warning in warnings:
        print(f'warning: {warning["text"]}:\n{listed(warning["items"])}')
    for split, by_kind in faults.items():
        for kind, lines in by_kind.items():
            print(f'error: {split}: {len(lines)} in {kind}:\n{listed(lines)}')
    if args.out is not None:
        with sole_writer(args.out, '--out'):
            report = dict(statistics=statistics, warnings=warnings, faults=faults)
            write_whole(args.out, json.dumps(report, indent=1))
    if any(faults.values()):
        sys.exit(1)
    print('no fault was found')


if __name__ == '__main__':
    cli.run(main)
