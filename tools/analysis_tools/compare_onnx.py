"""Hold an ONNX file of a model against the model: pixels, segments with their scores and boxes, and CPU time.

python tools/analysis_tools/compare_onnx.py CONFIG CHECKPOINT MODEL.onnx IMAGE... [--threads N] [--out FILE.json]
    [--cfg-options k=v ...]

Each image goes through both, one after the other, and the second time counts. The model is what was exported, on the
CPU; images are files, or folders of them. Segments match if their IoU is above 0.5; one of another class differs.
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
    parser = argparse.ArgumentParser(description='Hold an ONNX file of a model against the model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('onnx', help='what export-onnx made of them')
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image, or folder of images')
    parser.add_argument('--limit', type=int, metavar='N', help='look at the first N images alone')
    parser.add_argument('--threads', type=int, default=1, metavar='N', help='of both (default: 1)')
    parser.add_argument('--out', metavar='FILE.json', help='write all of it, image by image')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='as export-onnx got them')
    cli.add_checkpoint_arguments(parser)
    return parser.parse_args()


def timed(function: Callable[[], PanopticResult]) -> tuple[PanopticResult, float]:
    """What a function gives, and the CPU seconds that it took the second time."""
    function()
    began = time.process_time()
    return function(), time.process_time() - began


def require_arguments(args: argparse.Namespace) -> None:
    """Refuse what cannot work before a model is loaded.

    Raises:
        UserError: If no image would be looked at, or there is no place for the output.
    """
    if args.limit is not None and args.limit < 1:
        raise UserError(f'--limit {args.limit}: at least one image is needed')
    if args.out is not None:
        require_folder(osp.dirname(args.out), '--out')
        if osp.isdir(args.out):
            raise UserError(f'--out {args.out} is a folder: name a file')


def summary(images: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of all images: in how many the segments are the same, shares of pixels, and mean CPU seconds."""
    pixels = [image['pixels'] for image in images]
    return dict(
        same_segments=sum(image['same_segments'] for image in images),
        mean_pixels=float(np.mean(pixels)),
        least_pixels=min(pixels),
        model_seconds=float(np.mean([image['model_seconds'] for image in images])),
        file_seconds=float(np.mean([image['file_seconds'] for image in images])),
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
        one, model_seconds = timed(lambda image=image: next(iter(model([image]))))
        other, file_seconds = timed(lambda image=image: file(image))
        found = compare(one, other, path)
        images.append(dict(path=path, model_seconds=model_seconds, file_seconds=file_seconds, **found.plain()))
        things, stuff = things + found.things, stuff + found.stuff
        if not found.same_segments:
            print(f'{path}: other segments, {found.pixels:.4%} of the pixels are the same')
    total = summary(images)
    print(agreement_table(things, stuff))
    print(
        f'{len(images)} images: the same segments in {total["same_segments"]} of them; the same pixels: '
        f'{total["mean_pixels"]:.4%}, at least {total["least_pixels"]:.4%}; CPU s/image: '
        f'{total["model_seconds"]:.3f} model, {total["file_seconds"]:.3f} file, '
        f'{total["file_seconds"] / total["model_seconds"]:.2f} of it'
    )
    if args.out is not None:
        content = total | dict(things=asdict(things), stuff=asdict(stuff), images=images)
        with sole_writer(args.out, '--out'):
            write_whole(args.out, json.dumps(content, indent=1))


if __name__ == '__main__':
    cli.run(main)
