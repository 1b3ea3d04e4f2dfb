"""Convert a checkpoint of SpatialFlow's authors (https://github.com/chensnathan/SpatialFlow) to one of this project.

R50, R101 and R101-DCN are recognised, and the same network with another ResNet, other widths or numbers of classes.
Only tensors of the stuff head get new names. Tensors in half precision (R101-DCN) become float32.

In this project, the stuff head's channel 'other', which stands for all things, comes last. Released checkpoints have it
at index 36 of 54, in the order of COCO's ids, and the tool assumes this with 54 channels and 80 thing classes.
Otherwise channels keep their order, and 'other' must be the last one or missing; --other-index gives another position.
The tool names the config for the result.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmpanoptic.engine import cli
from mmpanoptic.engine.checkpoint_files import read_checkpoint
from mmpanoptic.engine.released_checkpoints import check_tensors, save_converted
from mmpanoptic.registry import DATASETS
from mmpanoptic.utils import UserError

BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # blocks of each stage of ResNets, two convolutions per block
BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # three per block
STAGES = dict(cls=4, reg=4, mask=1, stuff=4)  # convolutions of the sub-networks
STUFF_LEVELS = 3
OFFSETS = 27  # channels for a deformable 3x3 convolution: (dy, dx) and a factor for each of 9 taps
COCO, OTHER = (80, 54), 36  # thing classes, channels of the stuff head; released index of 'other'
CONFIGS = {  # by depth, whether the backbone is deformable, and deformable sub-networks
    (50, False, ()): 'spatialflow_r50_fpn_20e_coco_release.py',
    (101, False, ()): 'spatialflow_r101_fpn_20e_coco_release.py',
    (101, True, ('cls', 'mask', 'stuff')): 'spatialflow_r101-dconv-c3-c5_fpn_ms-20e_coco_release.py',
}
Shapes = Iterator[tuple[str, tuple[int, ...]]]


class Sizes(NamedTuple):
    """Sizes that differ between models; defaults are those of the released R50."""

    depth: int = 50
    dcn: bool = False  # deformable convolutions in the last three stages of the backbone
    deformable: tuple[str, ...] = ()  # deformable sub-networks
    base: int = 64  # channels of the backbone's first stage
    channels: int = 256  # channels of the pyramid and the sub-networks
    mask_channels: int = 256
    inner: int = 128  # channels of the stuff head
    anchors: int = 9
    things: int = 80
    stuff: int = 54  # channels of stuff, including 'other' if it exists


def _usual(sizes: list[int], default: int) -> int:
    """The most frequent of sizes that should agree, so that one tensor of a wrong shape does not decide."""
    return Counter(sizes).most_common(1)[0][0] if sizes else default


def sizes_of(weights: Mapping[str, Any]) -> Sizes:
    """Sizes of a model, found from the names and first dimensions of its tensors."""

    def lengths(pattern: str) -> list[int]:
        found = (value for name, value in weights.items() if re.fullmatch(pattern, name))
        return [value.shape[0] for value in found if isinstance(value, Tensor) and value.dim()]

    usual = Sizes()
    blocks = {int(match[1]) for name in weights if (match := re.match(r'backbone\.layer3\.(\d+)\.', name))}
    three = any(re.match(r'backbone\.layer\d\.\d+\.conv3\.', name) for name in weights)
    depths = BOTTLENECK if three or not blocks else BASIC
    channels = _usual(lengths(r'neck\..*\.bias'), usual.channels)
    flows = {name: lengths(rf'bbox_head\.{name}_spatial_flow_convs\..*') for name in ('cls', 'mask', 'stuff')}
    anchors = max(_usual([rows // 4 for rows in lengths(r'bbox_head\.retina_reg\..*')], usual.anchors), 1)
    things = [rows // anchors for rows in lengths(r'bbox_head\.retina_cls\..*')]
    return Sizes(
        depth=next((depth for depth, stages in depths.items() if stages[2] >= len(blocks)), max(depths)),
        dcn=any('.conv_offset.' in name for name in weights),
        deformable=tuple(name for name, rows in flows.items() if _usual(rows, channels) == OFFSETS != channels),
        base=_usual(lengths(r'backbone\.(bn1|layer1\.\d+\.bn1)\..*'), usual.base),
        channels=channels,
        mask_channels=_usual(lengths(r'mask_head\.(convs|upsample)\..*'), usual.mask_channels),
        inner=_usual(lengths(r'stuff_head\.lateral_convs\..*'), usual.inner),
        anchors=anchors,
        things=_usual(things + lengths(r'mask_head\.conv_logits\..*'), usual.things),
        stuff=_usual(lengths(r'stuff_head\.conv\..*'), usual.stuff),
    )


def released_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a released model, by released name."""
    return dict([*_backbone(sizes), *_neck(sizes), *_bbox_head(sizes), *_mask_head(sizes), *_stuff_head(sizes)])


def _conv(name: str, *shape: int) -> Shapes:
    """A convolution with a bias."""
    yield f'{name}.weight', shape
    yield f'{name}.bias', shape[:1]


def _backbone(sizes: Sizes) -> Shapes:
    def conv_norm(conv: str, norm: str, *shape: int) -> Shapes:
        yield f'backbone.{conv}.weight', shape
        for part in ('weight', 'bias', 'running_mean', 'running_var'):
            yield f'backbone.{norm}.{part}', shape[:1]
        yield f'backbone.{norm}.num_batches_tracked', ()

    basic, inputs = sizes.depth in BASIC, sizes.base
    yield from conv_norm('conv1', 'bn1', sizes.base, 3, 7, 7)
    for stage, blocks in enumerate((BASIC | BOTTLENECK)[sizes.depth], start=1):
        width = sizes.base * 2 ** (stage - 1)
        outputs = width if basic else 4 * width
        for block in range(blocks):
            name = f'layer{stage}.{block}'
            yield from conv_norm(f'{name}.conv1', f'{name}.bn1', width, inputs, *((3, 3) if basic else (1, 1)))
            yield from conv_norm(f'{name}.conv2', f'{name}.bn2', width, width, 3, 3)
            if sizes.dcn and stage > 1:
                yield from _conv(f'backbone.{name}.conv2.conv_offset', OFFSETS, width, 3, 3)
            if not basic:
                yield from conv_norm(f'{name}.conv3', f'{name}.bn3', outputs, width, 1, 1)
            if block == 0 and (stage > 1 or not basic):
                yield from conv_norm(f'{name}.downsample.0', f'{name}.downsample.1', outputs, inputs, 1, 1)
            inputs = outputs


def _neck(sizes: Sizes) -> Shapes:
    channels = sizes.channels
    levels = [sizes.base * 2**i * (1 if sizes.depth in BASIC else 4) for i in (1, 2, 3)]
    for i, inputs in enumerate(levels):
        yield from _conv(f'neck.lateral_convs.{i}.conv', channels, inputs, 1, 1)
    for i, inputs in enumerate((channels, channels, channels, levels[-1], channels)):
        yield from _conv(f'neck.fpn_convs.{i}.conv', channels, inputs, 3, 3)


def _bbox_head(sizes: Sizes) -> Shapes:
    channels = sizes.channels
    for name, stages in STAGES.items():
        for i in range(stages):
            yield from _conv(f'bbox_head.{name}_convs.{i}.conv', channels, channels, 3, 3)
            if name != 'reg':
                outputs = OFFSETS if name in sizes.deformable else channels
                yield from _conv(f'bbox_head.{name}_spatial_flow_convs.{i}.conv', outputs, channels, 3, 3)
    yield from _conv('bbox_head.stuff_mask_flow_convs.0.conv', channels, channels, 3, 3)
    yield from _conv('bbox_head.retina_cls', sizes.anchors * sizes.things, channels, 3, 3)
    yield from _conv('bbox_head.retina_reg', sizes.anchors * 4, channels, 3, 3)


def _mask_head(sizes: Sizes) -> Shapes:
    width = sizes.mask_channels
    for i in range(4):
        yield from _conv(f'mask_head.convs.{i}.conv', width, width if i else sizes.channels, 3, 3)
    yield from _conv('mask_head.upsample', width, width, 2, 2)
    yield from _conv('mask_head.conv_logits', sizes.things, width, 1, 1)


def _stuff_head(sizes: Sizes) -> Shapes:
    for level in range(STUFF_LEVELS):
        for i in range(level + 1):
            name = f'stuff_head.lateral_convs.{level}.{2 * i}'  # upsampling layers are in between
            yield f'{name}.conv.weight', (sizes.inner, sizes.inner if i else sizes.channels, 3, 3)
            yield f'{name}.gn.weight', (sizes.inner,)
            yield f'{name}.gn.bias', (sizes.inner,)
    yield from _conv('stuff_head.conv', sizes.stuff, sizes.inner, 1, 1)


def recognize(weights: Mapping[str, Any], source: str) -> Sizes:
    """Recognise a model from its tensors and return its sizes.

    Raises:
        UserError: If a tensor is missing, unknown or of another shape; the message names it.
    """
    sizes = sizes_of(weights)
    check_tensors(weights, released_shapes(sizes), source)
    return sizes


def check_values(weights: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that are not floating-point numbers, such as quantised ones, or not finite.

    Raises:
        UserError: If there are such weights; the message names the first one.
    """
    for name, value in weights.items():
        if not (value.is_floating_point() or _is_counter(name)):
            raise UserError(f'{source} has {name} in {value.dtype}: convert the file as its authors released it')
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f'{source} has values in {name} that are not finite: fetch the file again')


def _is_counter(name: str) -> bool:
    return name.endswith('.num_batches_tracked')


def our_name(name: str) -> str:
    """The name in this project of a tensor with a released name."""
    name = re.sub(r'^stuff_head\.conv\.', 'semantic_head.conv_logits.', name)
    return re.sub(r'^stuff_head\.', 'semantic_head.', name)


def default_other(sizes: Sizes) -> int | None:
    """Default index of 'other' among the channels of the stuff head; None: the order is kept."""
    return OTHER if (sizes.things, sizes.stuff) == COCO else None


def convert(weights: Mapping[str, Tensor], other: int | None) -> dict[str, Tensor]:
    """Convert released tensors to the form of this project's model.

    Args:
        weights: Tensors by released name.
        other: Channel of the stuff head that becomes the last one; None: channels keep their order.

    Returns:
        The same number of tensors by name, in float32 (counters of batches: int64).
    """
    converted = {}
    for name, value in weights.items():
        value = value.to(torch.int64 if _is_counter(name) else torch.float32, copy=True)
        if name.startswith('stuff_head.conv.') and other is not None:
            value = torch.cat([value[:other], value[other + 1 :], value[other : other + 1]])
        converted[our_name(name)] = value
    return converted


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('src', help='the released checkpoint')
    parser.add_argument('dst', help='the checkpoint to write')
    parser.add_argument(
        '--other-index',
        type=int,
        help="index, from 0, of the stuff head's channel 'other', which stands for all things and becomes the last. "
        'Default: 36 with 54 channels, as released for COCO; otherwise channels keep their order',
    )
    cli.add_checkpoint_arguments(parser, checks_values=False)
    return parser.parse_args()


def describe(sizes: Sizes) -> str:
    """Text on a model and the config for it."""
    plain = sizes._replace(depth=50, dcn=False, deformable=())
    if plain == Sizes() and (config := CONFIGS.get((sizes.depth, sizes.dcn, sizes.deformable))):
        use = f'for configs/spatialflow/{config}'
    else:
        use = 'which no released model has: set them in a config that inherits from one in configs/spatialflow'
    deformable = [
        *(['stages 2 to 4 of the backbone'] if sizes.dcn else []),
        *(f'sub-network {name}' for name in sizes.deformable),
    ]
    return (
        f'ResNet-{sizes.depth} of width {sizes.base}, {sizes.channels} channels ({sizes.inner} for stuff), '
        f'{sizes.things} thing classes, deformable: {", ".join(deformable) or "nothing"}; {use}'
    )


def main() -> None:
    args = parse_args()
    content = read_checkpoint(args.src, args.trust_checkpoint)
    weights = content.get('state_dict') if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise UserError(f'{args.src} holds no weights by name under "state_dict", as the released checkpoints do')
    sizes = recognize(weights, args.src)
    check_values(weights, args.src)
    other = default_other(sizes) if args.other_index is None else args.other_index
    if other is not None and not 0 <= other < sizes.stuff:
        raise UserError(f'--other-index {other}: the channels of stuff in {args.src} are 0 to {sizes.stuff - 1}')
    converted = convert(weights, other)
    old_meta = content.get('meta') if isinstance(content.get('meta'), dict) else {}
    meta = {key: old_meta[key] for key in ('epoch', 'iter') if isinstance(old_meta.get(key), int)}
    if (sizes.things, sizes.stuff) == COCO:
        meta['dataset_meta'] = DATASETS.get('mmdet.CocoPanopticDataset').METAINFO
    save_converted(args.dst, args.src, converted, meta)

    changed = sum(value.dtype != torch.float32 for name, value in weights.items() if not _is_counter(name))
    values = sum(value.numel() for value in converted.values())
    print(f'{args.src}: {describe(sizes)}')
    print(f'{len(weights)} tensors read, {len(converted)} written with {values} values; {changed} brought to float32')
    if other is None:
        print(f"Stuff: {sizes.stuff} channels in the order they had; if 'other' is one of them and not the last, "
              'convert again with --other-index')  # fmt: skip
    else:
        print(f"Stuff: channel {other}, 'other', moved behind the other {sizes.stuff - 1}")
    print(f'Written to {args.dst}')


if __name__ == '__main__':
    cli.run(main)
