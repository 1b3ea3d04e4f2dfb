from pathlib import Path

import pytest
import torch
from mmcv.ops import DeformConv2d, ModulatedDeformConv2d, ModulatedDeformConv2dPack
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmpanoptic.analysis.operations import count_multiply_adds, sum_by_part
from mmpanoptic.registry import MODELS


def by_hand(out_channels: int, in_channels: int, kernel: int, places: int) -> int:
    """Multiply-adds of an ungrouped convolution."""
    return out_channels * in_channels * kernel * places


@pytest.mark.parametrize(
    ('layer', 'shape', 'expected'),
    [
        (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 5, 7), by_hand(6, 4, 9, 2 * 5 * 7)),
        (nn.Conv2d(4, 6, 3, stride=2, bias=False), (1, 4, 9, 9), by_hand(6, 4, 9, 4 * 4)),
        (nn.Conv2d(4, 6, (1, 7), dilation=2), (1, 4, 3, 20), by_hand(6, 4, 7, 3 * 8)),
        (nn.Conv2d(4, 6, 3, groups=2), (1, 4, 5, 5), 2 * by_hand(3, 2, 9, 3 * 3)),
        (nn.Conv2d(4, 4, 3, groups=4), (1, 4, 5, 5), 4 * by_hand(1, 1, 9, 3 * 3)),
        (nn.Conv1d(4, 6, 3), (1, 4, 5), by_hand(6, 4, 3, 3)),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 5, 7), by_hand(6, 4, 4, 5 * 7)),
        (nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1, groups=2), (1, 4, 5, 7), 2 * by_hand(3, 2, 16, 5 * 7)),
        (nn.Linear(5, 3), (7, 5), 7 * 3 * 5),
        (nn.Linear(5, 3), (2, 7, 5), 2 * 7 * 3 * 5),
        (nn.Linear(5, 3), (0, 5), 0),
    ],
)
def test_layers(layer: nn.Module, shape: tuple[int, ...], expected: int):
    model = nn.Sequential(nn.ReLU(), layer)
    assert count_multiply_adds(model, lambda: model(torch.rand(shape))) == {'1': expected}


def test_deformable_layers():
    x, offset = torch.rand(1, 4, 5, 7), torch.rand(1, 18, 5, 7)
    expected = by_hand(6, 4, 9, 5 * 7)
    plain = DeformConv2d(4, 6, 3, padding=1)
    assert count_multiply_adds(plain, lambda: plain(x, offset)) == {'': expected}
    modulated = ModulatedDeformConv2d(4, 6, 3, padding=1)
    assert count_multiply_adds(modulated, lambda: modulated(x, offset, offset[:, :9])) == {'': expected}
    pack = ModulatedDeformConv2dPack(4, 6, 3, padding=1)
    counts = count_multiply_adds(pack, lambda: pack(x))
    assert counts == {'': expected, 'conv_offset': by_hand(27, 4, 9, 5 * 7)}


def test_calls_are_summed_and_the_rest_is_zero():
    shared = nn.Conv2d(2, 3, 1)
    model = nn.ModuleDict(dict(a=shared, b=shared, idle=nn.Linear(2, 2)))
    counts = count_multiply_adds(
        model, lambda: [model['a'](torch.rand(1, 2, s, s)) for s in (4, 2)] and model['b'](torch.rand(1, 2, 1, 1))
    )
    assert counts == {'a': 6 * (16 + 4 + 1), 'idle': 0}


def test_hooks_are_removed():
    model = nn.Sequential(nn.Linear(2, 2))
    count_multiply_adds(model, lambda: model(torch.rand(1, 2)))
    assert not model[0]._forward_hooks
    with pytest.raises(RuntimeError):
        count_multiply_adds(model, lambda: model(torch.rand(1, 3)))
    assert not model[0]._forward_hooks


def test_sum_by_part():
    numbers = {
        'neck.a.conv': 1,
        'neck.b': 2,
        'roi_head.box.fc': 3,
        'roi_head.mask.conv': 4,
        'roi_head.box.reg': 5,
        'x': 6,
    }
    assert sum_by_part(numbers) == {'neck': 3, 'roi_head': 12, 'x': 6}
    assert sum_by_part(numbers, ('roi_head',)) == {'neck': 3, 'roi_head.box': 8, 'roi_head.mask': 4, 'x': 6}


def test_panoptic_fpn_r50(repo_root: Path):
    """An image of 800x1344 with 1000 boxes and 100 masks; written out, and in G as mmdet's tool rounds it."""
    config = Config.fromfile(repo_root / 'configs/panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py')
    init_default_scope(config.default_scope)
    with torch.device('meta'):
        model = MODELS.build(config.model).eval()
    image = torch.empty(1, 3, 800, 1344, device='meta')

    def run() -> None:
        features = model.extract_feat(image)
        model.rpn_head(features)
        model.semantic_head(features)
        model.roi_head.bbox_head(torch.empty(1000, 256, 7, 7, device='meta'))
        model.roi_head.mask_head(torch.empty(100, 256, 14, 14, device='meta'))

    counts = sum_by_part(count_multiply_adds(model, run), ('roi_head',))
    places = [200 * 336, 100 * 168, 50 * 84, 25 * 42]
    assert counts['neck'] == sum(
        n * (c * 256 + 9 * 256 * 256) for n, c in zip(places, (256, 512, 1024, 2048), strict=True)
    )
    assert counts['rpn_head'] == (sum(places) + 13 * 21) * (9 * 256 * 256 + 256 * 15)
    assert counts['roi_head.bbox_head'] == 1000 * (256 * 49 * 1024 + 1024 * 1024 + 1024 * (81 + 320))
    assert counts['roi_head.mask_head'] == 100 * 196 * (4 * 9 * 256 * 256 + 4 * 256 * 256 + 4 * 256 * 80)
    assert {part: round(count / 1e9, 1) for part, count in counts.items()} == {
        'backbone': 87.6,
        'neck': 60.9,
        'rpn_head': 53.1,
        'roi_head.bbox_head': 14.3,
        'roi_head.mask_head': 53.0,
        'semantic_head': 32.4,
    }
