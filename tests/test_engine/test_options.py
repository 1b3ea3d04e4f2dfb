"""--cfg-options: each has its effect or is refused by its name, before anything is built."""

from pathlib import Path

import pytest
from helpers.repo import CONFIGS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmpanoptic.datasets import CocoDataset, CocoInstanceDataset, CocoPanopticDataset
from mmpanoptic.engine.configs import load_config
from mmpanoptic.engine.runner import ToolRunner
from mmpanoptic.utils import DatasetError, UserError

SHIPPED = str(CONFIGS / 'panoptic_fpn/panoptic-fpn_r18_fpn_shapes.py')


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        # Variables of configs, of ours and of others.
        ('data_root', r"nothing reads 'data_root' .* train_dataloader\.dataset\.data_root, val_dataloader"),
        ('num_workers', r'keys of that name that do are train_dataloader\.num_workers'),
        ('max_epochs', r'train_cfg\.max_epochs'),
        ('dataset_type', "nothing reads 'dataset_type'"),
        ('img_scale', "nothing reads 'img_scale'"),
        ('backend_args.backend', "nothing reads 'backend_args'"),
        ('classes', "nothing reads 'classes'"),
        ('train_pipeline.0.type', "nothing reads 'train_pipeline'"),
        ('optimizer.lr', r"nothing reads 'optimizer' .* optim_wrapper\.optimizer"),
        # What a flag says.
        ('launcher', 'the launcher is what --launcher says'),
        # Dicts of a few entries.
        ('auto_scale_lr.enabled', 'auto_scale_lr, which has base_batch_size, enable'),
        ('env_cfg.cudnn_bench', "nothing reads 'cudnn_bench' of env_cfg"),
        ('randomness.sed', 'randomness, which has deterministic, diff_rank_seed, seed'),
        # Names that are almost right.
        ('train_cfg.max_epoch', "train_cfg has 'max_epochs' and no 'max_epoch'"),
        ('train_dataloader.batchsize', "train_dataloader has 'batch_size'"),
        ('train_dataloader.num_worker', "has 'num_workers'"),
        ('default_hooks.checkpoint.intervall', "has 'interval'"),  # mmengine takes any other argument
        ('default_hooks.checkpoints.interval', "default_hooks has 'checkpoint'"),
        ('model.test_cfg.rcnn.scoree_thr', "has 'score_thr'"),
        ('model.roi_head.bbox_head.num_class', "has 'num_classes'"),
        ('optim_wrapper.clip_grad.maxnorm', "has 'max_norm'"),
    ],
)
def test_options_that_nothing_reads(key: str, message: str):
    with pytest.raises(UserError, match=f'^option {key}: .*{message}') as error:
        load_config(SHIPPED, {key: 1})
    assert error.value.argument == 'cfg_options'


@pytest.mark.parametrize(
    'key',
    [
        'randomness.deterministic',
        'env_cfg.resource_limit',
        'model.test_cfg.rcnn.mask_thr_binary',
        'model.backbone.in_channels',
        'train_dataloader.dataset.inst_ann_file',
        'train_dataloader.prefetch_factor',
        'default_hooks.checkpoint.save_best',
        'default_hooks.mine.type',
        'custom_hooks.0.check_pngs',
        'train_dataloader.dataset.pipeline.pack.meta_keys',
        'val_evaluator.ann_file',
        'find_unused_parameters',
    ],
)
def test_options_that_something_reads(key: str):
    node = load_config(SHIPPED, {key: 'value'})
    if 'pipeline' in key:  # which is a list by then
        assert node.train_dataloader.dataset.pipeline[-1].meta_keys == 'value'
        return
    for part in key.split('.'):
        node = node[int(part) if part.isdecimal() else part]
    assert node == 'value'


@pytest.mark.parametrize('cls', [CocoPanopticDataset, CocoInstanceDataset, CocoDataset])
@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(filter_cfg=dict(min_sise=3)), f'nothing reads {"min_sise"!r} of filter_cfg'),
        (dict(filter_cfg=dict(filter_empty=True)), 'filter_empty_gt and min_size'),
        (dict(data_prefix=dict(image='x')), "nothing reads 'image' of data_prefix: it takes img and seg"),
    ],
)
def test_entries_of_datasets(cls: type, options: dict, message: str, tmp_path: Path):
    with pytest.raises(DatasetError, match=message):
        cls(ann_file='x.json', **options)


@pytest.mark.parametrize('workers', [0, 1])
def test_no_workers(workers: int):
    """What every shipped config says of workers has no meaning without any, and torch refuses it."""
    loader = dict(
        batch_size=1,
        num_workers=workers,
        persistent_workers=True,
        prefetch_factor=2,
        timeout=5,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=[dict(x=1)],
    )
    built = ToolRunner.build_dataloader(Config(dict(loader=loader)).loader if workers == 0 else loader)
    assert built.num_workers == workers and built.persistent_workers == bool(workers)
    assert loader['persistent_workers']  # the config is the same as before
    if workers == 0:
        assert [batch[0]['x'] if isinstance(batch, list) else int(batch['x'][0]) for batch in built] == [1]


def test_two_metrics_of_one_name():
    init_default_scope('mmpanoptic')
    runner = object.__new__(ToolRunner)
    twice = [dict(type='PanopticIoUMetric')] * 2
    with pytest.raises(UserError, match='two metrics of an evaluator give semantic/PanopticIoUMetric: set `prefix`'):
        ToolRunner.build_evaluator(runner, twice)
    fine = [twice[0], dict(type='PanopticIoUMetric', prefix='mine'), dict(type='PanopticMetric')]
    instances = [dict(type='InstanceMetric', metric=kind) for kind in ('bbox', 'segm')]
    assert len(ToolRunner.build_evaluator(runner, fine + instances).metrics) == 5
    with pytest.raises(UserError, match='give coco/bbox'):
        ToolRunner.build_evaluator(runner, instances + instances[:1])
