"""Measure time, memory and counts of a model: predicting, split into network and fusion, and training.

python tools/analysis_tools/benchmark.py CONFIG [CHECKPOINT] [--val] [--images 20] [--instances 100] [--device cuda:0]
    [--batch-sizes 1 8] [--train] [--amp [float16|bfloat16]] [--compile] [--against mmdet] [--out FILE.json]

Images go through in batches, after --warmup others. The time is that of an image, from the image at the test size to
the panoptic map at the original size, without loading and resizing; 'network' is all of it but the fusion head. With
--instances that many drawn ones, which overlap, are fused instead of those that the network finds. The time of training
is that of a step on random images of the same size with drawn objects.

--amp measures everything in mixed precision as well, --compile all of it with a compiled backbone and neck as well, and
--against mmdet mmdet's own Panoptic FPN: all in turns, batch by batch. Times of a GPU end when it is done. 'launches'
are calls of torch's operators that are not views, 'waits' those that a GPU has to be waited for, 'transfers' copies
from one device to another, each for an image; mmcv's operators are not among them. 'resident' is the most memory that
the process has had so far, 'peak' that on the device.

The fusion of a head that ranks its instances is split further: 'module', the convolutions over the map of instances by
class; 'scores', all else that the ranking scores take; 'order', the sorting; 'merge', the rest. At a coarser stride:
--cfg-options model.panoptic_fusion_head.stride=4

What a GPU machine is asked for a system (docs/speed.md), once without and once with --instances 100:
python tools/analysis_tools/benchmark.py CONFIG --train --amp --batch-sizes 1 2 8 --against mmdet --out FILE.json
"""

import argparse
import json
import runpy
from functools import partial
from pathlib import Path

import torch
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from rich.console import Console
from rich.table import Table
from torch import nn

from mmpanoptic.analysis.benchmark import Case, cases_of, measure, training_samples
from mmpanoptic.analysis.rivals import RIVALS, load_rival
from mmpanoptic.analysis.timing import RANKING_PARTS, drawn_instances
from mmpanoptic.apis import load_model
from mmpanoptic.datasets import steps_of
from mmpanoptic.engine import cli
from mmpanoptic.engine.components import build_dataset
from mmpanoptic.engine.configs import load_config
from mmpanoptic.engine.hooks.speed_hook import compile_dense
from mmpanoptic.engine.precision import DTYPES
from mmpanoptic.utils import UserError
from mmpanoptic.utils.outputs import whole_file

ENVIRONMENT = ('CPU', 'GPUs', 'torch', 'torch built for', 'mmcv', 'python', 'git commit')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Time, memory and counts of a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file; without, weights are random')
    parser.add_argument('--val', action='store_true', help="the config's validation images instead of random ones")
    parser.add_argument('--images', type=int, default=20, help='number of batches that are timed (default: 20)')
    parser.add_argument('--warmup', type=int, default=3, help='batches that are not timed (default: 3)')
    parser.add_argument('--batch-sizes', type=int, nargs='+', default=[1], help='images at a time (default: 1)')
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help='of random images (default: test size)')
    parser.add_argument('--instances', type=int, help='fuse so many drawn instances, not the detected ones')
    parser.add_argument('--classes', type=int, default=20, help='of how many classes they are at most (default: 20)')
    parser.add_argument('--train', action='store_true', help='a step of training as well')
    parser.add_argument('--objects', type=int, default=10, help='drawn objects of an image of training (default: 10)')
    parser.add_argument('--amp', nargs='?', const='auto', choices=['auto', *DTYPES], help='mixed precision as well')
    parser.add_argument('--compile', action='store_true', help='with a compiled backbone and neck as well')
    parser.add_argument('--against', choices=list(RIVALS), help="mmdet's own Panoptic FPN as well")
    parser.add_argument('--out', metavar='FILE', help='JSON file for all that is printed')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: the GPU if there is one, else cpu)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_checkpoint_arguments(parser)
    cli.add_image_arguments(parser)
    return parser.parse_args()


def check(args: argparse.Namespace) -> None:
    """Refuse numbers that make no sense.

    Raises:
        UserError: Naming them.
    """
    if args.images < 1 or args.warmup < 0:
        raise UserError('--images must be 1 or more, --warmup 0 or more')
    if (args.instances is not None and args.instances < 1) or args.classes < 1 or args.objects < 1:
        raise UserError('--instances and --classes must be 1 or more, as must --objects')
    if min(args.batch_sizes) < 1 or (args.size and min(args.size) < 1):
        raise UserError('--batch-sizes and --size must be 1 or more')


def input_size(config: Config) -> tuple[int, int]:
    """Height and width of the images that the test pipeline makes: its last fixed scale, the long side across.

    Raises:
        UserError: If the pipeline has none.
    """
    scales = [transform['scale'] for transform in steps_of(get_test_pipeline_cfg(config)) if 'scale' in transform]
    if not scales:
        raise UserError('the test pipeline does not resize to a scale: use --val')
    return min(scales[-1]), max(scales[-1])


def random_inputs(size: tuple[int, int], number: int) -> list[dict]:
    """Random images of that height and width, as a dataset would give them."""
    meta = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    generator = torch.Generator().manual_seed(0)
    return [
        dict(
            inputs=torch.randint(256, (3, *size), dtype=torch.uint8, generator=generator),
            data_samples=DetDataSample(metainfo=dict(meta)),
        )
        for _ in range(number)
    ]


def val_inputs(config: Config, number: int) -> list[dict]:
    """The first validation images; over again if there are not as many."""
    dataset = build_dataset(config, 'val_dataloader')
    return [dataset[i % len(dataset)] for i in range(number)]


def class_counts(config: Config) -> tuple[int, int]:
    """Numbers of thing and of stuff classes; 1 of stuff where there is none, for images to be made of."""
    model = config.model
    fusion = model.get('panoptic_fusion_head')
    if fusion is not None:
        return fusion.num_things_classes, fusion.num_stuff_classes
    return (model.get('roi_head') or model).bbox_head.num_classes, 1


def all_cases(args: argparse.Namespace, config: Config, models: dict[str, tuple[nn.Module, Config]]) -> list[Case]:
    """What is to be measured, in the order in which it is done in turns."""
    size = tuple(args.size or (input_size(config) if not args.val else (0, 0)))
    number = (args.warmup + args.images) * max(args.batch_sizes)
    inputs = val_inputs(config, number) if args.val else random_inputs(size, min(number, 16 * max(args.batch_sizes)))
    auto = 'float16' if torch.cuda.is_available() else 'bfloat16'
    dtypes = ['float32', *([auto if args.amp == 'auto' else args.amp] if args.amp else [])]
    cases = []
    for name, (model, its_config) in models.items():
        draw, samples = None, []
        things, stuff = class_counts(its_config)
        if args.instances is not None and hasattr(model, 'evidence'):
            classes = min(args.classes, things)
            draw = partial(drawn_instances, args.instances, classes, device=next(model.parameters()).device)
        if args.train:
            shape = tuple(inputs[0]['inputs'].shape[-2:])
            samples = training_samples(max(args.batch_sizes), shape, things, stuff, args.objects)
        # mmdet's own heads fail on bfloat16: mmcv's operators have none.
        possible = [dtype for dtype in dtypes if name not in RIVALS or dtype != 'bfloat16']
        cases += cases_of(model, name, inputs, samples, args.batch_sizes, possible, name == 'compiled', draw)
    return cases


def report(rows: list[dict]) -> Table:
    """Times by part, and what is counted, of each case."""
    table = Table('what', 'model', 'precision', 'batch', 'part')
    for header in ('median, ms', 'min, ms', 'peak, MiB', 'resident, MiB', 'launches', 'waits', 'transfers'):
        table.add_column(header, justify='right')
    for row in rows:
        head = [row['what'], row['model'], row['precision'], str(row['batch_size'])]
        counts = ['-' if row[name] is None else f'{row[name]:.0f}' for name in ('launches', 'waits', 'transfers')]
        tail = [f'{row["peak_device"]:.0f}', f'{row["resident"]:.0f}', *counts]
        for part, times in row['milliseconds'].items():
            name = f'  {part}' if part in RANKING_PARTS else part
            table.add_row(*head, name, f'{times["median"]:.1f}', f'{times["min"]:.1f}', *tail)
            head, tail = [''] * len(head), [''] * len(tail)
    return table


def main() -> None:
    args = parse_args()
    check(args)
    config = load_config(args.config, args.cfg_options)
    torch.manual_seed(0)
    load = partial(load_model, config, args.checkpoint, args.device, args.trust_checkpoint, args.allow_nan)
    models = {'ours': (load()[0], config)}
    if args.instances is not None and not hasattr(models['ours'][0], 'panoptic_fusion_head'):
        raise UserError(f'{args.config} has no fusion head that --instances could be given to')
    if args.compile:
        models['compiled'] = (load()[0], config)
        compile_dense(models['compiled'][0])
    if args.against is not None:
        models[args.against] = load_rival(args.against, args.device)
    cases = all_cases(args, config, models)
    rows = measure(cases, args.images, args.warmup)

    source = 'validation' if args.val else 'random'
    device = next(models['ours'][0].parameters()).device
    few = ' (hardly an instance to fuse: see --instances)' if args.instances is None else ''
    print(f'{args.config}, {args.checkpoint or f"random weights{few}"}')
    size = '{}x{}'.format(*(args.size or input_size(config))) if not args.val else 'the test size'
    print(f'{args.images} {source} batches of {size}, on {device}')
    if args.instances is not None:
        classes = min(args.classes, class_counts(config)[0], args.instances)
        print(f'{args.instances} drawn instances of {classes} classes')
    collect = runpy.run_path(str(Path(__file__).resolve().parents[1] / 'misc' / 'collect_env.py'))['collect']
    environment = {key: value for key, value in collect().items() if key in ENVIRONMENT}
    machine = Table(show_header=False)
    for key in ENVIRONMENT:
        machine.add_row(key, environment[key])
    Console().print(report(rows), machine)
    if args.out is not None:
        with whole_file(args.out) as file:
            file.write(json.dumps(dict(config=args.config, environment=environment, rows=rows), indent=1).encode())


if __name__ == '__main__':
    cli.run(main)
