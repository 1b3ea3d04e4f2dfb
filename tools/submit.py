"""Predict a test set and write the files for its evaluation server.

python tools/submit.py CONFIG CHECKPOINT --to coco-test-dev|cityscapes|mapillary OUT [--tta] [--gpus N]

The images are those of the list or folder that the data set is distributed with. Panoptic models give panoptic results,
instance models boxes and masks. The files are read back and checked before OUT gets the JSON, the folder and the zip.
Until then, predictions are kept in OUT.predictions, from which an interrupted run continues. See docs/submit.md.
"""

import argparse
import os
import sys
from pathlib import Path

from mmpanoptic.engine import cli
from mmpanoptic.engine.augmented_testing import use_tta
from mmpanoptic.engine.configs import load_config
from mmpanoptic.engine.devices import set_local_rank
from mmpanoptic.engine.processes import start_processes
from mmpanoptic.submission import TARGETS, Places, plan, submit
from mmpanoptic.utils import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write the files for a test server')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('out', type=Path, metavar='OUT', help='folder for the files; an earlier result is replaced')
    parser.add_argument('--to', required=True, choices=list(TARGETS), help='the test set')
    parser.add_argument('--name', help="name of the method in COCO's file names (default: that of the config)")
    parser.add_argument(
        '--data-root', metavar='DIR', help="folder of the data (default: that of the config's test data)"
    )
    parser.add_argument(
        '--list', metavar='FILE', help='list of images (default: annotations/image_info_test-dev2017.json of COCO)'
    )
    parser.add_argument(
        '--images', metavar='DIR', help='folder of the images (default: the test folder of the data set)'
    )
    parser.add_argument('--tta', action='store_true', help='predict with the tta_model and tta_pipeline of the config')
    parser.add_argument('--gpus', type=int, metavar='N', help='start N processes, one per GPU')
    parser.add_argument('--work-dir', help='folder for logs (default: work_dirs/<config name>)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_checkpoint_arguments(parser)
    cli.add_image_arguments(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    started = int(os.environ.get('WORLD_SIZE', 1))
    if args.launcher != 'none' and args.gpus not in (None, started):
        raise UserError(f'--gpus {args.gpus}: --launcher {args.launcher} says how many processes there are: drop one')
    return args


def main() -> None:
    args = parse_args()
    set_local_rank(args.local_rank)
    config = load_config(args.config, args.cfg_options, args.work_dir)
    config.launcher = args.launcher
    if args.tta:
        use_tta(config)
    places = Places(args.data_root, args.list, args.images)
    name = Path(args.config).stem if args.name is None else args.name
    submission = plan(config, args.checkpoint, args.to, args.out, name, places, args.trust_checkpoint)
    if args.gpus is not None and args.launcher == 'none':
        start_processes(args.gpus, 'submit.py', sys.argv[1:])
    submit(submission, args.trust_checkpoint, args.allow_nan)


if __name__ == '__main__':
    cli.run(main)
