"""Activation maps of hand-made logits, and heat maps."""

import numpy as np
import pytest
import torch

from mmpanoptic.analysis.activations import class_activation, draw_heat


def logits(probabilities: list) -> torch.Tensor:
    return torch.tensor(probabilities).logit()


def test_strongest_of_anchors_and_levels():
    """Two anchors of two classes: the map of a class knows nothing of the other one's logits."""
    fine = torch.full((4, 2, 3), -9.0)  # channels: anchor 0 of classes 0 and 1, anchor 1 of classes 0 and 1
    fine[1] = logits([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    fine[3] = logits([[0.7, 0.1, 0.1], [0.1, 0.1, 0.8]])
    coarse = torch.full((4, 1, 2), -9.0)
    coarse[3] = logits([[0.3, 0.5]])
    for level in (fine, coarse):
        level[[0, 2]] = logits([0.95]).item()
    found = class_activation([fine, coarse], [(1, 1), (2, 2)], 1, 2, (2, 3), (2, 3))
    # The coarse level is 0.3, 0.4, 0.5 in both rows: halfway between its cells in the middle.
    torch.testing.assert_close(found, torch.tensor([[0.7, 0.4, 0.5], [0.4, 0.5, 0.8]]))
    other = class_activation([fine, coarse], [(1, 1), (2, 2)], 0, 2, (2, 3), (2, 3))
    torch.testing.assert_close(other, torch.full((2, 3), 0.95))


def test_cells_lie_at_multiples_of_the_stride():
    """As anchors do, whatever the number of cells; the last one's value goes on to the end."""
    level = logits([[[0.2, 0.6, 0.4]]])
    found = class_activation([level], [(4, 3)], 0, 1, (3, 12), (3, 12))
    row = torch.tensor([0.2, 0.3, 0.4, 0.5, 0.6, 0.55, 0.5, 0.45, 0.4, 0.4, 0.4, 0.4])
    torch.testing.assert_close(found, row.expand(3, 12))


def test_padding_is_cut_off_before_resizing():
    level = logits([[[0.2, 0.2, 0.9], [0.2, 0.2, 0.9], [0.9, 0.9, 0.9]]])  # the last row and column are padding
    found = class_activation([level], [(2, 2)], 0, 1, (3, 3), (30, 60))
    assert found.shape == (30, 60)
    torch.testing.assert_close(found, torch.full((30, 60), 0.2))
    half = class_activation([level], [(2, 2)], 0, 1, (4, 4), (2, 2))  # 0.2 0.2 0.2 0.55 a row, then halved
    torch.testing.assert_close(half[0], torch.tensor([0.2, 0.375]))


def test_half_precision_gives_single():
    found = class_activation([logits([[[0.25]]]).half()], [(4, 4)], 0, 1, (4, 4), (4, 4))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full((4, 4), 0.25), atol=1e-3, rtol=0)


def test_heat_is_blue_to_red_whatever_its_own_range():
    picture = np.full((2, 3, 3), 100, np.uint8)
    heat = np.array([[0.0, 0.5, 1.0], [1.5, -0.5, 0.5]], np.float32)
    drawn = draw_heat(picture, heat, alpha=1.0)
    assert drawn.dtype == np.uint8 and drawn.shape == picture.shape
    assert drawn[0, 0].tolist() == [0, 0, 128] and drawn[0, 2].tolist() == [128, 0, 0]
    assert drawn[0, 1].argmax() == 1, 'green in the middle'
    np.testing.assert_array_equal(drawn[1], drawn[0, [2, 0, 1]])
    assert draw_heat(picture, heat, alpha=0.5)[0, 0].tolist() == [50, 50, 114]
    assert (picture == 100).all(), 'the input is left alone'
    picture[0, 0] = 0, 255, 0
    drawn = draw_heat(picture, heat, alpha=0.5)
    assert drawn[0, 0, 0] == drawn[0, 0, 1], 'the picture is grey'
    with pytest.raises(ValueError, match=r'picture is \(2, 3\), the activation map \(3, 2\)'):
        draw_heat(picture, heat.T)
