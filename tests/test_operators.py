"""mmcv's compiled operators that configs of this project need on a CPU: they load, and give what torch gives.

`make install` compiles them in its own way (tools/misc/install_operators.py). A wheel that computes something else
would show here.
"""

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import (
    DeformConv2d,
    ModulatedDeformConv2d,
    RoIAlign,
    batched_nms,
    nms,
    soft_nms,
)
from torch import Tensor


def drawn(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


def boxes(num: int) -> Tensor:
    corner, size = 20 * drawn(num, 2), 10 * drawn(num, 2) + 1
    return torch.cat([corner, corner + size], 1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    sides = (torch.minimum(a[2:], b[:, 2:]) - torch.maximum(a[:2], b[:, :2])).clamp(min=0)
    shared = sides.prod(1)
    return shared / ((a[2:] - a[:2]).prod() + (b[:, 2:] - b[:, :2]).prod(1) - shared)


def greedy(candidates: Tensor, scores: Tensor, threshold: float) -> list[int]:
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if not kept or iou(candidates[i], candidates[kept]).max() <= threshold:
            kept.append(i)
    return kept


def test_nms():
    candidates, scores = boxes(60), drawn(60)
    dets, kept = nms(candidates, scores, iou_threshold=0.3)
    assert kept.tolist() == greedy(candidates, scores, 0.3)
    assert torch.equal(dets, torch.cat([candidates, scores[:, None]], 1)[kept])


def test_nms_class_by_class():
    candidates, scores = boxes(60), drawn(60)
    labels = torch.arange(60) % 3
    _, kept = batched_nms(candidates, scores, labels, dict(type='nms', iou_threshold=0.3))
    expected = [
        places[i]
        for label in range(3)
        for places in [(labels == label).nonzero().flatten().tolist()]
        for i in greedy(candidates[labels == label], scores[labels == label], 0.3)
    ]
    assert sorted(kept.tolist()) == sorted(expected)


def test_soft_nms_lowers_scores_of_overlaps_alone():
    candidates = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]])
    dets, kept = soft_nms(candidates, torch.tensor([0.9, 0.8, 0.7]), iou_threshold=0.3, method='linear', min_score=0.0)
    scores = dict(zip(kept.tolist(), dets[:, 4].tolist(), strict=True))
    assert scores[0] == pytest.approx(0.9) and scores[2] == pytest.approx(0.7)
    assert scores[1] == pytest.approx(0.8 * (1 - 0.9))


@pytest.mark.parametrize('sampling', [0, 2])
def test_roi_align_of_a_ramp(sampling):
    """Of a plane, a bin's mean is the plane's value in its middle; gradients add up to the number of bins."""
    ys, xs = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing='ij')
    feature = (3 * ys + xs)[None, None].requires_grad_()
    rois = torch.tensor([[0, 2.0, 4.0, 10.0, 12.0]])  # as x1, y1, x2, y2 at stride 1
    pooled = RoIAlign(4, 1.0, sampling, aligned=True)(feature, rois)
    middle = torch.arange(4) * 2 + 1 - 0.5  # of bins, with pixel centres at whole numbers
    assert torch.allclose(pooled[0, 0], 3 * (4 + middle)[:, None] + (2 + middle), atol=1e-5)
    pooled.sum().backward()
    assert feature.grad.sum().item() == pytest.approx(16)


@pytest.mark.parametrize('kind', [DeformConv2d, ModulatedDeformConv2d])
def test_deformable_convolution_that_does_not_deform(kind):
    """Offsets of 0 make it torch's convolution, gradients included."""
    conv = kind(4, 6, 3, padding=1, bias=False)
    x = drawn(2, 4, 7, 9).requires_grad_()
    offsets = torch.zeros(2, 18, 7, 9)
    more = () if kind is DeformConv2d else (torch.ones(2, 9, 7, 9),)
    found = conv(x, offsets, *more)
    expected = F.conv2d(x, conv.weight, padding=1)
    assert torch.allclose(found, expected, atol=1e-5)
    for ours, theirs in zip(
        torch.autograd.grad(found.square().sum(), (x, conv.weight)),
        torch.autograd.grad(expected.square().sum(), (x, conv.weight)),
        strict=True,
    ):
        assert torch.allclose(ours, theirs, atol=1e-3)


def test_deformable_convolution_that_moves_by_a_pixel():
    conv = DeformConv2d(1, 1, 1, bias=False)
    x = drawn(1, 1, 5, 6)
    offsets = torch.zeros(1, 2, 5, 6)
    offsets[:, 1] = 1  # dx
    expected = F.pad(x, (0, 1))[..., 1:] * conv.weight.item()
    assert torch.allclose(conv(x, offsets), expected, atol=1e-6)
