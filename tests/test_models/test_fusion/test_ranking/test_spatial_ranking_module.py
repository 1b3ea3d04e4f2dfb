"""SpatialRankingModule: sizes, operations, and windows that equal parts of the whole."""

from collections import defaultdict

import pytest
import torch
from helpers.drawn import S, T, drawn_evidence
from helpers.models import giga_multiply_adds
from torch.utils._python_dispatch import TorchDispatchMode

from mmpanoptic.analysis.operations import count_multiply_adds
from mmpanoptic.models import RankingFusion, SpatialRankingModule
from mmpanoptic.models.fusion.ranking.at_once import scores_at_once


@pytest.mark.parametrize(
    ('kernel', 'dual', 'parameters', 'halo'),
    [
        ('1x1', False, 6480, (0, 0)),
        ('3x3', False, 57680, (1, 1)),
        ('1x7+7x1', False, 89760, (3, 3)),
        ('1x7+7x1', True, 179520, (3, 3)),
    ],
)
def test_module_parameters(kernel, dual, parameters, halo):
    module = SpatialRankingModule(80, kernel, dual)
    assert sum(p.numel() for p in module.parameters()) == parameters
    assert module.halo == halo
    assert module(torch.zeros(2, 80, 9, 11)).shape == (2, 80, 9, 11)


def test_module_of_shapes_has_912_parameters():
    assert sum(p.numel() for p in SpatialRankingModule(8).parameters()) == 912


def test_module_is_the_chain_of_plain_convolutions():
    module = SpatialRankingModule(3, dual=True)
    x = torch.rand(1, 3, 10, 12)
    (wide, tall), (tall2, wide2) = module.branches
    assert wide.kernel_size == wide2.kernel_size == (1, 7)
    assert tall.kernel_size == tall2.kernel_size == (7, 1)
    torch.testing.assert_close(module(x), tall(wide(x)) + wide2(tall2(x)))


@pytest.mark.parametrize('kernel', ['7', '2x2', '1x7+', 'axb', '3x3x3'])
def test_module_refuses_a_kernel_it_cannot_read(kernel):
    with pytest.raises(ValueError, match='not of the form'):
        SpatialRankingModule(2, kernel)


@pytest.mark.parametrize('dual', [False, True])
def test_window_equals_the_part_of_the_whole(dual):
    """Also at the borders, where zeros are padded before each convolution of a chain."""
    module = SpatialRankingModule(5, dual=dual)
    tensor = torch.rand(5, 20, 23) > 0.5
    tensor[[0, 3]] = False
    classes = torch.tensor([1, 2, 4])
    whole = module(tensor[None].float())[0]
    for top, bottom, left, right in ((0, 20, 0, 23), (0, 2, 0, 1), (7, 9, 11, 16), (18, 20, 21, 23), (1, 19, 0, 23)):
        part = module.forward_window(tensor[classes], classes, (top, bottom, left, right))
        torch.testing.assert_close(part, whole[:, top:bottom, left:right], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ('kernel', 'dual', 'stride', 'expected'),
    [
        ('1x7+7x1', False, 1, 96.3),
        ('1x7+7x1', False, 2, 24.1),
        ('1x7+7x1', False, 4, 6.0),
        ('1x7+7x1', True, 1, 192.7),
        ('1x7+7x1', True, 2, 48.2),
        ('1x7+7x1', True, 4, 12.0),
        ('3x3', False, 1, 61.9),
        ('1x1', False, 1, 6.9),
    ],
)
def test_ranking_module_operations(kernel, dual, stride, expected):
    tensor = torch.zeros(1, 80, 800 // stride, 1344 // stride, device='meta')
    module = SpatialRankingModule(80, kernel, dual).to('meta')
    assert giga_multiply_adds(module, tensor) == pytest.approx(expected, abs=0.06)
    for classes in (None, torch.arange(80, device='meta')):  # as get_flops.py counts, too
        counts = count_multiply_adds(module, lambda classes=classes: module(tensor, classes))
        assert sum(counts.values()) / 1e9 == pytest.approx(expected, abs=0.06)


class Types(TorchDispatchMode):
    """Type of the first argument of each operation, by name."""

    def __init__(self):
        super().__init__()
        self.seen = defaultdict(set)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if args and isinstance(args[0], torch.Tensor):
            self.seen[function.overloadpacket.__name__].add(args[0].dtype)
        return function(*args, **(kwargs or {}))


def test_half_precision_under_autocast():
    """The convolutions' alone: the instance tensor is made in it at once, and the softmax is in float32."""
    evidence = drawn_evidence(0, 30, (31, 40))
    torch.manual_seed(0)
    head = RankingFusion(T, S)
    scores = head.ranking_scores(evidence)
    with Types() as full:
        head.ranking_scores(evidence)
    with torch.autocast('cpu', torch.bfloat16), Types() as half:
        found = head.ranking_scores(evidence)
    convolution = next(name for name in full.seen if 'convolution' in name)
    assert full.seen[convolution] == {torch.float32} and half.seen[convolution] == {torch.bfloat16}
    assert half.seen['exp_'] == {torch.float32}
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, scores, atol=2e-2, rtol=0)


def test_softmax_at_once_is_in_float32():
    masks, labels = torch.ones(2, 3, 4, dtype=torch.bool), torch.tensor([0, 1])
    logits = torch.tensor([8.0, 0.0]).bfloat16()[:, None, None].expand(2, 3, 4)
    found = scores_at_once(masks, labels, lambda window: logits, [(0, 3, 0, 4)])
    torch.testing.assert_close(found, torch.tensor([8.0, 0.0]).softmax(0), atol=1e-7, rtol=1e-6)
