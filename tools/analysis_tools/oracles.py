"""Compute PQ with the ground truth's order, semantics, boxes, masks or classes, one by one and cumulatively.

python tools/analysis_tools/oracles.py CONFIG RESULTS.pkl [--oracles semantics order masks] [--checkpoint FILE]
    [--images N] [--out scores.json] [--cfg-options k=v ...]

RESULTS.pkl is written by tools/test.py --out RESULTS.pkl --evidence. Parts of its evidence are replaced by the ground
truth, and the fusion head of the config fuses it again. No model runs. --oracles names the replaced parts (--help lists
them) in the order in which they are combined; the default is all that the fusion head supports.
"""

import argparse
import json
import os.path as osp

from mmengine.registry import init_default_scope
from rich.console import Console

from mmpanoptic.analysis.oracle_scores import choose, plain_of, score_combinations, table_of
from mmpanoptic.analysis.oracles import ORACLES
from mmpanoptic.engine import cli
from mmpanoptic.engine.configs import load_config, require_keys
from mmpanoptic.engine.results import fusion_head, read_results
from mmpanoptic.utils import UserError, require_folder, sole_writer, write_whole


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='PQ with parts of the evidence replaced by ground truth')
    parser.add_argument('config', help='config that the results were made with')
    parser.add_argument('results', metavar='RESULTS.pkl', help='file that tools/test.py --out --evidence wrote')
    what = '; '.join(f'{name}: {text}' for name, text in ORACLES.items())
    parser.add_argument('--oracles', nargs='+', metavar='NAME', help=f'parts to take from the ground truth. {what}')
    parser.add_argument('--checkpoint', help='weights of the fusion head, if it has any')
    parser.add_argument('--images', type=int, metavar='N', help='use only the first N images')
    parser.add_argument('--out', metavar='FILE.json', help='write all scores')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_image_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.images is not None and args.images < 1:
        raise UserError(f'--images {args.images}: at least one image is needed')
    if args.out is not None:
        require_folder(osp.dirname(args.out), '--out')
        if osp.isdir(args.out):
            raise UserError(f'--out {args.out} is a folder: name a file')
    config = load_config(args.config, args.cfg_options)
    require_keys(config, 'test_dataloader')
    init_default_scope(config.get('default_scope') or 'mmpanoptic')
    head = fusion_head(config, args.checkpoint)
    oracles, notes = choose(head, args.oracles)
    for note in notes:
        print(f'note: {note}')
    scores = score_combinations(config, head, read_results(args.results), oracles, args.results, args.images)
    Console().print(table_of(scores, oracles))
    if args.out is not None:
        with sole_writer(args.out, '--out'):
            write_whole(args.out, json.dumps(plain_of(scores), indent=1))


if __name__ == '__main__':
    cli.run(main)
