import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from fixtures.cityscapes import TREE
from helpers.repo import load_tool
from mmengine.registry import init_default_scope

from mmpanoptic.datasets import CityscapesPanopticDataset
from mmpanoptic.models import RankingFusion
from mmpanoptic.utils import DatasetError

TOOL = load_tool('dataset_converters/cityscapes_polygons')


@pytest.fixture(scope='module')
def dataset(cityscapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> CityscapesPanopticDataset:
    init_default_scope('mmpanoptic')
    root = tmp_path_factory.mktemp('polygons') / 'cityscapes'
    shutil.copytree(cityscapes_root, root)
    TOOL.run(Namespace(root=root, split=list(TREE), workers=1))
    return CityscapesPanopticDataset(
        data_root=str(root),
        ann_file='gtFine/cityscapes_panoptic_train.json',
        inst_ann_file='gtFine/cityscapes_polygons_train.json',
        data_prefix=dict(img='leftImg8bit/train/', seg='gtFine/cityscapes_panoptic_train/'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadPanopticAnnotations'),
            dict(type='PackPanopticInputs'),
        ],
    )


def test_masks_are_whole_and_groups_are_crowds(dataset):
    """The two cars cover each other, the rider his bicycle; a deleted truck is no instance."""
    sample = dataset[0]['data_samples']
    names = [dataset.metainfo['classes'][label] for label in sample.gt_instances.labels]
    assert names == ['person', 'car', 'car', 'bicycle', 'rider']
    assert [dataset.metainfo['classes'][label] for label in sample.ignored_instances.labels] == ['person']
    masks = sample.gt_instances.masks.to_tensor(torch.bool, 'cpu')
    assert masks[1].sum() == 23 * 13 and masks[2].sum() == 27 * 15
    assert (masks[1] & masks[2]).any() and (masks[3] & masks[4]).any()
    bicycle = dataset.metainfo['classes'].index('bicycle')
    assert (sample.gt_sem_seg.sem_seg[0] == bicycle).sum() < masks[3].sum()


def test_a_ranking_module_learns_from_them(dataset):
    losses = RankingFusion(8, 11).loss([dataset[0]['data_samples']], None)
    assert losses['conflict_pixels'] > 0 and losses['loss_ranking'] > 0


def test_missing_polygons_are_named(tmp_path):
    with pytest.raises(DatasetError, match='unpack gtFine_trainvaltest'):
        TOOL.run(Namespace(root=tmp_path, split=['train'], workers=1))


@pytest.mark.parametrize(
    'text',
    [
        '{"imgHeight": 5',
        '{"imgHeight": 5, "imgWidth": 5, "objects": [{"label": "car"}]}',
        '{"imgHeight": 5, "imgWidth": 5, "objects": ["car"]}',
    ],
)
def test_a_broken_file_is_named(tmp_path, text):
    path = tmp_path / f'aachen_000000_000019{TOOL.SUFFIX}'
    path.write_text(text)
    with pytest.raises(DatasetError, match='aachen_000000_000019'):
        TOOL.convert(path)
