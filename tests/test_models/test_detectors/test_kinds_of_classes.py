"""Data with things alone, or stuff alone: every system works, or says in one line why not."""

import pytest
import torch
from helpers.models import build_model, demo_batch, dicts_in, load_config, with_few_rois

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
