"""The loss of semantic branches on one process; several are in tests/test_models/test_ranks.py."""

import pytest
import torch
from mmdet.models import CrossEntropyLoss, FocalLoss

from mmpanoptic.models.losses.semantic_loss import semantic_loss


@pytest.mark.parametrize('labelled', [0, 1, 1500, 2 * 30 * 50])
@pytest.mark.parametrize(
    'options',
    [
        dict(avg_non_ignore=True),
        dict(avg_non_ignore=True, class_weight=[0.1, 1.0, 3.0, 0.7]),
        dict(avg_non_ignore=False),
        dict(avg_non_ignore=True, reduction='sum'),
    ],
    ids=str,
)
def test_the_bits_of_mmdet(options, labelled):
    generator = torch.Generator().manual_seed(labelled)
    logits = torch.randn(2, 4, 30, 50, generator=generator)
    labels = torch.randint(0, 4, (2, 30, 50), generator=generator)
    labels.view(-1)[labelled:] = 255
    loss = CrossEntropyLoss(ignore_index=255, loss_weight=0.25, **options)
    assert torch.equal(semantic_loss(loss, logits, labels), loss(logits, labels))


def test_a_loss_of_another_kind_is_left_alone():
    logits, labels = torch.randn(6, 4), torch.randint(0, 4, (6,))
    assert torch.equal(semantic_loss(FocalLoss(), logits, labels), FocalLoss()(logits, labels))
