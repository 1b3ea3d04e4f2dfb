"""Pipelines of named steps, and configs that change one of them."""

import numpy as np
import pytest
from helpers.panoptic_files import PanopticFiles
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from mmpanoptic.datasets import CocoDataset, CocoInstanceDataset, steps_of
from mmpanoptic.datasets.pipelines import groups_of
from mmpanoptic.engine.configs import load_config
from mmpanoptic.registry import DATASETS
from mmpanoptic.utils import UserError

LOAD, FLIP, PACK = dict(type='LoadImageFromFile'), dict(type='RandomFlip', prob=0.5), dict(type='PackPanopticInputs')


def test_steps_stand_in_the_order_of_the_dict():
    assert steps_of(dict(load=LOAD, flip=FLIP, pack=PACK)) == [LOAD, FLIP, PACK]
    assert steps_of(dict(load=LOAD, flip=None, pack=PACK)) == [LOAD, PACK]
    assert steps_of([LOAD, len]) == [LOAD, len]
    assert steps_of(()) == steps_of({}) == []


@pytest.mark.parametrize(
    ('pipeline', 'message'),
    [
        (dict(load=LOAD, loads=dict(to_float32=True)), r"^pipeline\.loads is .*no 'type': .* of the steps \(load\)"),
        ([LOAD, None], r'^pipeline\.1 is None'),
        (dict(flip=FLIP, load=LOAD, pack=PACK, resize=LOAD), r'^pipeline: pack packs .* Config\.dump sorts names: let'),
        (LOAD, r"^pipeline\.type is 'LoadImageFromFile'"),
        ('LoadImageFromFile', "^pipeline is 'LoadImageFromFile': give it a dict of named steps, or a list"),
    ],
)
def test_what_is_no_step_is_named(pipeline, message: str):
    with pytest.raises(UserError, match=message):
        steps_of(pipeline)


def test_configs_change_steps_by_name(repo_root, tmp_path):
    base = repo_root / 'configs/panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py'
    steps = 'train_dataloader = dict(dataset=dict(pipeline={}))'
    path = tmp_path / 'mine.py'

    def pipeline(text: str, options: dict | None = None) -> list:
        path.write_text(f'_base_ = {str(base)!r}\n{steps.format(text)}\n')
        return steps_of(load_config(str(path), options).train_dataloader.dataset.pipeline)

    inherited = steps_of(Config.fromfile(base).train_dataloader.dataset.pipeline)
    assert pipeline('dict(flip=dict(prob=0.25))') == [*inherited[:3], FLIP | dict(prob=0.25), PACK]
    assert pipeline('dict(flip=None)') == [*inherited[:3], PACK]
    other = "dict(flip=dict(_delete_=True, type='PhotoMetricDistortion'))"
    assert pipeline(other) == [*inherited[:3], dict(type='PhotoMetricDistortion'), PACK]
    assert pipeline(f'[{LOAD}, {PACK}]') == [LOAD, PACK]
    options = {'train_dataloader.dataset.pipeline.resize.scale': (853, 512)}
    assert pipeline('{}', options)[2] == dict(type='Resize', scale=(853, 512), keep_ratio=True)
    with pytest.raises(UserError, match=r'^train_dataloader\.dataset\.pipeline\.resise is'):
        pipeline('dict(resise=dict(scale=(853, 512)))')


def test_datasets_take_named_steps(tmp_path):
    init_default_scope('mmpanoptic')
    pipeline = dict(load=LOAD, annotations=dict(type='LoadPanopticAnnotations'), flip=None, pack=PACK)
    assert len(PanopticFiles(tmp_path).dataset(pipeline=pipeline).pipeline.transforms) == 3
    assert DATASETS.get('CocoDataset') is CocoDataset
    for dataset in (CocoDataset, CocoInstanceDataset):
        built = dataset(ann_file='none.json', lazy_init=True, pipeline=pipeline)
        assert [type(step).__name__ for step in built.pipeline.transforms] == [
            step['type'] for step in pipeline.values() if step
        ]


def test_views_of_named_groups():
    """Every combination, in the order of the groups; a group that is None is left out."""
    init_default_scope('mmpanoptic')
    groups = dict(
        resize=[dict(type='Resize', scale=(8 * k, 8 * k), keep_ratio=False) for k in (1, 2)],
        flip=[dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)],
        annotations=None,
        pack=[dict(type='PackPanopticInputs', meta_keys=('img_shape', 'flip'))],
    )

    def views(transforms) -> list:
        image = dict(img=np.zeros((8, 8, 3), np.uint8), img_shape=(8, 8), ori_shape=(8, 8))
        return Compose([dict(type='TestTimeAug', transforms=transforms)])(image)['data_samples']

    found = [(sample.img_shape, sample.flip) for sample in views(groups)]
    assert found == [((8, 8), False), ((8, 8), True), ((16, 16), False), ((16, 16), True)]
    assert len(views([group for group in groups.values() if group])) == 4
    assert groups['flip'][0] == dict(type='RandomFlip', prob=0.0)  # a config stays what it is
    with pytest.raises(UserError, match=r'transforms\.resise\.scale is'):
        views(groups | dict(resise=dict(scale=(8, 8))))
    with pytest.raises(UserError, match=r'transforms: pack packs the sample'):
        views(dict(sorted(groups.items())))


def test_configs_that_are_written_keep_the_order(repo_root, tmp_path):
    """mmengine sorts names: it writes lists."""
    for folder in ('panoptic_fpn', 'spatialflow'):
        (path,) = (repo_root / 'configs' / folder).glob('*_r18_fpn_shapes.py')
        config = load_config(str(path))
        config.dump(tmp_path / 'written.py')
        written = Config.fromfile(tmp_path / 'written.py')
        assert written._cfg_dict == config._cfg_dict
        named = Config.fromfile(path)
        for part in ('train', 'test'):
            dataset = f'{part}_dataloader', 'dataset'
            assert written[dataset[0]].dataset.pipeline == steps_of(named[dataset[0]].dataset.pipeline)
        assert written.tta_pipeline[1].transforms == groups_of(named.tta_pipeline.views.transforms)
        named.dump(tmp_path / 'sorted.py')
        with pytest.raises(UserError, match=r'^\w+_dataloader\.dataset\.pipeline: pack packs the sample'):
            load_config(str(tmp_path / 'sorted.py'))
