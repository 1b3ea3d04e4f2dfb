"""Show which levels adaptive feature pooling takes features from: PANet's figure 3 for a trained model.

python tools/analysis_tools/adaptive_pooling_levels.py CONFIG CHECKPOINT [--num-images N] [--out plot.png]

RoIs are grouped by the level that FPN would assign them to. A row lists the shares of the elements of max-pooled
features that come from each level. Elements that are zero on all levels are not counted.
"""

import argparse
import contextlib
import os
from pathlib import Path

import matplotlib
import torch
from matplotlib.backend_bases import FigureCanvasBase
from mmengine.dataset import pseudo_collate
from rich.table import Table
from torch import Tensor

from mmpanoptic.apis import load_model
from mmpanoptic.engine import cli
from mmpanoptic.engine.components import build_dataset
from mmpanoptic.engine.configs import load_config
from mmpanoptic.evaluation.tables import render
from mmpanoptic.models import AdaptivePooling
from mmpanoptic.models.layers import assigned_levels, count_sources
from mmpanoptic.utils import UserError, require_file, require_folder, sole_writer
from mmpanoptic.visualization.files import write_figure


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Levels that max-pooled RoI features come from')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--num-images', type=int, default=100, help='number of images of the test set (default: 100)')
    parser.add_argument(
        '--head', choices=['bbox', 'mask'], default='bbox', help='RoIs: proposals (bbox) or detections (mask)'
    )
    parser.add_argument(
        '--finest-scale', type=float, default=56, help='RoIs smaller than twice this belong to level 1 (default: 56)'
    )
    parser.add_argument('--out', metavar='PLOT.png', help='write the plot')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_checkpoint_arguments(parser)
    cli.add_image_arguments(parser)
    return parser.parse_args()


class SourceProbe:
    """Count the source levels of features whenever a RoI head of a model runs.

    Args:
        model: A detector with a RoI head.
        head: 'bbox' or 'mask'.
        finest_scale: See :func:`~mmpanoptic.models.layers.assigned_levels`.

    Attributes:
        counts: Counts of shape (L, L), see :func:`~mmpanoptic.models.layers.count_sources`.
        num_rois: Numbers of RoIs by assigned level, of shape (L,).

    Raises:
        UserError: If that head has no adaptive pooling with the maximum.
    """

    def __init__(self, model: torch.nn.Module, head: str = 'bbox', finest_scale: float = 56) -> None:
        roi_head = getattr(model, 'roi_head', None)
        modules = getattr(roi_head, f'{head}_head', torch.nn.Module()).modules()
        pooling = next((module for module in modules if isinstance(module, AdaptivePooling)), None)
        if pooling is None or pooling.fuse != 'max' or pooling.num_levels < 2:
            raise UserError(f'the model has no {head} head that takes the maximum over levels: see configs/panet')
        self.finest_scale = finest_scale
        self.counts = torch.zeros(pooling.num_levels, pooling.num_levels, dtype=torch.long)
        self.num_rois = torch.zeros(pooling.num_levels, dtype=torch.long)
        getattr(roi_head, f'{head}_roi_extractor').register_forward_hook(self._keep_levels)
        pooling.register_forward_hook(self._count)

    def _keep_levels(self, extractor: torch.nn.Module, args: tuple, out: Tensor) -> None:
        self.assigned = assigned_levels(args[1], len(self.num_rois), self.finest_scale)

    def _count(self, pooling: AdaptivePooling, args: tuple, out: Tensor) -> None:
        features = torch.stack(pooling.fusion_inputs(args[0]), dim=1)
        self.counts += count_sources(features, self.assigned).cpu()
        self.num_rois += self.assigned.bincount(minlength=len(self.num_rois)).cpu()

    def shares(self) -> Tensor:
        """Rows of ``counts`` divided by their sums; NaN for a level without RoIs."""
        return self.counts / self.counts.sum(1, keepdim=True)


def share_table(shares: Tensor, num_rois: Tensor) -> str:
    """Shares in percent as text, a row for each level that RoIs are assigned to."""
    table = Table(title='source of max-pooled features, in %')
    table.add_column('assigned to')
    for level in range(len(shares)):
        table.add_column(f'level {level + 1}', justify='right')
    table.add_column('RoIs', justify='right')
    for level, (row, count) in enumerate(zip(shares.tolist(), num_rois.tolist(), strict=True)):
        cells = (f'{100 * share:.1f}' if share == share else '-' for share in row)  # NaN differs from itself
        table.add_row(f'level {level + 1}', *cells, str(count))
    return render(table)


def plot_shares(shares: Tensor, path: str) -> None:
    """Plot a line for each level that RoIs are assigned to, over the level that features come from."""
    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 4), layout='constrained')
    levels = range(1, len(shares) + 1)
    for level, row in zip(levels, shares.tolist(), strict=True):
        axes.plot(levels, row, marker='o', label=f'level {level}')
    axes.set(xlabel='level that features come from', ylabel='share', xticks=list(levels), ylim=(0, None))
    axes.legend(title='RoIs assigned to')
    write_figure(figure, path)
    pyplot.close(figure)


def main() -> None:
    args = parse_args()
    if args.num_images < 1:
        raise UserError(f'--num-images {args.num_images}: at least one is needed')
    with contextlib.ExitStack() as stack:
        if args.out is not None:
            check_plot(args.out)
            stack.enter_context(sole_writer(args.out, '--out'))
        show_levels(args)


def check_plot(path: str) -> None:
    """Refuse a path to which the plot cannot be written, before the model runs.

    Raises:
        UserError: If the folder cannot be written to, or matplotlib does not know the format.
    """
    formats = FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix[1:] not in formats:
        raise UserError(f'--out {path}: the name must end in one of .{", .".join(sorted(formats))}')
    require_folder(os.path.dirname(path), '--out')


def show_levels(args: argparse.Namespace) -> None:
    """Print the table and, with ``--out``, write the plot."""
    config = load_config(args.config, args.cfg_options)
    require_file(args.checkpoint, 'checkpoint')
    model, _ = load_model(config, args.checkpoint, trust_checkpoint=args.trust_checkpoint, allow_nan=args.allow_nan)
    probe = SourceProbe(model, args.head, args.finest_scale)
    dataset = build_dataset(config, 'test_dataloader')
    with torch.no_grad():
        for index in range(min(args.num_images, len(dataset))):
            model.test_step(pseudo_collate([dataset[index]]))
    shares = probe.shares()
    print(share_table(shares, probe.num_rois))
    if args.out is not None:
        plot_shares(shares, args.out)
        print(f'plot: {args.out}')


if __name__ == '__main__':
    cli.run(main)
