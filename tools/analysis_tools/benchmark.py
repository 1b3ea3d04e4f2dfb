"""Measure the time per image of a model, split into network and fusion.

python tools/analysis_tools/benchmark.py CONFIG [CHECKPOINT] [--val] [--images 20] [--instances 100] [--device cuda:0]

Images go through one by one, after --warmup others. The time is that from the image at the test size to the panoptic
map at the original size, without loading and resizing; 'network' is all of it but the fusion head. With --instances
that many drawn ones, which overlap, are fused instead of those that the network finds.

The fusion of a head that ranks its instances is split further: 'module', the convolutions over the map of instances by
class; 'scores', all else that the ranking scores take; 'order', the sorting; 'merge', the rest. At a coarser stride:
--cfg-options model.panoptic_fusion_head.stride=4
"""

import argparse
import runpy
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from mmpanoptic.apis import load_model
from mmpanoptic.models import CIAEHead, EmbeddingMap, RankingFusion
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
    parser.add_argument('--instances', type=int, help='fuse so many drawn instances, not the detected ones')
    parser.add_argument('--classes', type=int, default=20, help='of how many classes they are at most (default: 20)')
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


def drawn_instances(number: int, num_classes: int, size: tuple[int, int], device: torch.device) -> InstanceData:
    """Ellipses all over an image, of 1/40 to 1/2 of its sides, small ones more often; all are confident.

    Args:
        number: How many.
        num_classes: Their labels are 0 to ``num_classes - 1`` in turn.
        size: Height and width of the image.
        device: Where they are to be.

    Returns:
        ``bboxes``, ``labels``, ``scores`` and ``masks`` (bool of shape (number, height, width)).
    """
    generator = torch.Generator().manual_seed(0)
    sides = torch.tensor(size) / 2 * 20 ** -torch.rand((number, 2), generator=generator)
    first = torch.rand((number, 2), generator=generator) * (torch.tensor(size) - sides)
    masks = torch.zeros((number, *size), dtype=torch.bool)
    for mask, center, radius in zip(masks, first + sides / 2, sides / 2, strict=True):
        rows, columns = (((torch.arange(n) + 0.5 - c) / r) ** 2 for n, c, r in zip(size, center, radius, strict=True))
        mask |= rows[:, None] + columns <= 1
    boxes = torch.cat([first.flip(1), (first + sides).flip(1)], dim=1)
    scores = torch.linspace(1, 0.9, number)
    labels = torch.arange(number) % num_classes
    return InstanceData(bboxes=boxes, labels=labels, scores=scores, masks=masks).to(device)


def with_queries(instances: InstanceData, maps: EmbeddingMap) -> InstanceData:
    """Instances at the size of the output, each with the embedding at the centre of its box as its query."""
    centres = instances.bboxes.view(-1, 2, 2).mean(dim=1) * instances.bboxes.new_tensor(maps.scale)
    instances.embeddings = CIAEHead.queries(maps.embedding, centres.long())
    return instances


def measure(
    model: nn.Module,
    inputs: list[dict],
    warmup: int,
    draw: Callable[[tuple[int, int]], InstanceData] | None = None,
) -> dict[str, list[float]]:
    """Milliseconds per image by part.

    Args:
        model: A model in eval mode.
        inputs: Samples, as a dataset gives them.
        warmup: How many of them, the first, are not timed.
        draw: Gives, for an image of that height and width, the instances to be fused instead of the detected ones.

    Returns:
        'network' and 'fusion' if the model has a fusion head, of which 'module', 'scores', 'order' and 'merge' if that
        ranks its instances, and 'total'.
    """
    device = next(model.parameters()).device

    def synchronize() -> None:
        if device.type == 'cuda':
            torch.cuda.synchronize(device)

    spent: dict[str, float] = {}  # on the image in work, by function, each with those that it calls

    def timed(function: Callable, name: str) -> Callable:
        def wrapper(*args, **kwargs):
            synchronize()
            start = time.perf_counter()
            result = function(*args, **kwargs)
            synchronize()
            spent[name] = spent.get(name, 0.0) + 1000 * (time.perf_counter() - start)
            return result

        return wrapper

    def predict_drawn(detected: list[InstanceData], seg_preds: list[Tensor]) -> list:
        given = [drawn.new(metainfo=its.metainfo) for its in detected]
        if isinstance(seg_preds[0], EmbeddingMap):
            given = [with_queries(its, maps) for its, maps in zip(given, seg_preds, strict=True)]
        return predict(given, seg_preds)

    fusion_head = getattr(model, 'panoptic_fusion_head', None)
    step, times = timed(model.test_step, 'total'), []
    replaced: list[tuple[Any, str, Callable]] = []
    if fusion_head is not None:
        predict = timed(fusion_head.predict, 'fusion')
        replaced.append((fusion_head, 'predict', predict if draw is None else predict_drawn))
    if isinstance(fusion_head, RankingFusion):
        replaced += [
            (owner, name, timed(getattr(owner, name), name))
            for owner, name in (
                (fusion_head, 'order'),
                (fusion_head, 'ranking_scores'),
                (fusion_head.ranking, 'forward_window'),
            )
        ]
    with ExitStack() as stack, torch.no_grad():
        for owner, name, function in replaced:
            setattr(owner, name, function)
            stack.callback(delattr, owner, name)  # the class's method again
        for one in inputs:
            drawn = None if draw is None else draw(tuple(one['data_samples'].ori_shape[:2]))
            spent.clear()
            step(pseudo_collate([one]))
            times.append(by_part(spent, fusion_head))
    return {part: [image[part] for image in times[warmup:]] for part in times[0]}


def by_part(spent: dict[str, float], fusion_head: Any) -> dict[str, float]:
    """Times of parts from those of functions that call one another."""
    if fusion_head is None:
        return dict(spent)
    parts = dict(network=spent['total'] - spent['fusion'], fusion=spent['fusion'])
    if isinstance(fusion_head, RankingFusion):  # what was not called had no instances to work on
        module, scores, order = (spent.get(name, 0.0) for name in ('forward_window', 'ranking_scores', 'order'))
        parts |= dict(module=module, scores=scores - module, order=order - scores, merge=spent['fusion'] - order)
    return parts | dict(total=spent['total'])


def main() -> None:
    args = parse_args()
    if args.images < 1 or args.warmup < 0:
        raise UserError('--images must be 1 or more, --warmup 0 or more')
    if (args.instances is not None and args.instances < 1) or args.classes < 1:
        raise UserError('--instances and --classes must be 1 or more')
    config = cli.load_config(args.config, args.cfg_options)
    torch.manual_seed(0)
    model, _ = load_model(config, args.checkpoint, args.device, args.trust_checkpoint)
    inputs = (val_inputs if args.val else random_inputs)(config, args.warmup + args.images)
    draw = None
    if args.instances is not None:
        fusion_head = getattr(model, 'panoptic_fusion_head', None)
        if fusion_head is None:
            raise UserError(f'{args.config} has no fusion head that --instances could be given to')
        classes = min(args.classes, fusion_head.num_things_classes)
        draw = partial(drawn_instances, args.instances, classes, device=next(model.parameters()).device)
    times = measure(model, inputs, args.warmup, draw)

    source = 'validation' if args.val else 'random'
    height, width = inputs[0]['inputs'].shape[-2:]
    few = ' (hardly an instance to fuse: see --instances)' if draw is None else ''
    print(f'{args.config}, {args.checkpoint or f"random weights{few}"}')
    print(f'{args.images} {source} images, the first of {height}x{width}, on {next(model.parameters()).device}')
    if draw is not None:
        print(f'{args.instances} drawn instances of {min(args.instances, classes)} classes')
    table = Table('part')
    for header in ('median, ms', 'min, ms'):
        table.add_column(header, justify='right')
    for part, values in times.items():
        name = f'  {part}' if part in ('module', 'scores', 'order', 'merge') else part
        table.add_row(name, f'{median(values):.1f}', f'{min(values):.1f}')
    collect = runpy.run_path(str(Path(__file__).resolve().parents[1] / 'misc' / 'collect_env.py'))['collect']
    environment = collect()
    machine = Table(show_header=False)
    for key in ENVIRONMENT:
        machine.add_row(key, environment[key])
    Console().print(table, machine)


if __name__ == '__main__':
    cli.run(main)
