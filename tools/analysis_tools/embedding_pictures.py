"""Draw the pixel embeddings of a model, as in figure 6 of the paper on CIAE.

python tools/analysis_tools/embedding_pictures.py CONFIG CHECKPOINT [IMAGE ...] --out DIR [--images 10] [--queries]

Each picture shows the instances of the panoptic map with their boxes and the points at which their queries were read;
the embeddings of all pixels, with their first three principal components as red, green and blue; the panoptic map; and
the ground truth. IMAGE may be a folder; without it, the first images of the config's test set are drawn. With IMAGE
there is no ground truth.

--queries writes a second picture of each image to DIR/queries. It has one heat map for each segment: the similarity of
every pixel to the segment's query, from blue (0 or less) to red (1). Fusion gives a pixel to the query that it is most
similar to.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import PixelData
from rich.progress import track

from mmpanoptic.analysis.activations import draw_heat
from mmpanoptic.analysis.embedding_pictures import draw_points, principal_colors, query_of, unit_embeddings
from mmpanoptic.apis import PanopticInferencer, PanopticResult, list_images
from mmpanoptic.drawing import draw
from mmpanoptic.drawing.encode import encode_png
from mmpanoptic.engine import cli
from mmpanoptic.engine.components import build_dataset
from mmpanoptic.engine.configs import load_config
from mmpanoptic.models import EmbeddingFusion
from mmpanoptic.structures import Evidence
from mmpanoptic.utils import UserError, whole_folder
from mmpanoptic.visualization import PanopticVisualizer
from mmpanoptic.visualization.files import picture_names

QUERY_COLUMNS = 4


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Pictures of pixel embeddings')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('inputs', nargs='*', metavar='IMAGE', help="images or folders (default: the config's test set)")
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for <image>.png; earlier ones are replaced')
    parser.add_argument('--images', type=int, default=10, help='number of images of the test set (default: 10)')
    parser.add_argument('--queries', action='store_true', help='also draw the similarity of all pixels to each query')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: the GPU if there is one, else cpu)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_checkpoint_arguments(parser)
    cli.add_image_arguments(parser)
    return parser.parse_args()


def ground_truths(config: Config, number: int) -> dict[str, PixelData]:
    """Panoptic maps at the original size of the first images of a config's test set, by path."""
    only_annotations = dict(pipeline=[dict(type='LoadPanopticAnnotations')], filter_cfg=None)
    dataset = build_dataset(config, 'test_dataloader', **only_annotations)
    found = {}
    for index in range(min(number, len(dataset))):
        annotation = dataset[index]
        ids = torch.from_numpy(annotation['gt_panoptic_map'])[None]
        found[annotation['img_path']] = PixelData(sem_seg=ids, metainfo=dict(segments_info=annotation['segments_info']))
    return found


def panels(
    visualizer: PanopticVisualizer, result: PanopticResult, evidence: Evidence, truth: PixelData | None
) -> Iterator[tuple[str, np.ndarray]]:
    """Titles and pictures of equal size, uint8 RGB."""
    canvas, factor = draw.upscale(result.image, visualizer.min_side)
    colors = visualizer.colors_of([segment.label for segment in result.segments])
    things = [i for i, segment in enumerate(result.segments) if segment.isthing]
    shown = evidence.instances[torch.tensor([result.segments[i].instance for i in things], dtype=torch.long)].cpu()
    points = shown.points.numpy() if 'points' in shown else None
    yield 'instances and their points', draw_points(canvas, shown.bboxes.numpy(), points, colors[things], factor)

    embedded = principal_colors(unit_embeddings(evidence))
    yield 'embedding', embedded.repeat(factor, axis=0).repeat(factor, axis=1)

    yield 'prediction', result.draw()
    if truth is not None:
        sample = DetDataSample(gt_panoptic_seg=truth)
        yield 'ground truth', visualizer.draw_ground_truth(canvas, factor, sample)


def query_panels(
    visualizer: PanopticVisualizer, result: PanopticResult, evidence: Evidence, num_things: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Titles and heat maps of the segments that have a query, uint8 RGB, the image first."""
    canvas, factor = draw.upscale(result.image, visualizer.min_side)
    yield 'image', canvas
    embeddings = unit_embeddings(evidence)
    for segment in result.segments:
        query = query_of(segment, evidence, num_things)
        if query is not None:
            similarity = torch.einsum('d,dhw->hw', query.to(embeddings), embeddings).cpu().numpy()
            title = f'{segment.name} {100 * segment.similarity:.0f}'
            yield title, draw_heat(canvas, similarity.repeat(factor, axis=0).repeat(factor, axis=1))


def main() -> None:
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    if args.images < 1:
        raise UserError(f'--images {args.images}: at least one image is needed')
    inferencer = PanopticInferencer(config, args.checkpoint, args.device, args.trust_checkpoint, args.allow_nan)
    if not isinstance(getattr(inferencer.model, 'panoptic_fusion_head', None), EmbeddingFusion):
        raise UserError(
            f'{args.config}: {type(inferencer.model).__name__} has no pixel embeddings to draw: take a model with '
            'EmbeddingFusion, such as those of configs/ciae'
        )
    truths = {} if args.inputs else ground_truths(config, args.images)
    paths = list_images(args.inputs) if args.inputs else list(truths)
    visualizer = PanopticVisualizer(name='embedding_pictures')
    visualizer.dataset_meta = inferencer.dataset_meta
    names = picture_names(paths)
    with whole_folder(args.out, 'tools/analysis_tools/embedding_pictures.py', '--out') as folder:
        if args.queries:
            (folder / 'queries').mkdir()
        for path in track(paths, 'Drawing', transient=True):
            result, evidence, _ = inferencer.observe(path)
            drawn = draw.titled_grid(panels(visualizer, result, evidence, truths.get(path)), 2 if truths else 3)
            (folder / f'{names[path]}.png').write_bytes(encode_png(drawn))
            if args.queries:
                heats = query_panels(visualizer, result, evidence, inferencer.model.num_things_classes)
                drawn = draw.titled_grid(heats, QUERY_COLUMNS)
                (folder / 'queries' / f'{names[path]}.png').write_bytes(encode_png(drawn))
    print(f'{len(paths)} pictures: {args.out}/')


if __name__ == '__main__':
    cli.run(main)
