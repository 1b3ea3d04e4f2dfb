import json
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fixtures.cityscapes import HEIGHT, TREE, WIDTH, make_cityscapes_tree
from helpers.repo import load_tool
from PIL import Image
from pycocotools import mask as rle

from mmpanoptic.datasets import CocoInstanceDataset
from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.registry import METRICS
from mmpanoptic.utils import DatasetError

THINGS = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
NAME = 'frankfurt/frankfurt_000000_000294'
TOOL = load_tool('dataset_converters/cityscapes')


def read(root: Path, split: str) -> dict:
    return json.loads((root / 'gtFine' / f'cityscapes_instances_{split}.json').read_text())


@pytest.mark.parametrize('split', list(TREE))
def test_instances_are_the_things_of_the_panoptic_files(cityscapes_root: Path, split: str):
    content = read(cityscapes_root, split)
    panoptic = json.loads((cityscapes_root / 'gtFine' / f'cityscapes_panoptic_{split}.json').read_text())
    things = [category for category in panoptic['categories'] if category['isthing']]
    assert content['categories'] == things and tuple(c['name'] for c in things) == THINGS
    assert [image['id'] for image in content['images']] == list(TREE[split])
    ids = {category['id'] for category in things}
    found = 0
    for annotation in panoptic['annotations']:
        png = cityscapes_root / 'gtFine' / f'cityscapes_panoptic_{split}' / annotation['file_name']
        id_map = decode_panoptic_png(png.read_bytes(), png.name)
        segments = [s for s in annotation['segments_info'] if s['category_id'] in ids]
        instances = [a for a in content['annotations'] if a['image_id'] == annotation['image_id']]
        for segment, instance in zip(segments, instances, strict=True):
            keys = ('category_id', 'area', 'bbox', 'iscrowd')
            assert [instance[key] for key in keys] == [segment[key] for key in keys]
            np.testing.assert_array_equal(rle.decode(instance['segmentation']), id_map == segment['id'])
            found += 1
    assert found == len(content['annotations']) == 6 * 2


def test_groups_are_crowds_and_ignored_labels_are_none(cityscapes_root: Path):
    instances = [a for a in read(cityscapes_root, 'val')['annotations'] if a['image_id'] == NAME.split('/')[1]]
    assert [(a['category_id'], a['iscrowd']) for a in instances] == [
        (24, 1),
        (24, 0),
        (25, 0),
        (26, 0),
        (26, 0),
        (33, 0),
    ]  # the caravan is none, neither is the license plate


def test_file_names_lead_to_the_images(cityscapes_root: Path):
    dataset = CocoInstanceDataset(
        data_root=str(cityscapes_root),
        ann_file='gtFine/cityscapes_instances_train.json',
        data_prefix=dict(img='leftImg8bit/train/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[],
    )
    assert dataset.metainfo['classes'] == THINGS
    assert [info['img_id'] for info in dataset] == ['aachen_000000_000019', 'bochum_000000_000313']
    for info in dataset:
        assert cv2.imread(info['img_path']).shape == (info['height'], info['width'], 3) == (HEIGHT, WIDTH, 3)


def test_coco_ap_of_the_ground_truth_is_1(cityscapes_root: Path):
    """Image ids are strings, which pycocotools takes; groups are crowds, which it ignores."""
    path = cityscapes_root / 'gtFine' / 'cityscapes_instances_val.json'
    metric = METRICS.build(dict(type='InstanceMetric', ann_file=str(path), metric=['bbox', 'segm']))
    metric.dataset_meta = dict(classes=THINGS)
    content = read(cityscapes_root, 'val')
    label_of = {category['id']: label for label, category in enumerate(content['categories'])}
    for image in content['images']:
        found = [a for a in content['annotations'] if a['image_id'] == image['id'] and not a['iscrowd']]
        boxes = torch.tensor([a['bbox'] for a in found], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        instances = dict(
            bboxes=boxes,
            scores=torch.full((len(found),), 0.9),
            labels=torch.tensor([label_of[a['category_id']] for a in found]),
            masks=torch.from_numpy(np.stack([rle.decode(a['segmentation']) for a in found])).bool(),
        )
        sample = dict(pred_instances=instances, img_id=image['id'], ori_shape=(HEIGHT, WIDTH), img_path='')
        metric.process({}, [sample])
    scores = metric.evaluate(len(content['images']))
    assert scores['coco/bbox_mAP'] == scores['coco/segm_mAP'] == 1.0


def test_also_where_the_panoptic_files_were_made_before(tmp_path: Path, capsys: pytest.CaptureFixture):
    root = make_cityscapes_tree(tmp_path)
    arguments = Namespace(root=root, split=['val'], workers=1)
    TOOL.run(arguments)
    before = read(root, 'val')
    path = root / 'gtFine' / 'cityscapes_instances_val.json'
    path.unlink()
    TOOL.run(arguments)
    assert read(root, 'val') == before
    assert 'val: 2 images, 12 instances' in capsys.readouterr().out
    stamp = path.stat().st_mtime_ns
    TOOL.run(arguments)
    assert path.stat().st_mtime_ns == stamp and f'{path} is complete (2 images)' in capsys.readouterr().out

    path.unlink()
    Image.new('RGB', (8, 8)).save(root / 'leftImg8bit' / 'val' / f'{NAME}_leftImg8bit.png')
    with pytest.raises(DatasetError, match=r'_instanceIds.png is 64x96 \(height x width\), its image 8x8'):
        TOOL.run(arguments)
    assert not path.exists()
