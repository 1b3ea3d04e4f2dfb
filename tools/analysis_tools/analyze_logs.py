"""Show curves of losses and scores of one or several trainings in a table and a picture.

python tools/analysis_tools/analyze_logs.py WORK_DIR... [--keys loss panoptic/PQ] [--out curves.png]
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmpanoptic.analysis.logs import choose_keys, draw_curves, read_curves
from mmpanoptic.engine import cli
from mmpanoptic.utils import UserError, require_folder


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Curves of losses and scores of trainings')
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='work dir of a training')
    parser.add_argument(
        '--keys', nargs='+', metavar='KEY', help='logged values to show (default: the loss and the main scores)'
    )
    parser.add_argument('--out', type=Path, metavar='FILE', help='picture to write, such as curves.png')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    runs = {name: read_curves(name) for name in dict.fromkeys(args.work_dirs)}
    keys = choose_keys(runs, args.keys)
    table = Table('run', 'key')
    for header in ('values', 'first', 'last', 'lowest', 'highest'):
        table.add_column(header, justify='right')
    for name, curves in runs.items():
        for key in keys:
            if curve := curves.get(key):
                ends = [
                    f'{value:.4g} @ {curve.steps[curve.values.index(value)]}'
                    for value in (min(curve.values), max(curve.values))
                ]
                table.add_row(
                    name, key, str(len(curve.values)), f'{curve.values[0]:.4g}', f'{curve.values[-1]:.4g}', *ends
                )
    Console(markup=False, highlight=False, emoji=False).print(table)
    print('values as logged; @ is followed by the iteration')
    if args.out is not None:
        require_folder(str(args.out.parent), '--out')
        if args.out.is_dir():
            raise UserError(f'--out {args.out} is a folder: name a file')
        draw_curves(runs, keys, args.out)
        print(f'Curves written to {args.out}')


if __name__ == '__main__':
    cli.run(main)
