"""Measure the time per image of a model, split into network and fusion.

python tools/analysis_tools/benchmark.py CONFIG [CHECKPOINT] [--val] [--images 20] [--device cuda:0]

Images go through one by one, after --warmup others. The time is that from the image at the test size to the panoptic
map at the original size, without loading and resizing; 'network' is all of it but the fusion head.
"""

import argparse
import runpy
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from rich.console import Console
from rich.table import Table
from torch import nn

from mmpanoptic.apis import load_model
from mmpanoptic.registry import DATASETS
from mmpanoptic.utils import UserError, cli

ENVIRONMENT = ('CPU', 'GPUs', 'torch', 'torch built for', 'mmcv', 'python', 'git commit')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Time per image of a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file; without, weights are random')
    parser.add_argument('--val', action='store_true', help="the config's validation images instead of random ones")
    parser.add_argument('--images', type=int, default=20, help='number of images (default: 20)')
    parser.add_argument('--warmup', type=int, default=3, help='images that are not timed (default: 3)')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: the GPU if there is one, else cpu)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    parser.add_argument('--trust-checkpoint', action='store_true', help='load checkpoints that hold Python objects')
    return parser.parse_args()


def input_size(config: Config) -> tuple[int, int]:
    """Height and width of the images that the test pipeline makes: its last fixed scale, the long side across.

    Raises:
        UserError: If the pipeline has none.
    """
    scales = [transform['scale'] for transform in get_test_pipeline_cfg(config) if 'scale' in transform]
    if not scales:
        raise UserError('the test pipeline does not resize to a scale: use --val')
    return min(scales[-1]), max(scales[-1])


def random_inputs(config: Config, number: int) -> list[dict]:
    """Random images of the test size, as a dataset would give them."""
    height, width = input_size(config)
    meta = dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0))
    generator = torch.Generator().manual_seed(0)
    return [
        dict(
            inputs=torch.randint(256, (3, height, width), dtype=torch.uint8, generator=generator),
            data_samples=DetDataSample(metainfo=dict(meta)),
        )
        for _ in range(number)
    ]


def val_inputs(config: Config, number: int) -> list[dict]:
    """The first validation images; over again if there are not as many."""
    dataset = DATASETS.build(config.val_dataloader.dataset)
    return [dataset[i % len(dataset)] for i in range(number)]


def measure(model: nn.Module, inputs: list[dict], warmup: int) -> dict[str, list[float]]:
    """Milliseconds per image by part: 'network' and 'fusion' if the model has a fusion head, and 'total'."""
    device = next(model.parameters()).device

    def synchronize() -> None:
        if device.type == 'cuda':
            torch.cuda.synchronize(device)

    times: dict[str, list[float]] = {'network': [], 'fusion': [], 'total': []}

    def timed(function: Callable, part: str) -> Callable:
        def wrapper(*args, **kwargs):
            synchronize()
            start = time.perf_counter()
            result = function(*args, **kwargs)
            synchronize()
            times[part].append(1000 * (time.perf_counter() - start))
            return result

        return wrapper

    fusion_head = getattr(model, 'panoptic_fusion_head', None)
    if fusion_head is not None:
        fusion_head.predict = timed(fusion_head.predict, 'fusion')
    step = timed(model.test_step, 'total')
    try:
        with torch.no_grad():
            for one in inputs:
                step(pseudo_collate([one]))
    finally:
        if fusion_head is not None:
            del fusion_head.predict  # the class's method again
    if not times['fusion']:
        return {'total': times['total'][warmup:]}
    times['network'] = [total - fusion for total, fusion in zip(times['total'], times['fusion'], strict=True)]
    return {part: values[warmup:] for part, values in times.items()}


def main() -> None:
    args = parse_args()
    if args.images < 1 or args.warmup < 0:
        raise UserError('--images must be 1 or more, --warmup 0 or more')
    config = cli.load_config(args.config, args.cfg_options)
    torch.manual_seed(0)
    model, _ = load_model(config, args.checkpoint, args.device, args.trust_checkpoint)
    inputs = (val_inputs if args.val else random_inputs)(config, args.warmup + args.images)
    times = measure(model, inputs, args.warmup)

    source = 'validation' if args.val else 'random'
    height, width = inputs[0]['inputs'].shape[-2:]
    print(f'{args.config}, {args.checkpoint or "random weights: hardly an instance to fuse"}')
    print(f'{args.images} {source} images, the first of {height}x{width}, on {next(model.parameters()).device}')
    table = Table('part')
    for header in ('median, ms', 'min, ms'):
        table.add_column(header, justify='right')
    for part, values in times.items():
        table.add_row(part, f'{median(values):.1f}', f'{min(values):.1f}')
    collect = runpy.run_path(str(Path(__file__).resolve().parents[1] / 'misc' / 'collect_env.py'))['collect']
    environment = collect()
    machine = Table(show_header=False)
    for key in ENVIRONMENT:
        machine.add_row(key, environment[key])
    Console().print(table, machine)


if __name__ == '__main__':
    cli.run(main)
