"""Compare an ONNX file with its model: pixels, segments with scores and boxes, and time.

python tools/analysis_tools/compare_onnx.py CONFIG CHECKPOINT MODEL.onnx IMAGE... [--threads N] [--out FILE.json]
    [--cfg-options k=v ...]

The file and the model predict each image twice on the CPU; the second run is timed, in seconds by the clock and in
seconds of all threads together (CPU time, which other jobs on the machine change less). Images are files or folders.
Segments match if their IoU is above 0.5, whatever their classes are.
"""

import argparse
import json
import os.path as osp
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np
import torch

from mmpanoptic.analysis.agreement import Agreement, agreement_table, compare
from mmpanoptic.apis import PanopticInferencer, list_images
from mmpanoptic.deploy import OnnxPanoptic
from mmpanoptic.engine import cli
from mmpanoptic.engine.configs import load_config
from mmpanoptic.results import PanopticResult
from mmpanoptic.utils import UserError, require_folder, sole_writer, write_whole


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Compare an ONNX file with its model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('onnx', help='file that export-onnx wrote')
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image, or folder of images')
    parser.add_argument('--limit', type=int, metavar='N', help='use only the first N images')
    parser.add_argument('--threads', type=int, default=1, metavar='N', help='threads of both (default: 1)')
    parser.add_argument('--out', metavar='FILE.json', help='write the results of each image')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='the same as for export-onnx')
    cli.add_checkpoint_arguments(parser)
    return parser.parse_args()


def timed(function: Callable[[], PanopticResult], name: str) -> tuple[PanopticResult, dict[str, float]]:
    """The result of a function, and the seconds of its second call, under keys that begin with ``name``."""
    function()
    began, cpu_began = time.perf_counter(), time.process_time()
    result = function()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    return result, {f'{name}_seconds': seconds, f'{name}_cpu_seconds': cpu_seconds}


def require_arguments(args: argparse.Namespace) -> None:
    """Check arguments before a model is loaded.

    Raises:
        UserError: If ``--limit`` is below 1, or ``--out`` cannot be written.
    """
    if args.limit is not None and args.limit < 1:
        raise UserError(f'--limit {args.limit}: at least one image is needed')
    if args.out is not None:
        require_folder(osp.dirname(args.out), '--out')
        if osp.isdir(args.out):
            raise UserError(f'--out {args.out} is a folder: name a file')


def summary(images: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """For all images: number with the same segments, shares of equal pixels, and mean times."""
    pixels = [image['pixels'] for image in images]
    return dict(
        same_segments=sum(image['same_segments'] for image in images),
        mean_pixels=float(np.mean(pixels)),
        least_pixels=min(pixels),
        **{name: float(np.mean([image[name] for image in images])) for name in images[0] if name.endswith('seconds')},
    )


def main() -> None:
    args = parse_args()
    require_arguments(args)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(0)
    model = PanopticInferencer(
        load_config(args.config, args.cfg_options), args.checkpoint, 'cpu', args.trust_checkpoint, args.allow_nan
    )
    file = OnnxPanoptic(args.onnx, threads=args.threads)
    images, things, stuff = [], Agreement(), Agreement()
    for path in list_images(args.images)[: args.limit]:
        image = next(iter(model([path]))).image
        one, model_times = timed(lambda image=image: next(iter(model([image]))), 'model')
        other, file_times = timed(lambda image=image: file(image), 'file')
        found = compare(one, other, path)
        images.append(dict(path=path, **model_times, **file_times, **found.plain()))
        things, stuff = things + found.things, stuff + found.stuff
        if not found.same_segments:
            print(f'{path}: other segments, {found.pixels:.4%} of the pixels are the same')
    total = summary(images)
    print(agreement_table(things, stuff))
    print(
        f'{len(images)} images: the same segments in {total["same_segments"]} of them; the same pixels: '
        f'{total["mean_pixels"]:.4%}, at least {total["least_pixels"]:.4%}'
    )
    for kind, unit in (('', 's/image'), ('cpu_', 'CPU s/image')):
        of_model, of_file = (total[f'{name}_{kind}seconds'] for name in ('model', 'file'))
        print(f'{unit}: {of_model:.3f} model, {of_file:.3f} file, {of_file / of_model:.2f} of it')
    if args.out is not None:
        content = total | dict(things=asdict(things), stuff=asdict(stuff), images=images)
        with sole_writer(args.out, '--out'):
            write_whole(args.out, json.dumps(content, indent=1))


if __name__ == '__main__':
    cli.run(main)
