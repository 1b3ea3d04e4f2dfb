"""What tiles cost: scenes put together to one large image, predicted in tiles, beside the same scenes one by one.

    python tests/helpers/stitched.py CONFIG CHECKPOINT --size 4000 6000 --tile 384 576 --overlap 96

The network sees tiles as large as they are. Both maps are scored scene by scene: PQ of scenes, PQ of tiles. The peak of
this process's memory (VmHWM) follows, and the time. --only-tiles leaves the scenes one by one out. --onnx FILE predicts
the image as a whole, by a file that was exported for its size: it holds no mask of the size of the image.
"""

import argparse
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import init_default_scope
from rich.progress import track

from mmpanoptic.apis import PanopticInferencer
from mmpanoptic.datasets import CocoPanopticDataset
from mmpanoptic.datasets.shapes.writer import write_dataset
from mmpanoptic.deploy import OnnxPanoptic
from mmpanoptic.engine import cli
from mmpanoptic.engine.configs import load_config
from mmpanoptic.evaluation.panoptic_quality import accumulate, average, match_segments

SCENE = (192, 288)  # height and width


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--size', type=int, nargs=2, default=(4000, 6000), metavar=('H', 'W'))
    parser.add_argument('--tile', type=int, nargs=2, default=(384, 576), metavar=('H', 'W'))
    parser.add_argument('--overlap', type=int, default=96)
    parser.add_argument('--seed', type=int, default=1, help='of the scenes (training and validation have 0)')
    parser.add_argument('--only-tiles', action='store_true')
    parser.add_argument('--onnx', metavar='FILE', help='file of export-onnx for the size of the stitched image')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, default={}, help='for the stitched image')
    return parser.parse_args()


def scenes(folder: Path, number: int, seed: int, labelled: bool) -> tuple[list[dict[str, Any]], list[dict]]:
    """Drawn scenes, with their annotations if they are to be scored, and the categories."""
    init_default_scope('mmpanoptic')
    write_dataset(folder, {'val': number}, SCENE, seed=seed, workers=1)
    steps = [dict(type='LoadImageFromFile'), *([dict(type='LoadPanopticAnnotations')] if labelled else [])]
    dataset = CocoPanopticDataset(
        data_root=str(folder),
        ann_file='annotations/panoptic_val.json',
        data_prefix=dict(img='val/', seg='annotations/panoptic_val/'),
        pipeline=steps,
        test_mode=True,
    )
    return [dataset[index] for index in range(number)], dataset.metainfo['categories']


def pq_of(maps: Iterator[np.ndarray], truths: list[dict[str, Any]], categories: list[dict]) -> dict[str, float]:
    """PQ of maps of ids, 0 for void, one a scene."""
    matches, void = [], len(categories)
    for id_map, truth in zip(maps, truths, strict=True):
        panoptic = np.where(id_map == 0, void, id_map - 1)
        segments = [dict(id=int(value), label=int(value) % 1000) for value in np.unique(panoptic) if value != void]
        matched = match_segments(
            truth['gt_panoptic_map'], truth['segments_info'], panoptic, segments, void, truth['img_path']
        )
        matches.append(matched)
    stats = accumulate(matches, void)
    groups = {'PQ': None, 'PQ_th': True, 'PQ_st': False}
    return {name: 100 * average(stats, categories, isthing)['pq'] for name, isthing in groups.items()}


def show(name: str, scores: dict[str, float]) -> None:
    """Print scores after a name."""
    print(name, {key: f'{value:.2f}' for key, value in scores.items()})


def peak() -> int:
    """Of the memory of this process, in MiB."""
    return int(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1]) // 1024


def main() -> None:
    args = parse_args()
    rows, columns = (-(-size // side) for size, side in zip(args.size, SCENE, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        truths, categories = scenes(Path(folder) / 'scenes', rows * columns, args.seed, not args.only_tiles)
    images = [truth['img'][..., ::-1].astype(np.uint8) for truth in truths]
    options = args.cfg_options | {'test_dataloader.dataset.pipeline.resize.scale': tuple(args.tile[::-1])}
    stitched = np.concatenate(
        [np.concatenate(images[row * columns : (row + 1) * columns], axis=1) for row in range(rows)]
    )
    if args.only_tiles:
        stitched = stitched[: args.size[0], : args.size[1]].copy()
        truths = images = []
    else:
        inferencer = PanopticInferencer(load_config(args.config), args.checkpoint)
        one_by_one = pq_of((inferencer(image).__next__().id_map for image in images), truths, categories)
        show('scenes', one_by_one)
    inferencer = PanopticInferencer(load_config(args.config, options), args.checkpoint)
    start = time.process_time()
    found = inferencer.tiled(stitched, tuple(args.tile), args.overlap, lambda tiles: track(tiles, 'tiles'))
    print(f'{len(found.segments)} segments; {stitched.shape[0]}x{stitched.shape[1]} pixels in '
          f'{time.process_time() - start:.0f} s of CPU, peak {peak()} MiB')  # fmt: skip
    if args.only_tiles:
        return

    def in_scenes(id_map: np.ndarray) -> Iterator[np.ndarray]:
        height, width = SCENE
        return (
            id_map[row * height : (row + 1) * height, column * width : (column + 1) * width]
            for row in range(rows)
            for column in range(columns)
        )

    show('tiles', pq_of(in_scenes(found.id_map), truths, categories))
    if args.onnx:
        whole = OnnxPanoptic(args.onnx, threads=1)(stitched)
        show(f'whole, {len(whole.segments)} segments', pq_of(in_scenes(whole.id_map), truths, categories))


if __name__ == '__main__':
    cli.run(main)
