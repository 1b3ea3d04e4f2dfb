"""CPU time of SpatialFlow's four sub-networks with their flows, against what RetinaNet's head takes."""

import pytest
import torch
from helpers.timing import cpu_seconds

from mmpanoptic.analysis.operations import count_multiply_adds
from mmpanoptic.registry import MODELS

LEVELS = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]  # of an image of 800x1333, padded to 800x1344
FOCAL = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25)


def head_of(kind):
    return MODELS.build(dict(type=kind, num_classes=80, in_channels=256, loss_cls=FOCAL)).eval()


@pytest.mark.slow
@pytest.mark.timing
@pytest.mark.usefixtures('one_thread')
@torch.no_grad()
def test_time_of_the_sub_networks_follows_their_operations():
    heads = [head_of('SpatialFlowHead'), head_of('RetinaHead')]
    torch.manual_seed(0)
    x = [torch.randn(1, 256, *size).relu() for size in LEVELS]
    # Counting is a warm-up as well.
    operations = [sum(count_multiply_adds(head, lambda head=head: head(x)).values()) for head in heads]
    rounds = [[cpu_seconds(head, x) for head in heads] for _ in range(3)]
    best = [min(times) for times in zip(*rounds, strict=True)]
    assert [round(count / 1e8) for count in operations] == [3406, 1447]
    times, counts = best[0] / best[1], operations[0] / operations[1]
    print(f'SpatialFlow {best[0]:.2f} s, RetinaNet {best[1]:.2f} s: {times:.3f}, multiply-adds {counts:.3f}')
    assert times <= 1.15 * counts
