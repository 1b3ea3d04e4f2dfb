"""Train a model.

python tools/train.py CONFIG [--work-dir DIR] [--amp [float16|bfloat16]] [--resume [CHECKPOINT]] [--auto-scale-lr]
    [--strict] [--cfg-options k=v ...]
"""

import argparse
import contextlib

from mmpanoptic.engine import cli
from mmpanoptic.engine.checkpoint_files import latest_checkpoint, use_strict_loading
from mmpanoptic.engine.checkpoints import RequireAllWeights
from mmpanoptic.engine.configs import load_config, require_keys
from mmpanoptic.engine.devices import is_first_process, set_local_rank
from mmpanoptic.engine.hooks import SpeedHook
from mmpanoptic.engine.precision import DTYPES, choose_precision
from mmpanoptic.engine.runner import build_runner
from mmpanoptic.utils import UserError, require_file, require_folder, sole_writer


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/<config name>)')
    parser.add_argument(
        '--amp',
        nargs='?',
        const='auto',
        choices=['auto', *DTYPES],
        help='mixed precision; without a value, float16 with a GPU, else bfloat16',
    )
    parser.add_argument('--compile', action='store_true', help='compile backbone and neck (docs/speed.md)')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate to the batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from CHECKPOINT; without a value, from the last complete one in the work dir',
    )
    parser.add_argument(
        '--strict', action='store_true', help='refuse a load_from that does not fit the model and classes completely'
    )
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_checkpoint_arguments(parser)
    cli.add_image_arguments(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    set_local_rank(args.local_rank)
    config = load_config(args.config, args.cfg_options, args.work_dir)
    config.launcher = args.launcher
    require_keys(config, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
    use_strict_loading(args.trust_checkpoint)
    choose_precision(config, args.amp)
    if args.auto_scale_lr:
        if 'base_batch_size' not in config.get('auto_scale_lr', {}):
            raise UserError(f'{args.config} has no auto_scale_lr.base_batch_size, which --auto-scale-lr scales from')
        config.auto_scale_lr.enable = True
    if args.resume == 'auto':
        checkpoint = latest_checkpoint(config.work_dir)
        if checkpoint is None:
            print(f'--resume: no checkpoint in {config.work_dir} yet, training from the start')
        config.resume = checkpoint is not None
        config.load_from = checkpoint or config.get('load_from')
    elif args.resume is not None:
        config.resume, config.load_from = True, args.resume
    if args.allow_nan and config.get('default_hooks', {}).get('finite'):
        config.default_hooks.finite.allow_nan = True
    if args.strict:
        config.setdefault('default_hooks', {}).setdefault('transfer', dict(type='ClassTransferHook')).strict = True
    if config.get('load_from'):
        require_file(config.load_from, 'checkpoint')

    require_folder(config.work_dir, 'work_dir')
    with sole_writer(config.work_dir, 'work_dir') if is_first_process() else contextlib.nullcontext():
        runner = build_runner(config)
        if args.compile:
            runner.register_hook(SpeedHook(compile=True))
        if config.get('resume'):
            runner.register_hook(RequireAllWeights(resuming=True, allow_nan=args.allow_nan))
        runner.train()


if __name__ == '__main__':
    cli.run(main)
