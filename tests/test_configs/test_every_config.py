"""Every config builds, has the size that its metafile states, and runs."""

from pathlib import Path

import pytest
import torch
import yaml
from helpers.models import build_model, demo_batch, dicts_in, with_few_rois
from helpers.repo import ROOT
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from mmpanoptic import registry
from mmpanoptic.datasets import steps_of
from mmpanoptic.engine.class_counts import counted_model
from mmpanoptic.engine.configs import KNOWN_KEYS
from mmpanoptic.engine.hooks.check_hook import check_classes
from mmpanoptic.formats.coco_categories import coco_meta

CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)
REGISTRIES = [getattr(registry, name) for name in vars(registry) if name.isupper()]
for one in REGISTRIES:
    one.import_from_location()  # else nothing is ours by name before something is built


def names(path: Path) -> str:
    return str(path.relative_to(ROOT / 'configs'))


@pytest.fixture(scope='module')
def stated_parameters() -> dict[str, int]:
    """Parameters by config, from all metafiles."""
    stated = {}
    for metafile in (ROOT / 'configs').rglob('metafile.yml'):
        for model in yaml.safe_load(metafile.read_text())['Models']:
            stated[model['Config']] = model['Metadata']['Parameters']
    return stated


def load(path: Path) -> Config:
    """A config whose pretrained weights are not fetched, and whose classes are COCO's if it leaves them to the data."""
    config = Config.fromfile(path)
    config.model = counted_model(config, (), coco_meta(with_stuff=True))
    init_default_scope(config.default_scope)
    config.load_from = None
    return config


def test_there_are_configs():
    assert CONFIGS


@pytest.mark.parametrize('path', CONFIGS, ids=names)
def test_config_names_are_ours_first(path):
    """A name that we register means our class, also where mmdet has one of that name."""
    config = load(path)
    for node in dicts_in(config._cfg_dict):
        assert '_scope_' not in node, "inherited from mmdet:: - its bare names would mean mmdet's"
        if not isinstance(node.get('type'), str):
            continue
        ours = [r for r in REGISTRIES if node['type'] in r.module_dict]
        for r in ours:
            with r.switch_scope_and_registry(None) as chosen:
                assert chosen.get(node['type']).__module__.startswith('mmpanoptic.')


@pytest.mark.parametrize('path', CONFIGS, ids=names)
def test_every_key_is_read(path):
    """No variable is left whose override would change nothing, or only some of its uses; parts that configs are made
    of have a name with an underscore in front."""
    assert not [key for key in load(path) if key not in KNOWN_KEYS and not key.startswith('_')]


@pytest.mark.parametrize('path', CONFIGS, ids=names)
def test_config_model(path, stated_parameters):
    """Parameter count, a prediction, and for what is no ablation and no other config's model a training step."""
    config = with_few_rois(load(path))
    name = str(path.relative_to(ROOT))
    assert name in stated_parameters, f'{name} has no entry with Metadata.Parameters in the metafile of its folder'
    model = build_model(config)
    assert sum(p.numel() for p in model.parameters()) == stated_parameters[name]
    if hasattr(model, 'panoptic_fusion_head'):  # heads that do not agree would be refused before training
        things, stuff = range(model.num_things_classes), range(model.num_stuff_classes)
        check_classes(model, dict(thing_classes=things, stuff_classes=stuff), name)

    model.eval()
    with torch.no_grad():
        results = model.test_step(demo_batch(config))
    for result in results:
        if hasattr(model, 'panoptic_fusion_head'):
            assert result.pred_panoptic_seg.sem_seg.shape == (1, *result.ori_shape)
        assert 'bboxes' in result.pred_instances

    if 'ablations' in path.parts or ('starter' in path.parts and '_r50_' in path.name):  # models of other configs
        return
    model.train()
    data = model.data_preprocessor(demo_batch(config), training=True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    assert torch.isfinite(loss)
    loss.backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, f'no gradient reaches {without}'


@pytest.mark.parametrize('path', CONFIGS, ids=names)
def test_config_beyond_the_model(path):
    """Pipelines and hooks build, samplers and metrics exist, and what counts epochs or iterations agrees."""
    config = load(path)
    for dataloader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        Compose(steps_of(dataloader.dataset.pipeline))
        assert registry.DATA_SAMPLERS.get(dataloader.sampler.type)
        assert registry.DATASETS.get(dataloader.dataset.type)
    for evaluator in (config.val_evaluator, config.test_evaluator):
        for metric in evaluator if isinstance(evaluator, list) else [evaluator]:
            assert registry.METRICS.get(metric.type)
    for hook in [*config.default_hooks.values(), *config.get('custom_hooks', [])]:
        registry.HOOKS.build(hook)
    by_epoch = config.train_cfg.type == 'EpochBasedTrainLoop'
    assert (config.train_dataloader.sampler.type == 'InfiniteSampler') != by_epoch
    assert config.default_hooks.checkpoint.get('by_epoch', True) == by_epoch
    assert config.log_processor.by_epoch == by_epoch
    last = config.param_scheduler[-1]
    if last.type == 'LinearLR':  # a warm-up alone, then a constant rate
        return
    assert last.by_epoch == by_epoch
    assert last.end == config.train_cfg['max_epochs' if by_epoch else 'max_iters']
