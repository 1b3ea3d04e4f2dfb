"""The COCO panoptic dataset: what it gives, and what it refuses."""

import json
import os

import cv2
import numpy as np
import pytest
from helpers.panoptic_files import IMAGES, ORDER, PanopticFiles
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.fileio import BaseStorageBackend, LocalBackend, register_backend
from mmengine.registry import init_default_scope

from mmpanoptic.datasets import CocoPanopticDataset
from mmpanoptic.registry import DATASETS
from mmpanoptic.utils import DatasetError


@pytest.fixture
def files(tmp_path):
    init_default_scope('mmpanoptic')
    return PanopticFiles(tmp_path)


def infos_of(dataset):
    return {dataset.get_data_info(i)['img_id']: dataset.get_data_info(i) for i in range(len(dataset))}


def test_samples(files):
    dataset = files.dataset()
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [info['img_id'] for info in infos] == list(ORDER)
    assert [info['sample_idx'] for info in infos] == [0, 1, 2]
    for info in infos:
        name, size, _ = IMAGES[info['img_id']]
        assert info['img_path'] == str(files.root / 'images' / name)  # .png, .jpg and .webp in one dataset
        assert info['seg_map_path'] == str(files.png(info['img_id']))
        assert (info['height'], info['width']) == size
        assert len(info['segments_info']) == len(files.annotation(info['img_id'])['segments_info'])


def test_instances_of_segments(files):
    infos = infos_of(files.dataset())
    assert [(i['bbox'], i['bbox_label'], i['ignore_flag'], i['segment']) for i in infos[10]['instances']] == [
        ([4, 10, 14, 20], 0, 0, 2),
        ([10, 12, 26, 22], 0, 0, 3),
        ([28, 4, 38, 10], 1, 1, 4),  # the crowd
    ]
    assert infos[20]['instances'] == []  # stuff only
    assert len(infos[30]['instances']) == 1


def test_instances_of_an_instances_json(files):
    infos = infos_of(files.dataset(inst_ann_file='instances.json'))
    boxes = [(i['bbox'], i['bbox_label'], i['ignore_flag']) for i in infos[10]['instances']]
    assert boxes == [([4, 10, 14, 20], 0, 0), ([8, 8, 20, 20], 0, 0), ([15, 6, 16, 18], 1, 1)]
    assert infos[20]['instances'] == []
    assert [s['id'] for s in infos[10]['segments_info']] == [5, 70000, 300, 301, 65536]  # still the PNG's


@pytest.mark.parametrize('change', [{'area': 0}, {'bbox': [4, 10, 0.5, 10]}, {'bbox': [4, 10, 9, 0]}, {'ignore': 1}])
def test_what_is_no_instance_is_left_out(change, files):
    files.instances['annotations'][0] |= change
    files.save()
    assert len(infos_of(files.dataset(inst_ann_file='instances.json'))[10]['instances']) == 2


def test_a_box_thinner_than_a_pixel_is_no_instance(files):
    files.annotation(10)['segments_info'][2]['bbox'] = [4, 10, 0.5, 10]
    files.save()
    assert len(infos_of(files.dataset())[10]['instances']) == 2


def test_more_images_in_the_instances_json(files):
    files.panoptic['images'] = files.panoptic['images'][:1]
    files.panoptic['annotations'] = [files.annotation(10)]
    files.save()
    dataset = files.dataset(inst_ann_file='instances.json')
    assert [info['img_id'] for info in infos_of(dataset).values()] == [10]


def test_metainfo(files):
    meta = files.dataset().metainfo
    assert meta['classes'] == ('cat', 'dog', 'sky', 'road')
    partial = files.dataset(metainfo={'classes': ['cat', 'dog', 'sky', 'road'], 'mine': 3}).metainfo
    assert partial == meta | {'mine': 3}
    palette = [(9, 9, i) for i in range(4)]
    assert files.dataset(metainfo={'palette': palette}).metainfo == meta | {'palette': palette}
    with pytest.raises(DatasetError, match=r"panoptic\.json: its 4 classes are not the 1 .*only in the file: \['dog'"):
        files.dataset(metainfo={'classes': ('cat',)})
    with pytest.raises(DatasetError, match=r'panoptic\.json: `metainfo\.palette` must be 4 times'):
        files.dataset(metainfo={'palette': palette[:2]})


def test_lazy_init(files, monkeypatch):
    dataset = files.dataset(lazy_init=True)
    assert not dataset._fully_initialized
    assert dataset.metainfo['classes'] == ('cat', 'dog', 'sky', 'road')
    assert len(files.dataset(lazy_init=True)) == 3
    for wrapped in (
        RepeatDataset(files.dataset(lazy_init=True), 2, lazy_init=True),
        ConcatDataset([files.dataset(lazy_init=True), files.dataset(lazy_init=True)], lazy_init=True),
    ):
        assert wrapped.metainfo['thing_classes'] == ('cat', 'dog')
        assert len(wrapped) == 6
    (files.root / 'panoptic.json').unlink()
    broken = files.dataset(lazy_init=True)
    with pytest.raises(DatasetError, match=r'panoptic\.json does not exist'):
        broken.full_init()


@pytest.mark.parametrize('serialize_data', [True, False])
@pytest.mark.parametrize(
    ('indices', 'expected'), [(1, [30]), (2, [30, 10]), (-1, [20]), ([2, 0], [20, 30]), (9, [30, 10, 20])]
)
def test_indices(indices, expected, serialize_data, files):
    dataset = files.dataset(indices=indices, serialize_data=serialize_data)
    assert [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))] == expected
    assert dataset.metainfo['classes'] == ('cat', 'dog', 'sky', 'road')


@pytest.mark.parametrize('indices', [0, [], [7]])
def test_indices_of_nothing(indices, files):
    with pytest.raises(DatasetError, match=r'panoptic\.json: `indices` .* do not choose among its 3 images: mend or'):
        files.dataset(indices=indices)


def test_filter(files):
    def ids(**filter_cfg):
        return list(infos_of(files.dataset(filter_cfg=filter_cfg)))

    assert ids(filter_empty_gt=True) == [30, 10]
    assert ids(min_size=26) == [30, 10]
    assert ids(min_size=30) == [10]
    assert ids() == list(ORDER)
    assert len(files.dataset(filter_cfg={'filter_empty_gt': True}, test_mode=True)) == 3
    files.annotation(10)['segments_info'] = [
        s | {'iscrowd': 1} if s['id'] in (300, 301) else s for s in files.annotation(10)['segments_info']
    ]
    files.save()
    assert ids(filter_empty_gt=True) == [30]  # crowds alone give nothing to learn


def test_empty_dataset(files):
    with pytest.raises(DatasetError, match=r'panoptic\.json: no image is left of 3: .*empty after filter_cfg.*loosen'):
        files.dataset(filter_cfg={'min_size': 1000})
    files.panoptic['images'] = files.panoptic['annotations'] = []
    files.save()
    with pytest.raises(DatasetError, match=r'panoptic\.json lists no images: give'):
        files.dataset()


def test_no_annotations(files):
    del files.panoptic['annotations']
    files.save()
    dataset = files.dataset(test_mode=True)
    assert [info['seg_map_path'] for info in infos_of(dataset).values()] == [None] * 3
    assert list(infos_of(dataset)) == [10, 20, 30]
    with pytest.raises(DatasetError, match=r'panoptic\.json has no annotations: .*test_mode=True'):
        files.dataset()


def test_missing_files(files):
    files.image(20).unlink()
    with pytest.raises(
        DatasetError, match=r'images/b\.jpg does not exist \(image id 20; 1 of 3 .*`data_root` and `data_prefix\.img`'
    ):
        files.dataset()
    with pytest.raises(DatasetError, match=r'image id 30; 3 of 3 .*`data_prefix\.img`'):
        files.dataset(data_prefix={'img': 'elsewhere'})
    with pytest.raises(DatasetError, match=r'elsewhere/30\.png does not exist .*`data_prefix\.seg`|`data_prefix\.img`'):
        files.dataset(data_prefix={'img': 'images', 'seg': 'elsewhere'})


def test_missing_png(files):
    files.png(10).unlink()
    with pytest.raises(
        DatasetError,
        match=r'panoptic/10\.png does not exist \(image id 10; 1 of 3 .*`data_root` and `data_prefix\.seg`',
    ):
        files.dataset()


def test_places(files, monkeypatch):
    reference = infos_of(files.dataset())
    root = str(files.root)
    absolute = CocoPanopticDataset(
        ann_file=f'{root}/panoptic.json', data_prefix={'img': f'{root}/images'}, data_root=None
    )
    assert infos_of(absolute) == reference
    mixed = files.dataset(
        ann_file=f'{root}/panoptic.json',
        data_prefix={'img': f'{root}/images/', 'seg': f'{root}/panoptic/'},
        inst_ann_file=f'{root}/instances.json',
        data_root='/nowhere',
    )
    assert list(infos_of(mixed)) == list(reference)
    monkeypatch.chdir(files.root)
    relative = CocoPanopticDataset(ann_file='panoptic.json', data_prefix={'img': 'images'}, data_root=None)
    assert [info['img_path'] for info in infos_of(relative).values()] == [
        'images/c.webp',
        'images/a.png',
        'images/b.jpg',
    ]
    with_instances = CocoPanopticDataset(
        ann_file='panoptic.json', data_prefix={'img': 'images'}, data_root='', inst_ann_file='instances.json'
    )
    assert len(with_instances) == 3


def test_images_beside_the_json(files):
    for path in (files.root / 'images').iterdir():
        path.rename(files.root / path.name)
    dataset = files.dataset(data_prefix={})
    assert dataset.get_data_info(1)['img_path'] == str(files.root / 'a.png')


def test_none_takes_back_an_inherited_folder(files):
    dataset = files.dataset(data_prefix={'img': 'images', 'seg': None})
    assert dataset.get_data_info(1)['seg_map_path'] == str(files.png(10))


def test_images_in_subfolders(files):
    for image in files.panoptic['images']:
        folder = files.root / 'images' / f'folder {image["id"]}'
        folder.mkdir()
        os.rename(files.root / 'images' / image['file_name'], folder / image['file_name'])
        image['file_name'] = f'folder {image["id"]}/{image["file_name"]}'
    files.save()
    assert len(files.dataset()) == 3
    (files.root / 'images' / 'folder 10' / 'a.png').unlink()
    with pytest.raises(DatasetError, match=r'folder 10/a\.png does not exist'):
        files.dataset()


@register_backend('pretend', prefixes='pretend')
class PretendBackend(BaseStorageBackend):
    """Files that only this backend finds: their real names end otherwise."""

    reads: list[str] = []

    def get(self, filepath):
        self.reads.append(str(filepath))
        return LocalBackend().get(str(filepath).removeprefix('pretend://') + '.remote')

    def join_path(self, filepath, *filepaths):
        return os.path.join(filepath, *filepaths)

    def get_text(self, filepath, encoding='utf-8'):
        return self.get(filepath).decode(encoding)


@pytest.mark.parametrize('by', ['backend_args', 'prefix'])
def test_remote_storage(by, files):
    for path in list(files.root.rglob('*')):
        if path.is_file():
            path.rename(f'{path}.remote')
    backend_args = {'backend': 'pretend'} if by == 'backend_args' else None
    root = str(files.root) if by == 'backend_args' else f'pretend://{files.root}'
    PretendBackend.reads.clear()
    pipeline = [
        {'type': 'LoadImageFromFile', 'backend_args': backend_args},
        {'type': 'LoadPanopticAnnotations', 'backend_args': backend_args},
        {'type': 'PackPanopticInputs', 'meta_keys': ('img_id',)},
    ]
    dataset = DATASETS.build(
        files.config(data_root=root, backend_args=backend_args, inst_ann_file='instances.json', pipeline=pipeline)
    )
    assert PretendBackend.reads == [f'{root}/panoptic.json', f'{root}/instances.json']  # nothing is looked for
    assert dataset[1]['data_samples'].img_id == 10
    assert PretendBackend.reads[2:] == [f'{root}/images/a.png', f'{root}/panoptic/10.png']
    os.remove(f'{files.image(10)}.remote')
    with pytest.raises(DatasetError, match=r'images/a\.png does not exist'):
        dataset[1]


def test_local_backend_is_checked(files):
    files.png(10).unlink()
    with pytest.raises(DatasetError, match=r'panoptic/10\.png does not exist'):
        files.dataset(backend_args={'backend': 'local'})


def test_registered(files):
    assert isinstance(DATASETS.build(files.config()), CocoPanopticDataset)
    assert DATASETS.get('CocoPanopticDataset') is CocoPanopticDataset


def test_coco_sample(shared_data):
    root = shared_data / 'coco_panoptic_sample'
    dataset = CocoPanopticDataset(ann_file='panoptic.json', data_root=str(root), data_prefix={'img': 'images'})
    data = json.loads((root / 'panoptic.json').read_text())
    assert [dataset.get_data_info(i)['img_id'] for i in range(100)] == [a['image_id'] for a in data['annotations']]
    instances = [instance for info in infos_of(dataset).values() for instance in info['instances']]
    assert sum(instance['ignore_flag'] for instance in instances) == 6
    assert {instance['bbox_label'] for instance in instances} <= set(range(80))
    info = dataset.get_data_info(0)
    assert cv2.imread(info['img_path']).shape[:2] == (info['height'], info['width'])
    assert np.all([np.diff([i['bbox'][:2], i['bbox'][2:]], axis=0) > 0 for i in instances])
