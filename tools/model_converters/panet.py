"""Convert a checkpoint of PANet's authors (https://github.com/ShuLiu1993/PANet) to one of this project.

All three kinds are recognised: boxes and masks (4 conv + 1 fc), boxes only (4 conv + 1 fc), boxes only (2 fc). Weights
are renamed. The background class comes first in the released checkpoints. Its logit becomes the last one; its box
deltas and its mask are dropped, since no result depends on them. The tool names the config for the result.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mmpanoptic.datasets import CocoDataset
from mmpanoptic.engine import cli
from mmpanoptic.engine.checkpoint_files import read_checkpoint
from mmpanoptic.engine.released_checkpoints import check_tensors, save_converted
from mmpanoptic.utils import UserError

BLOCKS = (3, 4, 6, 3)  # blocks of ResNet-50, the only released backbone
NORM_EPS = 1e-5  # BatchNorm adds it to variances
CONFIGS = {  # by whether the box head has 2 fc, and whether there is a mask head
    (False, True): 'panet_r50-caffe_fpn_gn_180k_coco_release.py',
    (False, False): 'panet-det_r50-caffe_fpn_gn_90k_coco_release.py',
    (True, False): 'panet-det-2fc_r50-caffe_fpn_gn_90k_coco_release.py',
}


class Layer(NamedTuple):
    """A layer of the released model: its names there and here, shape of its weight there, whether it has a bias."""

    theirs: str
    ours: str
    shape: tuple[int, ...]
    bias: bool = True

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the layer's tensors, by released name."""
        # The weight of a transposed convolution has outputs as its second dimension, here as many as inputs.
        bias = {f'{self.theirs}.bias': self.shape[:1]} if self.bias else {}
        return {f'{self.theirs}.weight': self.shape, **bias}


def released_layers(num_classes: int = 80, two_fc: bool = False, masks: bool = True) -> list[Layer]:
    """All layers of a released model.

    Args:
        num_classes: Number of classes K without background.
        two_fc: Whether the box head has 2 fc instead of 4 conv + 1 fc.
        masks: Whether there is a mask head.
    """
    layers = [*_backbone(), *_neck(), *_rpn(), *_box_head(num_classes, two_fc)]
    return [*layers, *_mask_head(num_classes)] if masks else layers


def _backbone() -> Iterator[Layer]:
    def pair(theirs: str, ours: str, conv: str, norm: str, *shape: int) -> Iterator[Layer]:
        theirs, ours = f'Conv_Body.conv_body.{theirs}', f'backbone.{ours}'
        yield Layer(f'{theirs}.{conv}', f'{ours}.{conv}', shape, bias=False)
        yield Layer(f'{theirs}.{norm}', f'{ours}.{norm}', shape[:1])

    yield Layer('Conv_Body.conv_body.res1.conv1', 'backbone.conv1', (64, 3, 7, 7), bias=False)
    yield Layer('Conv_Body.conv_body.res1.bn1', 'backbone.bn1', (64,))
    inputs = 64
    for stage, blocks in enumerate(BLOCKS, start=1):
        width = 32 * 2**stage
        for block in range(blocks):
            names = f'res{stage + 1}.{block}', f'layer{stage}.{block}'
            yield from pair(*names, 'conv1', 'bn1', width, inputs, 1, 1)
            yield from pair(*names, 'conv2', 'bn2', width, width, 3, 3)
            yield from pair(*names, 'conv3', 'bn3', 4 * width, width, 1, 1)
            if block == 0:
                yield from pair(*names, 'downsample.0', 'downsample.1', 4 * width, inputs, 1, 1)
            inputs = 4 * width


def _conv_gn(theirs: str, ours: str, *shape: int, number: int = 0, bias: bool = False) -> Iterator[Layer]:
    """A convolution and its norm, items ``number`` and ``number`` + 1 of a list in the released model."""
    yield Layer(f'{theirs}.{number}', f'{ours}.conv', shape, bias)
    yield Layer(f'{theirs}.{number + 1}', f'{ours}.gn', shape[:1])


def _neck() -> Iterator[Layer]:
    # The released model numbers laterals and outputs from coarse to fine, the bottom-up path from fine to coarse.
    yield from _conv_gn('Conv_Body.conv_top', 'neck.lateral_convs.3', 256, 2048, 1, 1)
    for i, inputs in enumerate((1024, 512, 256)):
        theirs = f'Conv_Body.topdown_lateral_modules.{i}.conv_lateral'
        yield from _conv_gn(theirs, f'neck.lateral_convs.{2 - i}', 256, inputs, 1, 1)
    for i in range(4):
        yield from _conv_gn(f'Conv_Body.posthoc_modules.{i}', f'neck.fpn_convs.{3 - i}', 256, 256, 3, 3)
    for j, ours in enumerate(('downsample_convs', 'pafpn_convs'), start=1):
        for i in range(3):
            theirs = f'Conv_Body.panet_buttomup_conv{j}_modules.{i}'
            yield from _conv_gn(theirs, f'neck.{ours}.{i}', 256, 256, 3, 3, bias=True)


def _rpn() -> Iterator[Layer]:
    yield Layer('RPN.FPN_RPN_conv', 'rpn_head.rpn_conv', (256, 256, 3, 3))
    yield Layer('RPN.FPN_RPN_cls_score', 'rpn_head.rpn_cls', (3, 256, 1, 1))
    yield Layer('RPN.FPN_RPN_bbox_pred', 'rpn_head.rpn_reg', (12, 256, 1, 1))


def _box_head(num_classes: int, two_fc: bool) -> Iterator[Layer]:
    def fc_gn(theirs: str, ours: str, inputs: int) -> Iterator[Layer]:
        yield Layer(f'{theirs}.0', f'{head}.{ours}.fc', (1024, inputs))
        yield Layer(f'{theirs}.1', f'{head}.{ours}.gn', (1024,))

    head = 'roi_head.bbox_head'
    for i in range(4):
        if two_fc:
            yield from fc_gn(f'Box_Head.fc1.{i}', f'pooling.layers.{i}', 256 * 7 * 7)
        else:
            yield from _conv_gn(f'Box_Head.conv1_head.{i}', f'{head}.pooling.layers.{i}', 256, 256, 3, 3)
    if two_fc:
        yield from fc_gn('Box_Head.fc2', 'shared_fcs.0', 1024)
    else:
        for i in range(3):  # one list: convolution, norm, ReLU, convolution, ...
            yield from _conv_gn('Box_Head.convs', f'{head}.shared_convs.{i}', 256, 256, 3, 3, number=3 * i)
        yield Layer('Box_Head.fc', f'{head}.shared_fcs.0.fc', (1024, 256 * 7 * 7))
    yield Layer('Box_Outs.cls_score', f'{head}.fc_cls', (num_classes + 1, 1024))
    yield Layer('Box_Outs.bbox_pred', f'{head}.fc_reg', (4 * (num_classes + 1), 1024))


def _mask_head(num_classes: int) -> Iterator[Layer]:
    head = 'roi_head.mask_head'
    for i in range(4):
        yield from _conv_gn(f'Mask_Head.mask_conv1.{i}', f'{head}.convs.0.layers.{i}', 256, 256, 3, 3)
    for i in range(2):
        yield from _conv_gn('Mask_Head.conv_fcn', f'{head}.convs.{i + 1}', 256, 256, 3, 3, number=3 * i)
    yield from _conv_gn('Mask_Head.mask_conv4', f'{head}.convs.3', 256, 256, 3, 3)
    yield from _conv_gn('Mask_Head.mask_conv4_fc', f'{head}.fc_convs.0', 256, 256, 3, 3)
    yield from _conv_gn('Mask_Head.mask_conv5_fc', f'{head}.fc_convs.1', 128, 256, 3, 3)
    yield Layer('Mask_Head.mask_fc.0', f'{head}.mask_fc', (28 * 28, 128 * 14 * 14))
    yield Layer('Mask_Head.upconv', f'{head}.upsample', (256, 256, 2, 2))
    yield Layer('Mask_Outs.classify', f'{head}.conv_logits', (num_classes + 1, 256, 1, 1))


# The background is class 0 in the released model. Here it is the last logit, without deltas and mask.
CLASS_ROWS = {
    'Box_Outs.cls_score': lambda rows: torch.cat([rows[1:], rows[:1]]),
    'Box_Outs.bbox_pred': lambda rows: rows[4:],
    'Mask_Outs.classify': lambda rows: rows[1:],
}


def convert_layer(layer: Layer, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a layer in the form of this project's model.

    Args:
        layer: The layer.
        weights: Released tensors by name, including those of the layer, of any shape.

    Returns:
        Tensors by name.
    """
    tensors = {}
    for name in layer.shapes:
        value = CLASS_ROWS.get(layer.theirs, lambda rows: rows)(weights[name])
        tensors[layer.ours + name.removeprefix(layer.theirs)] = value.clone()
    if layer.theirs.startswith('Conv_Body.conv_body.') and len(layer.shape) == 1:
        # The released norm only scales and shifts, as a BatchNorm with these statistics does.
        scale = tensors[f'{layer.ours}.weight']
        tensors[f'{layer.ours}.running_mean'] = torch.zeros_like(scale)
        tensors[f'{layer.ours}.running_var'] = torch.full_like(scale, 1 - NORM_EPS)
        tensors[f'{layer.ours}.num_batches_tracked'] = torch.tensor(0)
    return tensors


def kind_of(weights: Iterable[str]) -> tuple[bool, bool]:
    """Whether the box head has 2 fc, and whether there is a mask head, from the names of tensors."""
    masks = any(name.startswith('Mask_') for name in weights)
    return not masks and any(name.startswith('Box_Head.fc1.') for name in weights), masks


def recognize(weights: Mapping[str, Tensor], source: str) -> list[Layer]:
    """Recognise the kind of model from its tensors and return its layers.

    Raises:
        UserError: If a tensor is missing, unknown or of another shape; the message names it.
    """
    scores = weights.get('Box_Outs.cls_score.bias')
    num_classes = len(scores) - 1 if isinstance(scores, Tensor) and scores.dim() == 1 else 80
    layers = released_layers(num_classes, *kind_of(weights))
    check_tensors(weights, {name: shape for layer in layers for name, shape in layer.shapes.items()}, source)
    return layers


def convert(weights: Mapping[str, Tensor], layers: Iterable[Layer]) -> dict[str, Tensor]:
    """The tensors of all layers in the form of this project's model, by name; see :func:`convert_layer`."""
    return {name: value for layer in layers for name, value in convert_layer(layer, weights).items()}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('src', help='the released checkpoint')
    parser.add_argument('dst', help='the checkpoint to write')
    cli.add_checkpoint_arguments(parser, checks_values=False)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    content = read_checkpoint(args.src, args.trust_checkpoint)
    weights = content.get('model') if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise UserError(f'{args.src} holds no weights by name under "model", as the released checkpoints do')
    layers = recognize(weights, args.src)
    converted = convert(weights, layers)
    meta = {key: content[key] for key in ('step', 'batch_size') if isinstance(content.get(key), int)}
    num_classes = len(weights['Box_Outs.cls_score.bias']) - 1
    if num_classes == len(CocoDataset.METAINFO['classes']):
        meta['dataset_meta'] = CocoDataset.METAINFO
    save_converted(args.dst, args.src, converted, meta)

    written = sum(len(layer.shapes) for layer in layers)
    rows = {x.theirs: x.shape[0] - len(converted[f'{x.ours}.bias']) for x in layers if x.theirs in CLASS_ROWS}
    dropped = ', '.join(f'{count} of {name}' for name, count in rows.items() if count)
    print(f'{args.src}: {num_classes} classes, for configs/panet/{CONFIGS[kind_of(weights)]}')
    print(f'{len(weights)} tensors read, {written} written and {len(converted) - written} statistics of fixed norms')
    print(f'Rows of the background dropped: {dropped}')
    print(f'Written to {args.dst}')


if __name__ == '__main__':
    cli.run(main)
