"""Data with things alone, or stuff alone: every system works, or says in one line why not."""

import pytest
import torch
from helpers.models import build_model, demo_batch, dicts_in, load_config, train_step, with_few_rois

from mmpanoptic.engine.components import building
from mmpanoptic.utils import UserError

SYSTEMS = [
    'panoptic_fpn/panoptic-fpn_r18_fpn_shapes',
    'combined/panoptic-fpn_panet_r18_fpn_ranking_shapes',
    'oanet/oanet_r18_fpn_shapes',
    'spatialflow/spatialflow_r18_fpn_shapes',
    'ciae/ciae_r18_fpn_shapes',
]


def config_of(system, things, stuff):
    config = with_few_rois(load_config(system))
    for node in dicts_in(config._cfg_dict.model):
        if 'num_things_classes' in node:
            node.update(num_things_classes=things, num_stuff_classes=stuff)
        elif node.get('num_classes') == 7:
            node['num_classes'] = things
    return config


@pytest.mark.parametrize('system', SYSTEMS)
def test_things_alone(system):
    config = config_of(system, things=2, stuff=0)
    model = build_model(config)
    model.train()
    losses = model(**model.data_preprocessor(demo_batch(config), training=True), mode='loss')
    assert torch.isfinite(model.parse_losses(losses)[0])
    model.eval()
    with torch.no_grad():
        for result in model.test_step(demo_batch(config)):
            assert {segment['label'] for segment in result.pred_panoptic_seg.segments_info} <= {0, 1}


@pytest.mark.parametrize('system', SYSTEMS)
def test_stuff_alone(system):
    config = config_of(system, things=0, stuff=2)
    with pytest.raises(UserError, match=r'no class is a thing|num_classes=0 is too small') as error, building(config):
        build_model(config)
    assert '\n' not in str(error.value)


def test_stuff_alone_by_the_semantic_branch():
    config = config_of(SYSTEMS[0], things=0, stuff=2)
    config.model.update(rpn_head=None, roi_head=None)
    model = build_model(config)
    assert not any('rpn' in name or 'roi' in name for name, _ in model.named_parameters())
    batch = demo_batch(config_of(SYSTEMS[0], things=1, stuff=1))  # labels 0 and 1
    for sample in batch['data_samples']:
        sample.gt_instances = sample.gt_instances[:0]
    values = train_step(model, batch)
    assert values['loss'] == values['loss_seg'] > 0
    model.eval()
    with torch.no_grad():
        for rescale in (True, False):
            data = model.data_preprocessor(batch, False)
            for result in model.predict(data['inputs'], data['data_samples'], rescale=rescale):
                size = result.ori_shape if rescale else result.img_shape
                assert result.pred_panoptic_seg.sem_seg.shape == (1, *size)
                assert result.pred_instances.masks.shape == (0, *size)
                assert set(result.pred_panoptic_seg.sem_seg.unique().tolist()) <= {0, 1, 2}
    logits = model(data['inputs'], mode='tensor')
    assert len(logits) == 1 and logits[0].shape[:2] == (2, 3)


@pytest.mark.parametrize('heads', [dict(rpn_head=None), dict(roi_head=None), dict(rpn_head=None, roi_head=None)])
def test_things_need_their_heads(heads):
    config = config_of(SYSTEMS[0], things=2, stuff=2)
    config.model.update(heads)
    with pytest.raises(UserError, match='some class is a thing: rpn_head and roi_head are needed'), building(config):
        build_model(config)
