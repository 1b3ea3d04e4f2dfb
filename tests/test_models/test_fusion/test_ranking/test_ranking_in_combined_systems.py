"""The ranking module under other systems: it learns something, which takes masks that overlap."""

from pathlib import Path

import pytest
import torch
from helpers.repo import CONFIGS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed

from mmpanoptic.models import RankingFusion
from mmpanoptic.registry import DATASETS, MODELS

RANKED = sorted((CONFIGS / 'combined').glob('*ranking*.py'))
ON_SHAPES = [path for path in RANKED if path.stem.endswith('shapes')]


def samples_of(path: Path, data: Path) -> tuple[Config, list[dict]]:
    """A config, and the first training images as its pipeline gives them."""
    config = Config.fromfile(path)
    init_default_scope(config.default_scope)
    config.train_dataloader.dataset.data_root = f'{data}/'
    dataset = DATASETS.build(config.train_dataloader.dataset)
    set_random_seed(0)
    return config, [dataset[index] for index in range(4)]


def overlapping_pixels(samples: list[dict]) -> int:
    masks = (sample['data_samples'].gt_instances.masks.masks for sample in samples)
    return sum(int((of_image.sum(axis=0) > 1).sum()) for of_image in masks)


def test_there_is_a_small_one_of_each_system():
    systems = ('panoptic-fpn_panet', 'spatialflow')
    assert all(any(path.stem.startswith(system) for path in ON_SHAPES) for system in systems)


@pytest.mark.parametrize('path', ON_SHAPES, ids=lambda path: path.stem)
def test_training_step_on_shapes(path, tiny_shapes):
    config, samples = samples_of(path, tiny_shapes)
    assert overlapping_pixels(samples) > 0
    model = MODELS.build(config.model)
    model.init_weights()
    model.train()
    data = model.data_preprocessor(pseudo_collate(samples), training=True)
    total, values = model.parse_losses(model(**data, mode='loss'))
    assert all(torch.isfinite(torch.as_tensor(value)) for value in values.values())
    assert values['loss_ranking'] > 0 and values['conflict_pixels'] > 0
    assert values['loss_mask'] > 0 and values['loss_seg'] > 0
    total.backward()
    assert isinstance(model.panoptic_fusion_head, RankingFusion)
    for name, parameter in model.panoptic_fusion_head.ranking.named_parameters():
        assert torch.isfinite(parameter.grad).all() and parameter.grad.abs().sum() > 0, name


def test_spatialflow_itself_trains_on_masks_that_never_overlap(tiny_shapes):
    """Which is why the combined one has another source of instances, for its boxes and masks as well."""
    _, samples = samples_of(CONFIGS / 'spatialflow/spatialflow_r18_fpn_shapes.py', tiny_shapes)
    assert overlapping_pixels(samples) == 0
    combined = Config.fromfile(CONFIGS / 'combined/spatialflow_r18_fpn_ranking_shapes.py')
    head = MODELS.build(combined.model.panoptic_fusion_head)
    assert head.loss([sample['data_samples'] for sample in samples], None)['conflict_pixels'] == 0


@pytest.mark.parametrize('path', RANKED, ids=lambda path: path.stem)
def test_config_has_overlaps_and_the_hook_that_looks_for_them(path):
    config = Config.fromfile(path)
    assert config.model.panoptic_fusion_head.type == 'RankingFusion'
    for dataloader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        assert dataloader.dataset.inst_ann_file.startswith('annotations/instances_')
    hooks = [hook.type for hook in config.custom_hooks]
    assert hooks == [hook['type'] for hook in runtime_hooks()]
    assert 'RankingConflictHook' in hooks
    nms = (config.model.test_cfg.get('rcnn') or config.model.test_cfg).nms
    assert not nms.get('class_agnostic', False), 'would drop small objects that lie on larger ones'


def runtime_hooks() -> list[dict]:
    return Config.fromfile(CONFIGS / '_base_/default_runtime.py').custom_hooks
