"""Draw detection scores, ranking scores and the panoptic maps of both orders, as in figures 6 to 8 of OANet.

python tools/analysis_tools/ranking_pictures.py CONFIG CHECKPOINT IMAGE [IMAGE ...] --out DIR

Each picture has two rows. The first row shows the instances above the confidence threshold with their detection scores,
and the panoptic map in which they are pasted in this order; the second row shows the same for ranking scores. The
instance with the highest score is on top.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData
from rich.progress import track
from torch import Tensor

from mmpanoptic.apis import PanopticInferencer, list_images
from mmpanoptic.drawing import draw
from mmpanoptic.drawing.encode import encode_png
from mmpanoptic.engine import cli
from mmpanoptic.engine.configs import load_config
from mmpanoptic.models import RankingFusion
from mmpanoptic.models.fusion.paste.instances import order_instances
from mmpanoptic.structures import Evidence
from mmpanoptic.utils import UserError, whole_folder
from mmpanoptic.visualization import PanopticVisualizer
from mmpanoptic.visualization.files import picture_names


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Pictures of detection and ranking scores')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('inputs', nargs='+', metavar='IMAGE', help='images or folders')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for <image>.png; earlier ones are replaced')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: the GPU if there is one, else cpu)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_checkpoint_arguments(parser)
    cli.add_image_arguments(parser)
    return parser.parse_args()


def orders(head: RankingFusion, evidence: Evidence) -> Iterator[tuple[str, list[int], Tensor]]:
    """For both orders: name, instances from front to back, and the scores of shape (N,) that they are sorted by."""
    scores = evidence.instances.scores.cpu()
    yield 'detection score', order_instances(scores, head.score_thr), scores
    yield 'ranking score', head.order(evidence), head.ranking_scores(evidence).cpu()


def panels(
    visualizer: PanopticVisualizer, image: np.ndarray, head: RankingFusion, evidence: Evidence
) -> Iterator[tuple[str, np.ndarray]]:
    """Titles and pictures of equal size, uint8 RGB: for each order the instances, then the panoptic map."""
    canvas, factor = draw.upscale(image, visualizer.min_side)
    for name, order, scores in orders(head, evidence):
        chosen = torch.tensor(order, dtype=torch.long)
        instances = InstanceData(
            masks=evidence.instances.masks.bool().cpu()[chosen],
            labels=evidence.instances.labels.cpu()[chosen],
            scores=scores[chosen],
        )
        sample = DetDataSample(pred_instances=instances)
        yield f'{name}s', visualizer.draw_prediction(canvas, factor, sample, score_thr=-1.0)
        panoptic, segments = head.fuse(evidence, order=order)
        segments = [{key: value for key, value in segment.items() if key != 'score'} for segment in segments]
        found = PixelData(sem_seg=panoptic.cpu()[None], metainfo=dict(segments_info=segments))
        sample = DetDataSample(pred_panoptic_seg=found)
        yield f'pasted by {name}', visualizer.draw_prediction(canvas, factor, sample, score_thr=0.0)


def main() -> None:
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    inferencer = PanopticInferencer(config, args.checkpoint, args.device, args.trust_checkpoint, args.allow_nan)
    head = getattr(inferencer.model, 'panoptic_fusion_head', None)
    if not isinstance(head, RankingFusion):
        raise UserError(
            f'{args.config}: {type(inferencer.model).__name__} has no ranking scores to draw: take a model with '
            'RankingFusion, such as those of configs/oanet'
        )
    paths = list_images(args.inputs)
    visualizer = PanopticVisualizer(name='ranking_pictures')
    visualizer.dataset_meta = inferencer.dataset_meta
    names = picture_names(paths)
    with whole_folder(args.out, 'tools/analysis_tools/ranking_pictures.py', '--out') as folder:
        for path in track(paths, 'Drawing', transient=True):
            result, evidence, _ = inferencer.observe(path)
            drawn = draw.titled_grid(panels(visualizer, result.image, head, evidence), 2)
            (folder / f'{names[path]}.png').write_bytes(encode_png(drawn))
    print(f'{len(paths)} pictures: {args.out}/')


if __name__ == '__main__':
    cli.run(main)
