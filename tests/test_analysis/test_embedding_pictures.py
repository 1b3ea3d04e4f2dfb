"""Colours of embeddings, and instances with their points."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.evidence import evidence_of
from mmengine.structures import InstanceData

from mmpanoptic.analysis.embedding_pictures import draw_points, principal_colors, unit_embeddings
from mmpanoptic.models import EmbeddingFusion
from mmpanoptic.structures import EmbeddingMap


def test_unit_embeddings_are_those_of_the_enlarged_map():
    raw = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(0)) * 10
    large = F.interpolate(raw[None], scale_factor=4, mode='bilinear', align_corners=False)[0]
    maps = EmbeddingMap(raw, torch.zeros(2, 5))
    found = unit_embeddings(evidence_of(InstanceData(), maps, output_size=(22, 25)))  # the rest is padding
    torch.testing.assert_close(found, F.normalize(large, dim=0)[:, :22, :25])
    torch.testing.assert_close(found.norm(dim=0), torch.ones(22, 25))


def test_unit_embeddings_at_another_size_are_what_fusion_reads():
    """The best of two stuff classes, computed from them, is the map that fusion makes."""
    raw = torch.randn(4, 6, 7, generator=torch.Generator().manual_seed(1))
    queries = F.normalize(torch.randn(2, 4, generator=torch.Generator().manual_seed(2)), dim=1)
    evidence = evidence_of(InstanceData(), EmbeddingMap(raw, queries), input_size=(24, 28), output_size=(50, 40))
    assert evidence.scale == (0.7, 0.48)
    panoptic, _ = EmbeddingFusion(3, 2, stuff_area_limit=0).fuse(evidence)
    best = torch.einsum('sd,dhw->shw', queries, unit_embeddings(evidence)).argmax(0) + 3
    assert torch.equal(panoptic.long(), best)


def test_components_are_channels_by_strength():
    """Three directions that are no axes, each varying along one of the map's dimensions or over both."""
    axes = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(3)))[0][:, :3]
    x, y = torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 30)
    strong, middle, weak = 4 * x.expand(30, 40), 2 * y[:, None].expand(30, 40), y[:, None] * x
    embeddings = torch.einsum('kd,khw->dhw', axes.T, torch.stack([strong, middle, weak])) + 7
    colors = principal_colors(embeddings, outliers=0.0)
    assert colors.shape == (30, 40, 3) and colors.dtype == np.uint8
    for channel, expected in enumerate((strong, middle, weak)):
        sign = axes[:, channel][axes[:, channel].abs().argmax()].sign()
        expected = sign * expected
        expected = 255 * (expected - expected.min()) / (expected.max() - expected.min())
        assert np.abs(colors[..., channel] - expected.numpy()).max() <= 1
    np.testing.assert_array_equal(colors, principal_colors(embeddings.clone(), outliers=0.0))


def test_outliers_do_not_take_the_range():
    embeddings = torch.linspace(0, 1, 1000).reshape(1, 25, 40).clone()
    embeddings[0, 0, 0] = -100
    red = principal_colors(embeddings)[..., 0]
    assert red[0, 0] == 0 and np.unique(red).size > 200


@pytest.mark.parametrize('dims', [1, 2, 5])
def test_components_that_are_not_there_are_grey(dims):
    assert (principal_colors(torch.full((dims, 4, 5), 0.3)) == 128).all()
    one = torch.zeros(dims, 4, 5)
    one[0] = torch.arange(20.0).reshape(4, 5)
    assert (principal_colors(one)[..., 1:] == 128).all() and principal_colors(one)[..., 0].min() == 0


@pytest.mark.parametrize(
    ('factor', 'left', 'centres'), [(1, 10, [(20, 10), (79, 59)]), (3, 31, [(61, 31), (238, 178)])]
)
def test_boxes_and_points(factor, left, centres):
    picture = np.zeros((60 * factor, 80 * factor, 3), np.uint8)
    boxes, points = np.array([[10.2, 5, 40, 30], [0, 0, 80, 60]]), np.array([[20, 10], [79, 59]])
    colors = [(255, 0, 0), (0, 0, 255)]
    drawn = draw_points(picture, boxes, points, colors, factor)
    assert not picture.any(), 'the input is left alone'
    for color, (x, y) in zip(colors, centres, strict=True):
        assert tuple(drawn[y, x]) == color
    assert (drawn == 255).all(-1).any(), 'points have a white edge'
    for color, x in zip(colors, (left, 80 * factor - 1), strict=True):
        assert tuple(drawn[25 * factor, x]) == color
    assert not drawn[25 * factor, left - 1].any()
    without = draw_points(picture, boxes, None, colors, factor)
    assert not (without == 255).all(-1).any() and without.any()
    assert not draw_points(picture, boxes[:0], points[:0], [], factor).any()
