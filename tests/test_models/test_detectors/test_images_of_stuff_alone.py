"""Every system trains on images without things, as OANet's and CIAE's configs for COCO give them."""

import pytest
import torch
from helpers.models import build_model, demo_batch, load_config, train_step, with_few_rois
from mmdet.structures.mask import BitmapMasks

SYSTEMS = {
    'Panoptic FPN': 'panoptic_fpn/panoptic-fpn_r18_fpn_shapes',
    'PANet': 'panet/panet_r18_fpn_shapes',
    'PANet, panoptic': 'combined/panoptic-fpn_panet_r18_fpn_ranking_shapes',
    'SpatialFlow': 'spatialflow/spatialflow_r18_fpn_shapes',
    'SpatialFlow with ranking': 'combined/spatialflow_r18_fpn_ranking_shapes',
    'OANet': 'oanet/oanet_r18_fpn_shapes',
    'CIAE': 'ciae/ciae_r18_fpn_shapes',
}


@pytest.mark.parametrize('without', [(0,), (0, 1)], ids=['one of two', 'both'])
@pytest.mark.parametrize('system', SYSTEMS)
def test_training_step(system, without):
    """The loss is finite, and every weight gets a finite gradient."""
    config = with_few_rois(load_config(SYSTEMS[system]))
    config.model.backbone.norm_eval = True
    model = build_model(config)
    data = demo_batch(config)
    for index in without:
        sample = data['data_samples'][index]
        size = sample.img_shape
        sample.gt_instances = sample.gt_instances[:0]
        sample.gt_instances.masks = BitmapMasks([], *size)
        sample.gt_sem_seg.sem_seg.fill_(getattr(model, 'num_things_classes', 0))  # the first class of stuff
    losses = train_step(model, data)
    assert all(torch.isfinite(torch.as_tensor(value)) for value in losses.values())
    for name in ('loss_rpn_bbox', 'loss_bbox', 'loss_mask', 'loss_thing_mask', 'loss_ranking'):
        if len(without) == 2 and name in losses:
            assert losses[name] == 0, 'nothing to learn from'
