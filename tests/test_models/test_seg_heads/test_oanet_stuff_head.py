"""OANetStuffHead: sizes, operations, losses worked out by hand, predictions."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.models import giga_multiply_adds
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData

from mmpanoptic.models import OANetStuffHead

FULL = (200, 336)  # stride 4 of 800x1344


def levels(channels, size, count=5, device='cpu'):
    return tuple(
        torch.rand(1, channels, math.ceil(size[0] / 2**i), math.ceil(size[1] / 2**i), device=device)
        for i in range(count)
    )


def samples_of(labels):
    sample = DetDataSample()
    sample.gt_sem_seg = PixelData(sem_seg=torch.tensor(labels, dtype=torch.uint8)[None])
    return [sample]


def test_stuff_head_has_the_parameters_and_operations_of_the_specification():
    head = OANetStuffHead()
    assert sum(p.numel() for p in head.parameters()) == 2378757
    assert giga_multiply_adds(head, levels(256, FULL, device='meta')) == pytest.approx(80.3, abs=0.05)


def test_stuff_loss_at_zero_logits_and_its_weight():
    """The mean over what is not void: ln 133 / 4; void is not counted."""
    head = OANetStuffHead(in_channels=32, inner_channels=32)
    torch.nn.init.zeros_(head.conv_logits.weight)
    torch.nn.init.zeros_(head.conv_logits.bias)
    x = levels(32, (16, 16), 4)
    labels = [[(r * 64 + c) % 133 if c < 32 else 255 for c in range(64)] for r in range(64)]
    assert head.loss(x, samples_of(labels))['loss_seg'].item() == pytest.approx(math.log(133) / 4, abs=1e-4)


def test_stuff_only_ignores_things():
    head = OANetStuffHead(3, 4, in_channels=32, inner_channels=32, seg_classes='stuff')
    assert head._targets(torch.tensor([0, 2, 3, 6, 255])).tolist() == [255, 255, 0, 3, 255]
    assert head(levels(32, (16, 16), 4))['seg_preds'].shape == (1, 4, 16, 16)
    assert OANetStuffHead(3, 4, 32, 32)._targets(torch.tensor([0, 6, 255])).tolist() == [0, 6, 255]
    with pytest.raises(ValueError, match='seg_classes'):
        OANetStuffHead(seg_classes='things')


def test_loss_is_of_every_fourth_label():
    torch.manual_seed(0)
    head = OANetStuffHead(3, 4, 32, 32)
    x = levels(32, (16, 16), 4)
    labels = torch.randint(7, (64, 64))
    expected = 0.25 * F.cross_entropy(head(x)['seg_preds'], labels[None, ::4, ::4])
    torch.testing.assert_close(head.loss(x, samples_of(labels.tolist()))['loss_seg'], expected)


def test_full_size_loss_upsamples_the_logits():
    torch.manual_seed(0)
    head = OANetStuffHead(3, 4, 32, 32, full_size_loss=True)
    x = levels(32, (16, 16), 4)
    labels = torch.randint(7, (64, 64))
    logits = F.interpolate(head(x)['seg_preds'], (64, 64), mode='bilinear', align_corners=False)
    expected = 0.25 * F.cross_entropy(logits, labels[None])
    torch.testing.assert_close(head.loss(x, samples_of(labels.tolist()))['loss_seg'], expected)


def test_stuff_prediction_is_the_stuff_part_of_the_logits_without_padding():
    torch.manual_seed(0)
    head = OANetStuffHead(3, 4, 32, 32).eval()
    x = levels(32, (16, 16), 4)
    metas = [dict(batch_input_shape=(64, 64), img_shape=(48, 64), ori_shape=(96, 128))]
    whole = F.interpolate(head(x)['seg_preds'][:, 3:], (64, 64), mode='bilinear', align_corners=False)
    (stuff,) = head.predict(x, metas)
    assert stuff.channels == 'stuff'
    torch.testing.assert_close(stuff.logits, whole[0, :, :48])
    expected = F.interpolate(whole[:, :, :48], (96, 128), mode='bilinear', align_corners=False)[0]
    torch.testing.assert_close(head.predict(x, metas, rescale=True)[0].logits, expected)
