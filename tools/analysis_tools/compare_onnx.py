"""Hold an ONNX file of a model against the model: pixels, segments and CPU time.

python tools/analysis_tools/compare_onnx.py CONFIG CHECKPOINT MODEL.onnx IMAGE... [--threads N]
    [--cfg-options k=v ...]

Each image goes through both, one after the other, and the second time counts. The model is what was exported, on the
CPU; images are files, or folders of them.
"""

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch

from mmpanoptic.apis import PanopticInferencer, list_images
from mmpanoptic.deploy import OnnxPanoptic
from mmpanoptic.engine import cli
from mmpanoptic.engine.configs import load_config
from mmpanoptic.results import PanopticResult


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Hold an ONNX file of a model against the model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('onnx', help='what export-onnx made of them')
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image, or folder of images')
    parser.add_argument('--limit', type=int, metavar='N', help='look at the first N images alone')
    parser.add_argument('--threads', type=int, default=1, metavar='N', help='of both (default: 1)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='as export-onnx got them')
    cli.add_checkpoint_arguments(parser)
    return parser.parse_args()


def agreement(model: PanopticResult, file: PanopticResult) -> tuple[float, bool]:
    """Share of the pixels with the same id, and whether the segments are the same ids and labels in the same order."""
    same = [(one.id, one.label) for one in model.segments] == [(one.id, one.label) for one in file.segments]
    return float(np.mean(model.id_map == file.id_map)), same


def timed(function: Callable[[], PanopticResult]) -> tuple[PanopticResult, float]:
    """What a function gives, and the CPU seconds that it took the second time."""
    function()
    began = time.process_time()
    return function(), time.process_time() - began


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(0)
    model = PanopticInferencer(
        load_config(args.config, args.cfg_options), args.checkpoint, 'cpu', args.trust_checkpoint, args.allow_nan
    )
    file = OnnxPanoptic(args.onnx, threads=args.threads)
    pixels, same, num_segments, seconds = [], 0, 0, np.zeros(2)
    paths = list_images(args.images)[: args.limit]
    for path in paths:
        image = next(iter(model([path]))).image
        one, model_seconds = timed(lambda image=image: next(iter(model([image]))))
        other, file_seconds = timed(lambda image=image: file(image))
        share, is_same = agreement(one, other)
        pixels.append(share)
        same += is_same
        num_segments += len(one.segments)
        seconds += model_seconds, file_seconds
        if not is_same:
            print(f'{path}: other segments, {share:.4%} of the pixels are the same')
    print(
        f'{len(paths)} images, {num_segments} segments: the same segments in {same} images; the same pixels: '
        f'{np.mean(pixels):.4%}, at least {min(pixels):.4%}; CPU s/image: {seconds[0] / len(paths):.3f} model, '
        f'{seconds[1] / len(paths):.3f} file, {seconds[1] / seconds[0]:.2f} of it'
    )


if __name__ == '__main__':
    cli.run(main)
