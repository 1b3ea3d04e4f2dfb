"""Write a trained panoptic model as one ONNX file, from the image to its segments.

python tools/misc/export_onnx.py CONFIG CHECKPOINT MODEL.onnx [--size HEIGHT WIDTH | --size dynamic]

Models are Panoptic FPN, OANet, SpatialFlow and CIAE; the graph contains the fusion. The input is an image, uint8 RGB of
shape (height, width, 3), the outputs are the panoptic map and its segments at the size of the image.
mmpanoptic.deploy.OnnxPanoptic runs the file with numpy and onnxruntime only (docs/deploy.md).
"""

import argparse
from pathlib import Path

from mmpanoptic.apis import load_model
from mmpanoptic.apis.categories import categories_by_label, meta_of_model
from mmpanoptic.deploy.export import export_onnx
from mmpanoptic.engine import cli
from mmpanoptic.engine.configs import load_config
from mmpanoptic.utils import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write a trained panoptic model as one ONNX file')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('out', type=Path, metavar='MODEL.onnx', help='file to write; an existing file is replaced')
    parser.add_argument(
        '--size',
        nargs='+',
        default=['dynamic'],
        metavar=('HEIGHT', 'WIDTH'),
        help="size of all images in pixels, or 'dynamic' for any size (default)",
    )
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_checkpoint_arguments(parser)
    return parser.parse_args()


def parse_size(words: list[str]) -> tuple[int, int] | None:
    """Height and width; None for 'dynamic'.

    Raises:
        UserError: If the words are neither.
    """
    if words == ['dynamic']:
        return None
    if len(words) != 2 or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UserError(f"--size {' '.join(words)}: give height and width in pixels, such as 480 640, or 'dynamic'")
    return int(words[0]), int(words[1])


def main() -> None:
    args = parse_args()
    size = parse_size(args.size)
    if args.out.suffix != '.onnx':
        raise UserError(f'{args.out} does not end in .onnx: name the file to write so')
    config = load_config(args.config, args.cfg_options)
    model, meta = load_model(config, args.checkpoint, 'cpu', args.trust_checkpoint, args.allow_nan)
    meta = meta_of_model(meta, config, args.checkpoint)
    categories = categories_by_label(meta, getattr(model, 'num_things_classes', None))
    export_onnx(model, config, categories, args.out, size)
    print(f'{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB')


if __name__ == '__main__':
    cli.run(main)
