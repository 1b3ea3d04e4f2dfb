"""Cityscapes as cityscapesscripts leaves it."""

import json
import shutil

import numpy as np
import pytest
from fixtures.cityscapes import HEIGHT, TREE, WIDTH
from helpers.panoptic_files import PanopticFiles
from mmengine.registry import init_default_scope

from mmpanoptic.datasets import CityscapesPanopticDataset
from mmpanoptic.datasets.validation import check_panoptic_pngs
from mmpanoptic.registry import DATASETS
from mmpanoptic.utils import DatasetError

THINGS = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
STUFF = ('road', 'sidewalk', 'building', 'wall', 'fence', 'pole', 'traffic light', 'traffic sign')
STUFF = (*STUFF, 'vegetation', 'terrain', 'sky')
PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'LoadPanopticAnnotations'},
    {'type': 'PackPanopticInputs', 'meta_keys': ('img_id',)},
]


def build(root, split='train', **options):
    init_default_scope('mmpanoptic')
    return DATASETS.build(
        {
            'type': 'CityscapesPanopticDataset',
            'data_root': str(root),
            'ann_file': f'gtFine/cityscapes_panoptic_{split}.json',
            'data_prefix': {'img': f'leftImg8bit/{split}/'},
            'pipeline': PIPELINE,
        }
        | options
    )


@pytest.mark.parametrize('split', TREE)
def test_images_lie_in_the_folders_of_their_cities(split, cityscapes_root):
    dataset = build(cityscapes_root, split)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert sorted(info['img_id'] for info in infos) == sorted(TREE[split])
    for info in infos:
        city = info['img_id'].split('_')[0]
        assert info['img_path'].endswith(f'leftImg8bit/{split}/{city}/{info["img_id"]}_leftImg8bit.png')
        assert info['seg_map_path'].endswith(f'cityscapes_panoptic_{split}/{info["img_id"]}_gtFine_panoptic.png')
        assert (info['height'], info['width']) == (HEIGHT, WIDTH)
    assert check_panoptic_pngs(dataset) == len(TREE[split])


def test_classes(cityscapes_root):
    meta = build(cityscapes_root).metainfo
    assert meta['thing_classes'] == THINGS
    assert meta['stuff_classes'] == STUFF
    assert meta['classes'] == THINGS + STUFF
    assert meta['palette'][2] == (0, 0, 142)  # car, in Cityscapes' colours


def test_groups_are_crowds_and_ignored_labels_void(cityscapes_root):
    dataset = build(cityscapes_root)
    sample = next(s['data_samples'] for s in dataset if s['data_samples'].img_id == 'aachen_000000_000019')
    names = [dataset.metainfo['classes'][label] for label in sample.gt_instances.labels]
    assert sorted(set(names)) == ['bicycle', 'car', 'person', 'rider']
    assert names.count('car') == 2
    ignored = [dataset.metainfo['classes'][label] for label in sample.ignored_instances.labels]
    assert ignored == ['person']  # of the group
    semantic = sample.gt_sem_seg.sem_seg[0].numpy()
    assert (semantic[:2] == 255).all()  # out of the region of interest
    assert (semantic[60:, 30] == 255).all()  # the ego vehicle
    np.testing.assert_array_equal(sample.gt_panoptic_seg.sem_seg[0].numpy() == 0, semantic == 255)


def test_image_without_things(cityscapes_root):
    dataset = build(cityscapes_root)
    sample = next(s['data_samples'] for s in dataset if s['data_samples'].img_id == 'aachen_000001_000019')
    assert len(sample.gt_instances) == 0
    assert sample.gt_sem_seg.sem_seg.min() >= len(THINGS)
    kept = build(cityscapes_root, filter_cfg={'filter_empty_gt': True})
    assert len(kept) == len(dataset) - 1


def test_missing_city(cityscapes_root, tmp_path):
    root = tmp_path / 'tree'
    shutil.copytree(cityscapes_root, root)
    shutil.rmtree(root / 'leftImg8bit' / 'train' / 'bochum')
    with pytest.raises(
        DatasetError, match=r'bochum/bochum_000000_000313_leftImg8bit\.png does not exist .*1 of 3.*`data_prefix\.img`'
    ):
        build(root)


@pytest.mark.parametrize('wrong', [7, 'x', 'frankfurt'])
def test_ids_of_another_dataset(wrong, cityscapes_root, tmp_path):
    root = tmp_path / 'tree'
    shutil.copytree(cityscapes_root, root)
    path = root / 'gtFine' / 'cityscapes_panoptic_train.json'
    data = json.loads(path.read_text())
    data['images'][0]['id'] = data['annotations'][0]['image_id'] = wrong
    path.write_text(json.dumps(data))
    with pytest.raises(
        DatasetError, match=rf'train\.json: image id {wrong!r} is none of Cityscapes .*use CocoPanopticDataset'
    ):
        build(root)


def test_coco_files_given(tmp_path):
    PanopticFiles(tmp_path)
    with pytest.raises(DatasetError, match=r'panoptic\.json: image id 30 is none of Cityscapes'):
        CityscapesPanopticDataset(ann_file='panoptic.json', data_root=str(tmp_path), data_prefix={'img': 'images'})
