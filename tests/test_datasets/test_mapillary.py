import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fixtures.mapillary import HEIGHT, THINGS, WIDTH, instance_map
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmpanoptic.datasets import CocoInstanceDataset, MapillaryVistasDataset
from mmpanoptic.datasets.validation import check_panoptic_pngs, panoptic_datasets
from mmpanoptic.engine.hooks.check_hook import check_classes
from mmpanoptic.registry import DATASETS
from mmpanoptic.utils import DatasetError, UserError


@pytest.fixture
def root(mapillary_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mapillary_root, tmp_path / 'vistas'))


def build(root: Path, **kwargs) -> MapillaryVistasDataset:
    return MapillaryVistasDataset(
        data_root=str(root),
        ann_file='annotations/instances_training.json',
        data_prefix=dict(img='training/images/'),
        **dict(pipeline=[]) | kwargs,
    )


def edit(root: Path, change) -> None:
    path = root / 'annotations' / 'instances_training.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_classes_and_colours_are_those_of_the_file(mapillary_root: Path):
    meta = build(mapillary_root).metainfo
    assert meta['classes'] == meta['thing_classes'] == tuple(THINGS)
    assert meta['stuff_classes'] == ()
    assert meta['palette'] == [(0, 20, 250), (20, 20, 248), (30, 20, 247)]


def test_instances(mapillary_root: Path):
    dataset = build(mapillary_root)
    assert [info['img_id'] for info in dataset] == ['_A1', 'b-2', 'zC']
    info = dataset[0]
    assert [instance['bbox_label'] for instance in info['instances']] == [0, 1, 1, 2]
    assert info['instances'][1]['bbox'] == [4, 8, 8, 20]
    assert not any(instance['ignore_flag'] for instance in info['instances'])
    assert dataset[1]['instances'] == []
    assert [info['img_id'] for info in build(mapillary_root, filter_cfg=dict(filter_empty_gt=True))] == ['_A1', 'zC']


@pytest.mark.parametrize('part', ['train', 'test'])
def test_base_config_loads_the_masks_of_the_png(root: Path, repo_root: Path, part: str):
    init_default_scope('mmpanoptic')
    config = Config.fromfile(repo_root / 'configs/_base_/datasets/mapillary_instance.py')
    jpg = root / 'training' / 'images' / '_A1.jpg'
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, which the instance map is not
    Image.open(jpg).save(jpg, exif=exif)
    settings = config[f'{part}_dataloader'].dataset
    settings.data_root = str(root)
    scale = (2 * WIDTH, 2 * HEIGHT)
    if part == 'train':
        settings.filter_cfg.min_size = HEIGHT
        settings.pipeline.resize.scale = [scale, scale]
        settings.pipeline.flip.prob = 0.0
    else:
        settings.pipeline.resize.scale = scale
    dataset = DATASETS.build(settings)
    assert isinstance(dataset, MapillaryVistasDataset) and len(dataset) == (2 if part == 'train' else 1)
    sample = dataset[0]
    assert sample['inputs'].shape == (3, 2 * HEIGHT, 2 * WIDTH)
    truth = sample['data_samples'].gt_instances
    values = instance_map(0, True)
    masks = np.stack([values == value for value in (7, 512, 513, 768 + 255)])
    if part == 'train':
        masks = masks.repeat(2, 1).repeat(2, 2)
    assert truth.labels.tolist() == [0, 1, 1, 2]
    np.testing.assert_array_equal(truth.masks.masks, masks)  # in testing at the original size


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c.pop('categories'), 'instances_training.json lists no categories'),
        (lambda c: c['categories'].append(c['categories'][0]), 'category id 1 occurs twice'),
        (lambda c: c.pop('images'), 'instances_training.json lists no images'),
        (lambda c: c['images'].append(c['images'][0]), "image id '_A1' occurs twice"),
        (lambda c: c['images'][0].pop('width'), "image '_A1' lacks `width`"),
        (lambda c: c['images'][0].update(file_name='no.jpg'), "images/no.jpg does not exist .image id '_A1'"),
        (lambda c: c['annotations'][0].update(category_id=2), 'has category_id 2, which is none of'),
        (lambda c: c['annotations'][0]['segmentation'].update(size=[9, 9]), r'has a mask \(RLE\) of size \[9, 9\]'),
        (lambda c: c.update(annotations=[]), 'instances_training.json lists no annotations'),
    ],
)
def test_what_does_not_fit_is_refused(root: Path, change, message: str):
    edit(root, change)
    with pytest.raises(DatasetError, match=message):
        build(root)


def test_a_class_list_in_the_config_is_checked(mapillary_root: Path):
    build(mapillary_root, metainfo=dict(classes=THINGS))
    with pytest.raises(DatasetError, match=r'they differ from position 0|the 3 of `metainfo.classes`'):
        build(mapillary_root, metainfo=dict(classes=THINGS[::-1]))


def test_any_instances_json_without_isthing_and_without_ground_truth(root: Path):
    def reduce(content: dict) -> None:
        content.pop('annotations')
        for category in content['categories']:
            category.pop('isthing')

    edit(root, reduce)
    dataset = CocoInstanceDataset(
        data_root=str(root),
        ann_file='annotations/instances_training.json',
        data_prefix=dict(img='training/images/'),
        test_mode=True,
        pipeline=[],
    )
    assert dataset.metainfo['thing_classes'] == tuple(THINGS)
    assert [info['instances'] for info in dataset] == [[], [], []]
    assert cv2.imread(dataset[2]['img_path']).shape == (HEIGHT, WIDTH, 3)


def test_the_check_before_a_run_compares_classes(mapillary_root: Path):
    dataset = build(mapillary_root)
    assert list(panoptic_datasets(dataset)) == [dataset] and check_panoptic_pngs(dataset) == 0  # there is none
    head = torch.nn.ModuleList([FCNMaskHead(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=3)])
    check_classes(head, dataset.metainfo, dataset.ann_file)
    head[0].num_classes = 37
    with pytest.raises(UserError, match=r'has 3 thing and 0 stuff classes, but .* is made for 37'):
        check_classes(head, dataset.metainfo, dataset.ann_file)
