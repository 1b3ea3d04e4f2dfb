"""Prepare a checkpoint for publication: keep weights and metadata, without the state of the training.

python tools/misc/publish.py CHECKPOINT OUT.safetensors

The tool writes OUT-<hash>.safetensors, a format from which no loader executes code. The file keeps class names, the
epoch and versions; it drops optimizer, schedules, logs and the text of the config.
"""

import argparse

from mmpanoptic.engine import cli
from mmpanoptic.engine.checkpoint_files import read_checkpoint, write_safetensors
from mmpanoptic.engine.checkpoints import require_finite, weights_and_meta
from mmpanoptic.utils import UserError

KEPT = ('CLASSES', 'PALETTE', 'dataset_meta', 'epoch', 'experiment_name', 'iter', 'mmengine_version', 'seed', 'source')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write the weights of a checkpoint as safetensors')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('out', metavar='OUT.safetensors', help='file to write; a hash is added to its name')
    cli.add_checkpoint_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    content = read_checkpoint(args.checkpoint, args.trust_checkpoint)
    weights, meta = weights_and_meta(content, args.checkpoint)
    if not weights:
        raise UserError(f'{args.checkpoint} holds no weights')
    if not args.allow_nan:
        require_finite(weights, args.checkpoint)
    meta = {key: value for key, value in meta.items() if key in KEPT}
    print(write_safetensors(args.out, weights, meta))


if __name__ == '__main__':
    cli.run(main)
