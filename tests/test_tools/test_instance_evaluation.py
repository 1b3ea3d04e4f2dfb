"""Models without a panoptic map: their datasets, and tools/train.py and tools/test.py on them."""

import re
from pathlib import Path

import cv2
import pytest
from fixtures.tiny_run import run_tool
from helpers.repo import CONFIGS, load_tool
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmpanoptic.datasets.shapes.categories import CATEGORIES
from mmpanoptic.datasets.shapes.writer import write_dataset
from mmpanoptic.registry import DATASETS
from mmpanoptic.utils import UserError

BASE = CONFIGS / '_base_'
TOOL = load_tool('test')
CONFIG = """
_base_ = [
    '{base}/models/panoptic-fpn_r18_fpn_tiny.py',
    '{base}/datasets/shapes_instance.py',
    '{base}/schedules/schedule_shapes.py',
    '{base}/default_runtime.py',
]
data_root = '{data}/'
here = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(batch_size=2, dataset=dict(data_root=data_root), **here)
val_dataloader = dict(dataset=dict(data_root=data_root), **here)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
max_epochs = 1
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = []
default_hooks = dict(visualization=dict(draw=True, interval=1))
model = dict(
    _delete_=True,
    type='MaskRCNN',
    **{{key: _base_.model[key] for key in ('data_preprocessor', 'backbone', 'neck', 'rpn_head', 'roi_head')}},
    train_cfg=_base_.model.train_cfg,
    test_cfg=_base_.model.test_cfg,
)
model['data_preprocessor']['pad_seg'] = False
model['roi_head']['bbox_head']['num_classes'] = 7
model['roi_head']['mask_head']['num_classes'] = 7
model['test_cfg']['rcnn']['score_thr'] = 0.0
"""


@pytest.fixture(scope='module')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('instances') / 'shapes'
    write_dataset(out, {'train': 4, 'val': 2}, (96, 128), seed=0, workers=1)
    return out


def load(name: str, root: Path) -> Config:
    init_default_scope('mmpanoptic')
    config = Config.fromfile(BASE / 'datasets' / f'{name}.py')
    for part in ('train', 'val', 'test'):
        config[f'{part}_dataloader'].dataset.data_root = f'{root}/'
    return config


def test_shapes_classes_are_those_of_the_files(shapes: Path):
    things = [category for category in CATEGORIES if category['isthing']]
    config = load('shapes_instance', shapes)
    for part in ('train', 'test'):
        dataset = DATASETS.build(config[f'{part}_dataloader'].dataset)
        assert dataset.metainfo['classes'] == tuple(category['name'] for category in things)
        assert [list(colour) for colour in dataset.metainfo['palette']] == [category['color'] for category in things]
        sample = dataset[0]['data_samples']
        assert len(sample.gt_instances.masks) == len(sample.gt_instances.labels) > 0


def test_scales_are_replaced_as_the_base_config_says(tmp_path: Path):
    lines = (BASE / 'datasets' / 'coco_instance.py').read_text().splitlines()
    recipe = [line.removeprefix('#   ') for line in lines if line.startswith('#   ')]
    path = tmp_path / 'scales.py'
    path.write_text('\n'.join([f"_base_ = ['{BASE}/datasets/coco_instance.py']", *recipe]))
    config = Config.fromfile(path)
    steps = config.train_dataloader.dataset.pipeline
    assert [step.type for step in steps.values()][1:4] == ['LoadAnnotations', 'RandomResize', 'RandomFlip']
    assert steps.resize.scale == [(1400, 400), (1400, 1400)]
    for part in ('val', 'test'):
        assert config[f'{part}_dataloader'].dataset.pipeline.resize.scale == (1400, 1000)
    base = Config.fromfile(BASE / 'datasets/coco_instance.py')
    assert base.train_dataloader.dataset.pipeline.resize.scale == (1333, 800)


def test_detection_loads_no_masks():
    config = Config.fromfile(BASE / 'datasets' / 'coco_detection.py')
    for part in ('train', 'val', 'test'):
        step = config[f'{part}_dataloader'].dataset.pipeline.annotations
        assert step == dict(type='LoadAnnotations', with_bbox=True, with_mask=False)
    assert config.test_evaluator.metric == config.val_evaluator.metric == 'bbox'


def test_ap_is_taken_against_the_ann_file_of_a_plain_dataset(shapes: Path, cityscapes_root: Path):
    (metric,) = TOOL.evaluators(load('shapes_instance', shapes), ['segm', 'bbox'])
    path = str(shapes / 'annotations/instances_val.json')
    assert metric == dict(type='InstanceMetric', metric=['bbox', 'segm'], ann_file=path)
    (metric,) = TOOL.evaluators(load('cityscapes_instance', cityscapes_root), ['bbox'])
    assert metric['ann_file'] == str(cityscapes_root / 'gtFine/cityscapes_instances_val.json')
    (metric,) = TOOL.evaluators(load('nuclei_instance', shapes), ['bbox'])
    assert metric == dict(type='InstanceMetric', metric=['bbox'], ann_file=None)
    with pytest.raises(UserError, match=r'ann_file .*nowhere/annotations/instances_val\.json does not exist'):
        TOOL.evaluators(load('shapes_instance', shapes / 'nowhere'), ['bbox'])


def test_cityscapes_ap_is_selectable(cityscapes_root: Path, shapes: Path):
    config = load('cityscapes_instance', cityscapes_root)
    assert TOOL.evaluators(config, ['cityscapes', 'bbox']) == [
        dict(
            type='InstanceMetric',
            metric=['bbox'],
            ann_file=str(cityscapes_root / 'gtFine/cityscapes_instances_val.json'),
        ),
        dict(type='CityscapesInstanceMetric', seg_prefix='data/cityscapes/gtFine/val/', classwise=True),
    ]
    with pytest.raises(UserError, match=r'--eval cityscapes: .* has no CityscapesInstanceMetric'):
        TOOL.evaluators(load('shapes_instance', shapes), ['cityscapes'])


def test_cityscapes_samples(cityscapes_root: Path):
    """Groups are ignored instances, image ids are those of the panoptic files."""
    config = load('cityscapes_instance', cityscapes_root)
    settings = config.train_dataloader.dataset
    settings.pipeline.resize.scales = [(192, 128)]
    dataset = DATASETS.build(settings)
    assert len(dataset) == 2
    sample = dataset[0]['data_samples']
    assert sample.img_id == 'aachen_000000_000019'
    assert sample.gt_instances.labels.tolist() == [0, 1, 2, 2, 7] and len(sample.ignored_instances) == 1
    assert sample.gt_instances.masks.masks.shape == (5, 128, 192)


@pytest.mark.slow
def test_train_and_test_an_instance_model(shapes: Path, tmp_path: Path):
    config = tmp_path / 'tiny.py'
    config.write_text(CONFIG.format(base=BASE, data=shapes))
    trained = run_tool('train.py', config, '--work-dir', tmp_path / 'run', cwd=tmp_path)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert 'mask AP' in trained.stdout

    command = ('test.py', config, tmp_path / 'run/epoch_1.pth', '--work-dir', tmp_path / 'out')
    tested = run_tool(*command, '--eval', 'bbox', 'segm', '--show-dir', tmp_path / 'shown', cwd=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert re.findall(r'│ (\w+ AP) +│ +[\d.]+ │', tested.stdout) == ['box AP', 'mask AP']
    for path in (tmp_path / 'shown').glob('*.png'):
        height, width = cv2.imread(str(path)).shape[:2]
        assert width > 3 * height  # image, ground truth and prediction
    assert sorted(path.stem for path in (tmp_path / 'shown').glob('*.png')) == ['000001', '000002']

    refused = run_tool(*command, '--eval', 'PQ', cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.strip().endswith('so PQ cannot be scored: score bbox and segm')
