"""A bare type name means ours first, then mmdet's, then mmengine's."""

import json
import subprocess
import sys

import pytest
from mmdet import registry as mmdet_registry
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope, Registry, init_default_scope

from mmpanoptic import registry
from mmpanoptic.registry import DATASETS, TRANSFORMS

KINDS = sorted(name for name, value in vars(registry).items() if isinstance(value, Registry))
# One name of each place: a class of ours where there is one, mmdet's where it has one, mmengine's where it has one.
NAMES = {
    'HOOKS': ['PanopticCheckHook', 'NumClassCheckHook', 'EMAHook'],
    'LOOPS': [None, 'TeacherStudentValLoop', 'ValLoop'],
    'RUNNERS': [None, None, 'Runner'],
    'RUNNER_CONSTRUCTORS': [None, None, None],
    'OPTIM_WRAPPERS': ['AmpOptimWrapper', None, 'OptimWrapper'],
    'OPTIMIZERS': [None, None, 'AdamW'],
    'OPTIM_WRAPPER_CONSTRUCTORS': [
        None,
        'LearningRateDecayOptimizerConstructor',
        'DefaultOptimWrapperConstructor',
    ],
    'PARAM_SCHEDULERS': [None, 'QuadraticWarmupLR', 'MultiStepLR'],
    'LOG_PROCESSORS': [None, None, 'LogProcessor'],
    'DATASETS': ['CityscapesPanopticDataset', 'VOCDataset', 'ClassBalancedDataset'],
    'DATA_SAMPLERS': [None, 'AspectRatioBatchSampler', 'DefaultSampler'],
    'TRANSFORMS': ['PackPanopticInputs', 'PackDetInputs', 'RandomChoice'],
    'MODELS': ['PanopticFPN', 'MaskRCNN', 'MomentumAnnealingEMA'],
    'MODEL_WRAPPERS': [None, None, 'MMDistributedDataParallel'],
    'WEIGHT_INITIALIZERS': [None, None, 'Pretrained'],
    'TASK_UTILS': ['MaxIoUAssigner', 'RandomSampler', None],
    'METRICS': ['PanopticMetric', 'CocoMetric', 'DumpResults'],
    'EVALUATOR': [None, 'MultiDatasetsEvaluator', 'Evaluator'],
    'VISUALIZERS': ['PanopticVisualizer', 'DetLocalVisualizer', 'Visualizer'],
    'VISBACKENDS': [None, None, 'TensorboardVisBackend'],
}
ROOTS = ('mmpanoptic', 'mmdet', 'mmengine')

# Registries are filled on first use. What one finds must not depend on what another one has imported: one process for
# each place that classes are looked for.
LOOKUP = """
import json, os, sys
from mmpanoptic import registry
names = json.loads(sys.argv[1])
locations = {}
for kind in names:
    locations.setdefault(getattr(registry, kind)._locations[0], []).append(kind)
sys.stdout.flush()
for kinds in locations.values():
    if os.fork() == 0:
        found = {k: [n and getattr(getattr(registry, k).get(n), '__module__', None) for n in names[k]] for k in kinds}
        os.write(1, (json.dumps(found) + chr(10)).encode())
        os._exit(0)
    os.wait()
"""


def test_every_kind_of_mmdet_has_a_child():
    parents = {
        n: r for n, r in vars(mmdet_registry).items() if isinstance(r, Registry) and not n.startswith('MMENGINE')
    }
    assert sorted(parents) == KINDS
    for kind in KINDS:
        assert getattr(registry, kind).parent is parents[kind]
        assert getattr(registry, kind).scope == 'mmpanoptic'


def test_all_three_are_searched_on_first_use():
    assert sorted(NAMES) == KINDS
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', LOOKUP, json.dumps(NAMES)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        found |= json.loads(line)
    assert sorted(found) == KINDS, done.stderr
    for kind, modules in found.items():
        for name, module, root in zip(NAMES[kind], modules, ROOTS, strict=True):
            if name is not None:
                assert module is not None, f'{kind} does not find {name} of {root}'
                third = ('mmcv.', 'torch.') if root == 'mmengine' else ()
                assert module.startswith((f'{root}.', *third)), (kind, name, module)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('level', [0, 1])
def test_ours_come_first(kind, level):
    """Also where a parent has a class of that name; the parents' own users still get theirs."""
    ours = getattr(registry, kind)
    chain = [ours, ours.parent, ours.parent.parent]
    classes = [type('Same', (), {}) for _ in chain]
    try:
        for one, cls in list(zip(chain, classes, strict=True))[level:]:
            one.register_module(name='SameNameEverywhere', module=cls)
        assert ours.get('SameNameEverywhere') is classes[level]
        assert ours.parent.get('SameNameEverywhere') is classes[1]
        assert ours.get('mmdet.SameNameEverywhere') is classes[1]
        assert ours.parent.parent.get('SameNameEverywhere') is classes[2]
    finally:
        for one in chain:
            one.module_dict.pop('SameNameEverywhere', None)


@pytest.fixture
def default_scope():
    """Sets the default scope, and puts back what it was."""
    before = DefaultScope.get_current_instance()
    yield init_default_scope
    init_default_scope(before.scope_name if before else 'mmpanoptic')


def test_pipelines_mean_ours(default_scope):
    """mmengine builds pipelines from its own registry; the default scope leads it to ours."""
    default_scope('mmpanoptic')
    names = ['LoadImageFromFile', 'LoadPanopticAnnotations', 'PackDetInputs', 'Expand']
    pipeline = Compose([{'type': name} for name in names])
    assert [type(t).__module__.split('.')[0] for t in pipeline.transforms] == ['mmpanoptic'] * 2 + ['mmdet'] * 2


def test_configs_inherited_from_mmdet_mean_mmdets(tmp_path, default_scope):
    """mmengine marks what it inherits from ``mmdet::`` with ``_scope_``: bare names below it are mmdet's classes, also
    where we have one of that name. This is why our configs stand on our own ``_base_``."""
    path = tmp_path / 'inherited.py'
    path.write_text("_base_ = ['mmdet::_base_/datasets/coco_panoptic.py']\ntrain_dataloader = dict(batch_size=1)\n")
    dataset = Config.fromfile(path).train_dataloader.dataset
    assert dataset.type == 'CocoPanopticDataset'
    assert dataset._scope_ == 'mmdet'
    default_scope('mmpanoptic')
    dataset.update(lazy_init=True, pipeline=[])
    assert type(DATASETS.build(dataset)).__module__ == 'mmdet.datasets.coco_panoptic'
    with DATASETS.switch_scope_and_registry(dataset._scope_), TRANSFORMS.switch_scope_and_registry('mmdet') as chosen:
        assert chosen.get('LoadPanopticAnnotations').__module__.startswith('mmdet.')
    # The way out: say so, or take the mark away.
    assert type(DATASETS.build(dataset | {'type': 'mmpanoptic.CocoPanopticDataset'})).__module__.startswith(
        'mmpanoptic.'
    )
    del dataset['_scope_']
    assert type(DATASETS.build(dataset)).__module__ == 'mmpanoptic.datasets.coco_panoptic'
