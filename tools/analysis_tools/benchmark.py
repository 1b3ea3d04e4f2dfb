"""Measure time, memory and operator counts of a model: inference, split into network and fusion, and training.

python tools/analysis_tools/benchmark.py CONFIG [CHECKPOINT] [--val] [--images 20] [--instances 100] [--device cuda:0]
    [--batch-sizes 1 8] [--train] [--amp [float16|bfloat16]] [--compile] [--against mmdet] [--out FILE.json]

Inference is timed per image, from the image at the test size to the panoptic map at the original size, without loading
and resizing. --warmup batches run before those that are timed. 'network' is everything except the fusion head. With
--instances N, the tool fuses N drawn instances that overlap instead of those that the network finds. Training is timed
per step, on random images of the same size with drawn objects.

--amp also measures mixed precision, --compile a compiled backbone and neck, and --against mmdet the Panoptic FPN of
mmdet. All cases run in turns, batch by batch. Times on a GPU end when it has finished. 'launches' are calls of torch's
operators that are not views, 'waits' calls for which the CPU waits for a GPU, 'transfers' copies from one device to
another, all per image and without the operators of mmcv. 'resident' is the peak memory of the process so far, 'peak'
that of the device.

The fusion of OANet's head is split further: 'module', the convolutions over the map of instances by class; 'scores',
the rest of the ranking scores; 'order', the sorting; 'merge', everything else. For a coarser stride:
--cfg-options model.panoptic_fusion_head.stride=4

The measurements on GPUs in docs/speed.md, once without and once with --instances 100:
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
    parser = argparse.ArgumentParser(description='Time, memory and operator counts of a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file (default: random weights)')
    parser.add_argument('--val', action='store_true', help="use the config's validation images, not random ones")
    parser.add_argument('--images', type=int, default=20, help='number of timed batches (default: 20)')
    parser.add_argument('--warmup', type=int, default=3, help='batches before the timed ones (default: 3)')
    parser.add_argument('--batch-sizes', type=int, nargs='+', default=[1], help='images per batch (default: 1)')
    parser.add_argument(
        '--size', type=int, nargs=2, metavar=('H', 'W'), help='size of random images (default: test size)'
    )
    parser.add_argument('--instances', type=int, help='fuse this number of drawn instances, not detected ones')
    parser.add_argument('--classes', type=int, default=20, help='largest number of their classes (default: 20)')
    parser.add_argument('--train', action='store_true', help='also measure steps of training')
    parser.add_argument('--objects', type=int, default=10, help='drawn objects per training image (default: 10)')
    parser.add_argument(
        '--amp', nargs='?', const='auto', choices=['auto', *DTYPES], help='also measure mixed precision'
    )
    parser.add_argument('--compile', action='store_true', help='also measure with compiled backbone and neck')
    parser.add_argument('--against', choices=list(RIVALS), help="also measure mmdet's Panoptic FPN")
    parser.add_argument('--out', metavar='FILE', help='JSON file for all results')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: the GPU if there is one, else cpu)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_checkpoint_arguments(parser)
    cli.add_image_arguments(parser)
    return parser.parse_args()


def check(args: argparse.Namespace) -> None:
    """Check the arguments that are numbers.

    Raises:
        UserError: If one of them is too small.
    """
    if args.images < 1 or args.warmup < 0:
        raise UserError('--images must be 1 or more, --warmup 0 or more')
    if (args.instances is not None and args.instances < 1) or args.classes < 1 or args.objects < 1:
        raise UserError('--instances and --classes must be 1 or more, as must --objects')
    if min(args.batch_sizes) < 1 or (args.size and min(args.size) < 1):
        raise UserError('--batch-sizes and --size must be 1 or more')


def input_size(config: Config) -> tuple[int, int]:
    """Height and width of the images of the test pipeline: its last fixed scale, in landscape format.

    Raises:
        UserError: If the pipeline has no fixed scale.
    """
    scales = [transform['scale'] for transform in steps_of(get_test_pipeline_cfg(config)) if 'scale' in transform]
    if not scales:
        raise UserError('the test pipeline does not resize to a scale: use --val')
    return min(scales[-1]), max(scales[-1])


def random_inputs(size: tuple[int, int], number: int) -> list[dict]:
    """Samples with random images of this height and width, as a dataset returns them."""
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
    """The first samples of the validation set, starting over at its end."""
    dataset = build_dataset(config, 'val_dataloader')
    return [dataset[i % len(dataset)] for i in range(number)]


def class_counts(config: Config) -> tuple[int, int]:
    """Numbers of thing and stuff classes; without stuff, 1, since drawn images need a background."""
    model = config.model
    fusion = model.get('panoptic_fusion_head')
    if fusion is not None:
        return fusion.num_things_classes, fusion.num_stuff_classes
    return (model.get('roi_head') or model).bbox_head.num_classes, 1


def all_cases(args: argparse.Namespace, config: Config, models: dict[str, tuple[nn.Module, Config]]) -> list[Case]:
    """The cases to measure, in the order in which they take turns."""
    size = tuple(args.size or (input_size(config) if not args.val else (0, 0)))
    number = (args.warmup + args.images) * max(args.batch_sizes)
    inputs = val_inputs(config, number) if args.val else random_inputs(size, min(number, 16 * max(args.batch_sizes)))
    auto = 'float16' if torch.cuda.is_available() else 'bfloat16'
    dtypes = ['float32', *([auto if args.amp == 'auto' else args.amp] if args.amp else [])]
    cases = []
    for name, (model, model_config) in models.items():
        draw, samples = None, []
        things, stuff = class_counts(model_config)
        if args.instances is not None and hasattr(model, 'evidence'):
            classes = min(args.classes, things)
            draw = partial(drawn_instances, args.instances, classes, device=next(model.parameters()).device)
        if args.train:
            shape = tuple(inputs[0]['inputs'].shape[-2:])
            samples = training_samples(max(args.batch_sizes), shape, things, stuff, args.objects)
        # mmdet's heads fail in bfloat16, which mmcv's operators do not support.
        possible = [dtype for dtype in dtypes if name not in RIVALS or dtype != 'bfloat16']
        cases += cases_of(model, name, inputs, samples, args.batch_sizes, possible, name == 'compiled', draw)
    return cases


def report(rows: list[dict]) -> Table:
    """Table of the times by part, memory and counts of each case."""
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
        raise UserError(f'{args.config} has no fusion head, which --instances needs')
    if args.compile:
        models['compiled'] = (load()[0], config)
        compile_dense(models['compiled'][0])
    if args.against is not None:
        models[args.against] = load_rival(args.against, args.device)
    cases = all_cases(args, config, models)
    rows = measure(cases, args.images, args.warmup)

    source = 'validation' if args.val else 'random'
    device = next(models['ours'][0].parameters()).device
    few = ' (hardly any instances to fuse: see --instances)' if args.instances is None else ''
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
