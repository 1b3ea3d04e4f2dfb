"""Print the multiply-adds and parameters of a model's parts.

python tools/analysis_tools/get_flops.py CONFIG [--shape 800 1333]

The model has random weights and predicts one random image. Score thresholds and NMS are switched off, so that there are
always as many proposals and detections as the config allows.
"""

import argparse
from collections.abc import Callable, Iterator

import torch
from mmdet.models.roi_heads.base_roi_head import BaseRoIHead
from mmdet.structures import DetDataSample
from rich.console import Console
from rich.table import Table

from mmpanoptic.analysis.operations import count_multiply_adds, sum_by_part
from mmpanoptic.apis import load_model
from mmpanoptic.engine import cli
from mmpanoptic.engine.configs import load_config
from mmpanoptic.utils import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Multiply-adds and parameters of a model's parts")
    parser.add_argument('config', help='config file')
    parser.add_argument('--shape', nargs=2, type=int, default=(800, 1333), metavar=('H', 'W'), help='size of the image')
    parser.add_argument('--device', default='cpu', help='device to run on (default: cpu)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    return parser.parse_args()


def keep_all(config: dict) -> None:
    """Switch off score thresholds and NMS in a model's config, in place; maximum numbers stay."""
    for key, value in config.items():
        if isinstance(value, dict):
            keep_all(value)
        elif key in ('score_thr', 'conf_thr', 'iou_threshold'):
            config[key] = 1.0 if key == 'iou_threshold' else 0.0


def rows(model: torch.nn.Module, run: Callable) -> Iterator[tuple[str, int, int]]:
    """Names, multiply-adds and parameters of the parts of a model, without parts that have neither."""
    split = tuple(name for name, child in model.named_children() if isinstance(child, BaseRoIHead))
    counts = sum_by_part(count_multiply_adds(model, run), split)
    parameters = sum_by_part({name: p.numel() for name, p in model.named_parameters()}, split)
    for name in dict.fromkeys([*parameters, *counts]):
        yield name, counts.get(name, 0), parameters.get(name, 0)


def main() -> None:
    args = parse_args()
    height, width = args.shape
    if min(args.shape) < 1:
        raise UserError(f'--shape {height} {width}: a height and a width in pixels are needed')
    config = load_config(args.config, args.cfg_options)
    keep_all(config.model)
    torch.manual_seed(0)
    model, _ = load_model(config, device=args.device)

    meta = dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0))
    image = torch.randint(256, (3, height, width), dtype=torch.uint8)
    data = model.data_preprocessor(dict(inputs=[image], data_samples=[DetDataSample(metainfo=meta)]))
    padded = data['inputs'].shape[-2:]
    print(f'{args.config}, an image of {height}x{width}, padded to {padded[0]}x{padded[1]}')
    table = Table('part')
    for header in ('multiply-adds, G', 'parameters'):
        table.add_column(header, justify='right')
    with torch.no_grad():
        found = list(rows(model, lambda: model(**data, mode='predict')))
    for name, multiply_adds, parameters in found:
        table.add_row(name, f'{multiply_adds / 1e9:.3f}', f'{parameters:,}')
    table.add_section()
    table.add_row('total', f'{sum(row[1] for row in found) / 1e9:.3f}', f'{sum(row[2] for row in found):,}')
    Console().print(table)


if __name__ == '__main__':
    cli.run(main)
