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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import torch
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from rich.console import Console
from rich.table import Table
from torch import nn

from mmpanoptic.apis import load_model
from mmpanoptic.datasets import steps_of
from mmpanoptic.engine import cli
from mmpanoptic.engine.components import build_dataset
from mmpanoptic.engine.configs import load_config
from mmpanoptic.models import CIAEHead, RankingFusion
from mmpanoptic.models.fusion.paste.instances import order_instances
from mmpanoptic.structures import EmbeddingMap, Evidence
from mmpanoptic.utils import UserError

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
    cli.add_checkpoint_arguments(parser)
    cli.add_image_arguments(parser)
    return parser.parse_args()


def input_size(config: Config) -> tuple[int, int]:
    """Height and width of the images that the test pipeline makes: its last fixed scale, the long side across.

    Raises:
        UserError: If the pipeline has none.
    """
    scales = [transform['scale'] for transform in steps_of(get_test_pipeline_cfg(config)) if 'scale' in transform]
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
    dataset = build_dataset(config, 'val_dataloader')
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


def with_instances(evidence: Evidence, instances: InstanceData) -> Evidence:
    """Evidence with other instances; before an embedding map, each has the embedding at the centre of its box."""
    instances = instances.new()
    if isinstance(evidence.stuff, EmbeddingMap):
        centres = instances.bboxes.view(-1, 2, 2).mean(dim=1) * instances.bboxes.new_tensor(evidence.scale)
        instances.embeddings = CIAEHead.queries(evidence.stuff.embedding, centres.long())
    return replace(evidence, instances=instances)


class Stopwatch:
    """Milliseconds by part; on a GPU, until it is done.

    Args:
        device: Where the work is.

    Attributes:
        spent: What was measured since it was last emptied.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spent: dict[str, float] = {}

    def now(self) -> float:
        """Milliseconds of a clock."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        return 1000 * time.perf_counter()

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Add what is done inside to a part."""
        start = self.now()
        yield
        self.spent[part] = self.spent.get(part, 0.0) + self.now() - start

    @contextmanager
    def of_module(self, module: nn.Module, part: str) -> Iterator[None]:
        """Add all calls of a module inside to a part."""
        starts: list[float] = []
        handles = [
            module.register_forward_pre_hook(lambda *_: starts.append(self.now())),
            module.register_forward_hook(
                lambda *_: self.spent.update({part: self.spent.get(part, 0.0) + self.now() - starts.pop()})
            ),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@torch.no_grad()
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
    watch, times = Stopwatch(next(model.parameters()).device), []
    for one in inputs:
        drawn = None if draw is None else draw(tuple(one['data_samples'].ori_shape[:2]))
        watch.spent.clear()
        if hasattr(model, 'evidence'):
            with watch.of('network'):
                data = model.data_preprocessor(pseudo_collate([one]), False)
                (evidence,) = model.evidence(data['inputs'], data['data_samples'])
            if drawn is not None:
                evidence = with_instances(evidence, drawn)
            parts = time_fusion(model.panoptic_fusion_head, evidence, watch)
            times.append(parts | dict(total=parts['network'] + parts['fusion']))
        else:
            with watch.of('total'):
                model.test_step(pseudo_collate([one]))
            times.append(dict(watch.spent))
    return {part: [image[part] for image in times[warmup:]] for part in times[0]}


def time_fusion(head: nn.Module, evidence: Evidence, watch: Stopwatch) -> dict[str, float]:
    """Times of the network, which are there, and of fusion; of one that ranks its instances, by its steps."""
    if not isinstance(head, RankingFusion):
        with watch.of('fusion'):
            head.predict([evidence])
        return dict(watch.spent)
    order: list[int] = []
    if len(evidence.instances):
        with watch.of('scores'), watch.of_module(head.ranking, 'module'):
            scores = head.ranking_scores(evidence)
        with watch.of('order'):
            order = order_instances(evidence.instances.scores.cpu(), head.score_thr, scores.cpu())
    with watch.of('merge'):
        head.fuse(evidence, order)
    spent = {part: watch.spent.get(part, 0.0) for part in ('module', 'scores', 'order', 'merge')}
    spent['scores'] -= spent['module']
    return dict(network=watch.spent['network'], fusion=sum(spent.values())) | spent


def main() -> None:
    args = parse_args()
    if args.images < 1 or args.warmup < 0:
        raise UserError('--images must be 1 or more, --warmup 0 or more')
    if (args.instances is not None and args.instances < 1) or args.classes < 1:
        raise UserError('--instances and --classes must be 1 or more')
    config = load_config(args.config, args.cfg_options)
    torch.manual_seed(0)
    model, _ = load_model(config, args.checkpoint, args.device, args.trust_checkpoint, args.allow_nan)
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
