"""Measure the gradients of stuff and instances at the shared backbone during training: figure 5 of OANet.

python tools/analysis_tools/branch_gradients.py CONFIG [CHECKPOINT] --out DIR [--iters N] [--interval 10]

The model is trained as in the config, from CHECKPOINT if it is given, without validation and checkpoints. Every
--interval iterations, the tool measures the mean magnitude of the gradient of each branch's losses with respect to the
last map of the backbone. DIR gets branch_gradients.csv and branch_gradients.png. In the figure of the paper, the stuff
loss has weight 1:

python tools/analysis_tools/branch_gradients.py configs/oanet/ablations/table1_lambda-100.py --out work_dirs/figure5
"""

import argparse
import os
from collections.abc import Sequence

import matplotlib
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmpanoptic.analysis.short_training import only_train
from mmpanoptic.engine import cli
from mmpanoptic.engine.checkpoint_files import use_strict_loading
from mmpanoptic.engine.components import build_dataset
from mmpanoptic.engine.configs import load_config
from mmpanoptic.engine.hooks import BranchGradientHook
from mmpanoptic.engine.hooks.branch_gradient_hook import BRANCHES, INSTANCE, STUFF
from mmpanoptic.engine.precision import use_full_precision
from mmpanoptic.engine.runner import build_runner
from mmpanoptic.utils import UserError, require_file
from mmpanoptic.visualization.files import write_figure


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Gradients of stuff and of instances at the last map of the backbone')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='weights to start from (default: those that the config names)')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the CSV file, the picture and the log')
    parser.add_argument('--iters', type=int, help='number of iterations (default: an epoch)')
    parser.add_argument('--interval', type=int, default=10, help='iterations between measurements (default: 10)')
    for name, parts in (('--stuff', STUFF), ('--instance', INSTANCE)):
        text = f'parts of the names of the losses of this branch (default: {" ".join(parts)})'
        parser.add_argument(name, nargs='+', default=parts, metavar='PART', help=text)
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_checkpoint_arguments(parser, checks_values=False)
    cli.add_image_arguments(parser)
    return parser.parse_args()


def epoch_length(config: Config) -> int:
    """Number of batches in an epoch of a config."""
    return -(-len(build_dataset(config, 'train_dataloader')) // config.train_dataloader['batch_size'])


def plot_rows(rows: Sequence[tuple[int, float, float]], path: str) -> None:
    """Plot a line for each branch over the iterations."""
    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout='constrained')
    iterations, *values = zip(*rows, strict=True)
    for branch, magnitudes in zip(BRANCHES, values, strict=True):
        axes.plot(iterations, magnitudes, marker='.', label=branch)
    axes.set(xlabel='iteration', ylabel='mean magnitude of the gradient', ylim=(0, None))
    axes.legend(title='losses of')
    write_figure(figure, path)
    pyplot.close(figure)


def main() -> None:
    args = parse_args()
    for name, value in (('--iters', args.iters), ('--interval', args.interval)):
        if value is not None and value < 1:
            raise UserError(f'{name} {value}: at least 1 is needed')
    config = load_config(args.config, args.cfg_options, args.out)
    config.launcher = 'none'
    use_strict_loading(args.trust_checkpoint)
    if args.checkpoint is not None:
        require_file(args.checkpoint, 'checkpoint')
        config.load_from = args.checkpoint
    init_default_scope(config.default_scope)
    only_train(config, args.iters or epoch_length(config))
    use_full_precision(config)
    runner = build_runner(config)
    hook = BranchGradientHook(args.interval, stuff=args.stuff, instance=args.instance)
    runner.register_hook(hook)
    runner.train()

    for branch, values in zip(BRANCHES, list(zip(*hook.rows, strict=True))[1:], strict=True):
        print(f'{branch}: {sum(values) / len(values):.3g} on average of {len(values)} measurements')
    picture = os.path.join(args.out, 'branch_gradients.png')
    plot_rows(hook.rows, picture)
    print(f'{hook.out_file}, {picture}')


if __name__ == '__main__':
    cli.run(main)
