"""Draw activation maps of the classes of a SpatialFlow, as in figure 5 of its paper.

python tools/analysis_tools/activation_maps.py CONFIG CHECKPOINT [IMAGE ...] --out DIR [--classes person sky]

Each picture shows an image and, for each class, a heat map from blue (0) to red (1) over the image in grey. For a thing
class, it shows the largest probability of the class over anchors and levels at each place; for a stuff class, the
softmax of the semantic head. Without --classes, the classes are that of the most confident detection and the stuff
class with the largest area in the panoptic map, if there are any. IMAGE may be a folder; without it, the first images
of the config's test set are drawn.

Class activation maps weight the channels of the last map by the classifier's weights (Zhou et al., Learning Deep
Features for Discriminative Localization, https://arxiv.org/abs/1512.04150). Here the classifiers are convolutions, so
that these maps are their logits. The pictures show the probabilities of these logits.

The figure compares maps with and without flows. To get both, run this tool with the same images and --classes on
configs/spatialflow/spatialflow_r18_fpn_shapes.py and on configs/spatialflow/ablations/shapes_subnets.py, each with its
own checkpoint.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.config import Config
from rich.progress import track

from mmpanoptic.analysis.activations import class_activation, draw_heat
from mmpanoptic.apis import PanopticInferencer, PanopticResult, list_images
from mmpanoptic.drawing import draw
from mmpanoptic.drawing.encode import encode_png
from mmpanoptic.engine import cli
from mmpanoptic.engine.components import build_dataset
from mmpanoptic.engine.configs import load_config
from mmpanoptic.models import SpatialFlow, SpatialFlowOutputs
from mmpanoptic.utils import UserError, whole_folder
from mmpanoptic.visualization.files import picture_names


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Activation maps of the classes of a SpatialFlow')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('inputs', nargs='*', metavar='IMAGE', help="images or folders (default: the config's test set)")
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for <image>.png; earlier ones are replaced')
    parser.add_argument('--images', type=int, default=10, help='number of images of the test set (default: 10)')
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='classes to draw (default: one thing and one stuff class of each image)',
    )
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: the GPU if there is one, else cpu)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_checkpoint_arguments(parser)
    cli.add_image_arguments(parser)
    return parser.parse_args()


def first_images(config: Config, number: int) -> list[str]:
    """Paths of the first images of a config's test set."""
    dataset = build_dataset(config, 'test_dataloader', pipeline=[], filter_cfg=None)
    return [dataset.get_data_info(index)['img_path'] for index in range(min(number, len(dataset)))]


def find_labels(names: list[str], classes: list[str]) -> list[int]:
    """Labels of classes, given their names.

    Raises:
        UserError: If a name is no class of the model.
    """
    for name in names:
        if name not in classes:
            raise UserError(f'--classes: {name!r} is no class of this model, which has {", ".join(classes)}')
    return [classes.index(name) for name in names]


def foremost_labels(result: PanopticResult) -> list[int]:
    """Labels of the most confident detection and of the stuff class with the largest area, if there are any."""
    found = []
    if len(result.instances):
        found.append(int(result.instances.labels[result.instances.scores.argmax()]))
    stuff = [segment for segment in result.segments if not segment.isthing]
    if stuff:
        found.append(max(stuff, key=lambda segment: segment.area).label)
    return found


@torch.no_grad()
def activations(
    inferencer: PanopticInferencer, path: str, labels: list[int] | None
) -> tuple[PanopticResult, dict[int, np.ndarray]]:
    """The result for one image and, by label, maps of probabilities, float32 of the image's size.

    Without ``labels``, maps are those of :func:`foremost_labels`. The softmax of stuff is over the classes among which
    a pixel's stuff class is decided.
    """
    model, head = inferencer.model, inferencer.model.bbox_head
    seen: list[SpatialFlowOutputs] = []
    handle = head.register_forward_hook(lambda module, args, outputs: seen.append(outputs))
    try:
        result, evidence, metainfo = inferencer.observe(path)
    finally:
        handle.remove()
    (outputs,) = seen
    shapes = evidence.input_size, evidence.output_size
    cls_scores = [level[0] for level in outputs.cls_scores]
    semantic_head = model.semantic_head
    predict_logits = getattr(semantic_head, 'predict_logits', semantic_head.predict)  # other heads predict only logits
    (logits,) = predict_logits(tuple(outputs.stuff_feats), [metainfo], rescale=True)
    stuff = logits.of_stuff(model.num_things_classes, model.num_stuff_classes).float().softmax(dim=0)
    maps = {}
    for label in foremost_labels(result) if labels is None else labels:
        if label < model.num_things_classes:
            found = class_activation(cls_scores, head.prior_generator.strides, label, model.num_things_classes, *shapes)
        else:
            found = stuff[label - model.num_things_classes]
        maps[label] = found.cpu().numpy()
    return result, maps


def panels(
    result: PanopticResult, maps: dict[int, np.ndarray], classes: list[str], min_side: int = 360
) -> Iterator[tuple[str, np.ndarray]]:
    """Titles and pictures of equal size, uint8 RGB; small images are enlarged."""
    canvas, factor = draw.upscale(result.image, min_side)
    yield 'image', canvas
    for label, found in maps.items():
        enlarged = found.repeat(factor, axis=0).repeat(factor, axis=1)
        yield f'{classes[label]}, up to {found.max():.2f}', draw_heat(canvas, enlarged)


def main() -> None:
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    if args.images < 1:
        raise UserError(f'--images {args.images}: at least one image is needed')
    inferencer = PanopticInferencer(config, args.checkpoint, args.device, args.trust_checkpoint, args.allow_nan)
    if not isinstance(inferencer.model, SpatialFlow):
        raise UserError(
            f'{args.config}: {type(inferencer.model).__name__} has not both class logits at every place and a stuff '
            'head, which this tool draws: use a SpatialFlow, such as those of configs/spatialflow'
        )
    classes = inferencer.dataset_meta['classes']
    labels = None if args.classes is None else find_labels(args.classes, classes)
    paths = list_images(args.inputs) if args.inputs else first_images(config, args.images)
    names = picture_names(paths)
    with whole_folder(args.out, 'tools/analysis_tools/activation_maps.py', '--out') as folder:
        for path in track(paths, 'Drawing', transient=True):
            drawn = list(panels(*activations(inferencer, path, labels), classes))
            (folder / f'{names[path]}.png').write_bytes(encode_png(draw.titled_grid(drawn, len(drawn))))
    print(f'{len(paths)} pictures: {args.out}/')


if __name__ == '__main__':
    cli.run(main)
