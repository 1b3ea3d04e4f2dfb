"""COCO instances JSON files in front of mmdet and pycocotools: mmdet's dataset, and AP."""

import pytest
from helpers.panoptic_files import PanopticFiles

from mmpanoptic.datasets import CocoDataset
from mmpanoptic.datasets.transforms import LoadAnnotations
from mmpanoptic.evaluation.metrics import InstanceMetric
from mmpanoptic.formats.coco_api import load_coco
from mmpanoptic.utils import DatasetError

CLASSES = ('cat', 'dog')


@pytest.fixture
def files(tmp_path) -> PanopticFiles:
    return PanopticFiles(tmp_path)


def dataset(files: PanopticFiles, **options) -> CocoDataset:
    options = dict(data_root=str(files.root), ann_file='instances.json', data_prefix=dict(img='images')) | options
    return CocoDataset(metainfo=dict(classes=CLASSES), serialize_data=False, **options)


def metric(files: PanopticFiles, kinds: str | list[str] = 'segm') -> InstanceMetric:
    return InstanceMetric(str(files.root / 'instances.json'), metric=kinds)


def test_what_mmdet_and_pycocotools_read(files):
    samples = dataset(files)
    assert [sample['img_id'] for sample in samples] == [10, 20, 30]
    assert [len(sample['instances']) for sample in samples] == [3, 0, 1]
    assert [i['ignore_flag'] for i in samples[0]['instances']] == [0, 0, 1]
    assert [sample['img_id'] for sample in dataset(files, filter_cfg=dict(filter_empty_gt=True))] == [10, 30]
    coco = metric(files)._coco_api
    assert coco.getAnnIds(imgIds=[10], iscrowd=True) == [3]
    assert coco.annToMask(coco.anns[1]).sum() == 100


def test_no_annotations(files):
    """COCO's test sets."""
    for nothing in (None, {}):
        files.instances['annotations'] = nothing
        files.save()
        assert len(dataset(files, test_mode=True)) == 3
    del files.instances['annotations']
    files.save()
    assert len(dataset(files, test_mode=True)) == 3
    del files.instances['categories']
    files.save()
    assert len(dataset(files, test_mode=True)) == 3
    with pytest.raises(DatasetError, match=r'instances\.json has 0 of the 2 classes of `metainfo.classes`'):
        dataset(files)


def test_boxes_alone(files):
    for annotation in files.instances['annotations']:
        del annotation['segmentation']
    files.save()
    sample = dataset(files)[0]
    assert 'mask' not in sample['instances'][0]
    with pytest.raises(DatasetError, match=r'a\.png: instance 0 has segmentation None: write polygons or an RLE'):
        LoadAnnotations(with_mask=True)(sample | dict(ori_shape=(32, 40)))
    assert metric(files, 'bbox')._coco_api.anns
    with pytest.raises(DatasetError, match=r'annotation 1 of image 10 lacks `segmentation`: add it'):
        metric(files)


def test_what_is_missing(files):
    files.image(20).unlink()
    with pytest.raises(DatasetError, match=r'images/b\.jpg does not exist .* 1 of 3 .*: check `data_root` and'):
        dataset(files)
    with pytest.raises(DatasetError, match=r'instances\.json does not exist: set `ann_file` and `data_root`'):
        dataset(files, data_root='elsewhere/')
    (files.root / 'instances.json').unlink()
    with pytest.raises(DatasetError, match=r'instances\.json does not exist: set `ann_file` of InstanceMetric'):
        metric(files)
    with pytest.raises(DatasetError, match=r's3://b/x\.json. cannot be read'):
        InstanceMetric('s3://b/x.json')
    for options in (dict(data_root='s3://b'), dict(data_root='', ann_file='s3://b/x.json')):
        with pytest.raises(DatasetError, match=r's3://b.* cannot be read'):
            dataset(files, **options)


def test_classes_and_images_that_are_left(files):
    with pytest.raises(DatasetError, match=r'no image is left of 3 after filter_cfg .*1000'):
        dataset(files, filter_cfg=dict(min_size=1000))
    files.instances['categories'][1]['name'] = 'bird'
    files.save()
    with pytest.raises(DatasetError, match=r'has 1 of the 2 classes of `metainfo.classes`: list its `categories`'):
        dataset(files)


def test_images_that_are_not_listed(files):
    files.instances['images'] = files.instances['images'][1:]
    files.instances['annotations'][0]['bbox'] = 'nobody reads it'
    files.save()
    assert list(load_coco(str(files.root / 'instances.json')).anns) == [4]


@pytest.mark.parametrize('mask', [[], [[1, 2, 3, 4]], [[0] * 7], dict(size=[32, 40], counts='05')])
def test_masks_that_cannot_be_scored(mask, files):
    """pycocotools takes four numbers for a box, and looks for the rest of short runs for ever."""
    files.instances['annotations'][1]['segmentation'] = mask
    files.save()
    with pytest.raises(DatasetError, match=r'annotation 2 of image 10 has a (polygon|mask)'):
        metric(files)
    assert len(dataset(files)) == 3  # training leaves the former out, and checks the latter when it is loaded
