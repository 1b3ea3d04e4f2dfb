"""Compare the configs and scores of two runs.

python tools/analysis_tools/compare_runs.py WORK_DIR WORK_DIR

The configs are those that the runs wrote into their work dirs. They are Python code, which is executed.
"""

import argparse

from rich.console import Console
from rich.table import Table

from mmpanoptic.analysis.logs import differences, flatten, read_config, read_scores
from mmpanoptic.engine import cli

NOT_TOLD = ('work_dir', 'load_from', 'resume', 'launcher')  # paths and launch options, which do not change results


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Differences between the configs and the scores of two runs')
    parser.add_argument('one', metavar='WORK_DIR', help='work dir of a run, a training or a test')
    parser.add_argument('other', metavar='WORK_DIR', help='work dir of the other run')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    console = Console(markup=False, highlight=False, emoji=False)
    one, other = (flatten(read_config(path)._cfg_dict.to_dict()) for path in (args.one, args.other))
    table = Table('config key', args.one, args.other)
    for key, values in differences(one, other).items():
        if key not in NOT_TOLD:
            table.add_row(key, *('' if value is None else repr(value) for value in values))
    console.print(table if table.row_count else 'The configs are the same.')
    one, other = read_scores(args.one), read_scores(args.other)
    table = Table('score')
    for header in (args.one, args.other, 'difference'):
        table.add_column(header, justify='right')
    for key in dict.fromkeys([*one, *other]):
        values = one.get(key), other.get(key)
        difference = '' if None in values else f'{values[1] - values[0]:+.4f}'
        table.add_row(key, *('' if value is None else f'{value:.4f}' for value in values), difference)
    console.print(table)


if __name__ == '__main__':
    cli.run(main)
