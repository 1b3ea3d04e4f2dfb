"""Losses of all levels in one go: the sums of mmdet's."""

import pytest
import torch
from helpers.models import build_model, demo_batch, load_config, with_few_rois
from mmdet.models import dense_heads
from mmdet.models.utils import unpack_gt_instances

from mmpanoptic.analysis.dispatch import DispatchCounter


@pytest.mark.parametrize(
    ('name', 'part', 'mmdets', 'fewer'),
    [
        ('panoptic_fpn/panoptic-fpn_r18_fpn_shapes', 'rpn_head', dense_heads.RPNHead, 0.7),
        ('spatialflow/spatialflow_r18_fpn_shapes', 'bbox_head', dense_heads.RetinaHead, 0.7),
    ],
)
def test_losses_are_sums_of_mmdets(name, part, mmdets, fewer):
    config = with_few_rois(load_config(name))
    model = build_model(config).train()
    data = model.data_preprocessor(demo_batch(config), training=True)
    head = getattr(model, part)
    outputs = [[x.detach().requires_grad_() for x in level] for level in head(model.extract_feat(data['inputs']))[:2]]
    instances, ignored, metas = unpack_gt_instances(data['data_samples'])
    if part == 'rpn_head':
        for its in instances:
            its.labels = torch.zeros_like(its.labels)
    results = []
    for loss_by_feat in (head.loss_by_feat, lambda *args: mmdets.loss_by_feat(head, *args)):
        loss_by_feat(*outputs, instances, metas, ignored)  # anchors are kept from now on
        torch.manual_seed(0)
        with DispatchCounter() as counter:
            losses = loss_by_feat(*outputs, instances, metas, ignored)
        sums = {key: sum(value) if isinstance(value, list) else value for key, value in losses.items()}
        gradients = torch.autograd.grad(sum(sums.values()), [x for levels in outputs for x in levels])
        results.append((sums, gradients, counter.launches, counter.waits))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])
    assert results[0][2] <= fewer * results[1][2] and results[0][3] <= results[1][3]
