"""Train configs for a few hundred iterations in float32 and in mixed precision, and compare the losses.

python tools/analysis_tools/precision_losses.py CONFIG [CONFIG ...] --out FILE.json [--dtypes float32 bfloat16]
    [--iters 300] [--last 50]

All trainings have the same seed and no validation. The table shows means over the last iterations, NaN if the loss of
any iteration was not finite. The file is written after each training; trainings that are in it are not repeated.
"""

import argparse
import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmpanoptic.analysis.short_training import last_mean, loss_curve
from mmpanoptic.engine import cli
from mmpanoptic.engine.checkpoint_files import use_strict_loading
from mmpanoptic.engine.configs import load_config
from mmpanoptic.engine.precision import DTYPES
from mmpanoptic.utils import UserError, require_file
from mmpanoptic.utils.outputs import whole_file


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Losses of short trainings by precision')
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config files')
    parser.add_argument('--out', required=True, metavar='FILE', help='JSON file for all losses')
    parser.add_argument('--dtypes', nargs='+', choices=['float32', *DTYPES], default=['float32', 'bfloat16'])
    parser.add_argument('--iters', type=int, default=300, help='iterations of each training (default: 300)')
    parser.add_argument('--last', type=int, default=50, help='number of last iterations to average (default: 50)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_image_arguments(parser)
    return parser.parse_args()


def report(curves: dict[str, dict[str, dict[str, list[float]]]], last: int) -> Table:
    """A row for each config and type: the mean loss and its difference from that of the first type."""
    table = Table('config', 'precision', 'iterations')
    for header in (f'loss, mean of {last}', 'difference'):
        table.add_column(header, justify='right')
    for name, by_dtype in curves.items():
        reference = None
        for dtype, losses in by_dtype.items():
            mean = last_mean(losses['loss'], last)
            reference = mean if reference is None else reference
            difference = f'{100 * (mean / reference - 1):+.1f} %'
            table.add_row(name, dtype, str(len(losses['loss'])), f'{mean:.4f}', difference)
    return table


def main() -> None:
    args = parse_args()
    if not 1 <= args.last <= args.iters:
        raise UserError('--iters and --last must be 1 or more, and --last at most --iters')
    use_strict_loading()
    curves = {}
    if Path(args.out).exists():
        require_file(args.out, 'out')
        curves = json.loads(Path(args.out).read_text())
    for path in args.configs:
        by_dtype = curves.setdefault(Path(path).stem, {})
        for dtype in args.dtypes:
            if dtype not in by_dtype:
                with tempfile.TemporaryDirectory() as work_dir:
                    by_dtype[dtype] = loss_curve(load_config(path, args.cfg_options, work_dir), dtype, args.iters)
                with whole_file(args.out) as file:
                    file.write(json.dumps(curves).encode())
    Console().print(report(curves, args.last))


if __name__ == '__main__':
    cli.run(main)
