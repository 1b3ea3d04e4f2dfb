"""Reading all files of a dataset: every fault, and numbers that are those of the pixels."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.panoptic_files import PanopticFiles
from pycocotools import mask as coco_masks

from mmpanoptic.datasets import inspection
from mmpanoptic.datasets.inspection import Source, inspect
from mmpanoptic.datasets.statistics import statistics_of, warnings_of


@pytest.fixture
def files(tmp_path) -> PanopticFiles:
    return PanopticFiles(tmp_path)


def source(files: PanopticFiles, **options) -> Source:
    def place(image: dict, annotation: dict | None) -> str:
        return str(files.root / 'images' / image['file_name'])

    given = dict(ann_file=str(files.root / 'panoptic.json'), images=place, seg_dir=str(files.root / 'panoptic'))
    return Source(**given | options)


def test_numbers_are_those_of_the_pixels(files):
    found = inspect(source(files, inst_ann_file=str(files.root / 'instances.json')))
    assert found.faults == {}
    numbers = statistics_of(found)
    crowd = (files.ids[10] == 65536).sum()
    total = sum(ids.size for ids in files.ids.values())
    assert {key: numbers[key] for key in ('images', 'things', 'stuff', 'crowds')} == dict(
        images=3, things=3, stuff=5, crowds=1
    )
    assert numbers['void'] == sum((ids == 0).sum() for ids in files.ids.values()) / total
    assert numbers['crowd_area'] == crowd / total
    assert numbers['without_things'] == 1 and numbers['without_segments'] == 0
    assert numbers['thing_sizes'] == dict(small=3, medium=0, large=0)
    things = [(files.ids[10] == 300).sum(), (files.ids[10] == 301).sum(), (files.ids[30] == 2**24 - 1).sum()]
    assert numbers['thing_pixels'] == np.quantile(things, [0.05, 0.25, 0.5, 0.75, 0.95]).round().tolist()
    assert numbers['image_sizes'] == [[24, 30], [28, 36], [32, 40]]
    # Two rectangles of the instances JSON share [8, 14] x [10, 20]; the crowd does not count.
    masks = [coco_masks.frPyObjects(a['segmentation'], 32, 40)[0] for a in files.instances['annotations'][:2]]
    depth = coco_masks.decode(masks).sum(axis=2)
    alone = coco_masks.decode(coco_masks.frPyObjects(files.instances['annotations'][3]['segmentation'], 28, 30))
    shares = (depth > 1).sum() / ((depth > 0).sum() + alone.sum())
    assert numbers['overlaps'] == dict(pixels=shares, pairs=1, images=1) and (depth > 1).sum() == 60
    rows = {row['name']: row for row in numbers['classes']}
    assert list(rows) == ['cat', 'dog', 'sky', 'road']
    assert (rows['dog']['segments'], rows['dog']['crowds'], rows['dog']['images']) == (1, 1, 1)
    assert rows['cat']['area'] == (things[0] + things[1]) / total and rows['dog']['median'] == things[2]
    json.dumps(numbers)  # plain values


def test_every_png_is_decoded_once(files, monkeypatch):
    seen, decode = [], inspection.decode_panoptic_png
    monkeypatch.setattr(inspection, 'decode_panoptic_png', lambda *args: seen.append(args[1]) or decode(*args))
    inspect(source(files))
    assert sorted(Path(path).name for path in seen) == ['10.png', '20.png', '30.png']


def test_all_faults_are_listed(files):
    files.annotation(10)['segments_info'][2] |= dict(area=5, bbox=[0, 0, 1, 1])
    files.annotation(10)['segments_info'][3]['area'] = 7
    files.annotation(30)['segments_info'][0]['category_id'] = 99
    files.save()
    files.ids[20][0, 0] = 77
    files.write_png(20)
    files.image(20).unlink()
    cv2.imwrite(str(files.image(10)), np.zeros((8, 8, 3), np.uint8))
    found = inspect(source(files))
    assert {kind: len(lines) for kind, lines in found.faults.items()} == {
        'segments': 1, 'panoptic PNGs': 4, 'images': 2
    }  # fmt: skip
    pngs = '\n'.join(found.faults['panoptic PNGs'])
    for text in ('300 has area 5', '300 has bbox', '301 has area 7', 'holds segment id 77'):
        assert text in pngs
    assert len(found.infos) == 2 and statistics_of(found)['images'] == 2


@pytest.mark.parametrize('break_it', ['categories', 'images', 'annotations'])
def test_files_that_cannot_be_read(files, break_it):
    files.panoptic[break_it] = [{'id': 1}]
    files.save()
    found = inspect(source(files))
    assert list(found.faults) == ['annotations'] and len(found.faults['annotations']) == 1
    numbers = statistics_of(found)
    assert numbers['images'] == numbers['things'] == 0 and numbers['image_sizes'] is numbers['void'] is None
    assert warnings_of({'train': found, 'val': found}, {'train': numbers, 'val': numbers}) == []


def test_instances_alone(files):
    instances = files.instances
    instances['annotations'][3]['segmentation'] = {'size': [28, 30], 'counts': [5, 3]}
    files.save()
    found = inspect(source(files, ann_file=str(files.root / 'instances.json'), seg_dir=None))
    assert list(found.faults) == ['instances'] and not found.infos[0].get('instances')
    instances['annotations'][3]['segmentation'] = {'size': [28, 30], 'counts': '5'}  # seen when it is added up
    files.save()
    found = inspect(source(files, ann_file=str(files.root / 'instances.json'), seg_dir=None))
    assert {kind: len(lines) for kind, lines in found.faults.items()} == {'masks': 1}
    numbers = statistics_of(found)
    assert (numbers['things'], numbers['crowds'], numbers['void']) == (3, 1, None)
    assert numbers['classes'][0]['median'] == np.median([100, 144])


def test_boxes_beside_masks(files):
    """Detection trains on boxes, so one without a mask is no fault."""
    del files.instances['annotations'][0]['segmentation']
    files.save()
    path = str(files.root / 'instances.json')
    found = inspect(source(files, ann_file=path, seg_dir=None, need_masks=False))
    assert found.faults == {} and statistics_of(found)['things'] > 1
    assert list(inspect(source(files, ann_file=path, seg_dir=None)).faults) == ['instances']


def test_warnings(files, tmp_path):
    other = tmp_path / 'other'
    other.mkdir()
    val = PanopticFiles(other)
    for image_id, name in ((10, 'copy.jpg'), (20, 'b.jpg')):
        image = cv2.imread(str(val.image(image_id)))
        val.image(image_id).unlink()
        val.panoptic['images'][(10, 20).index(image_id)]['file_name'] = name
        changed = image if image_id == 10 else 255 - image
        cv2.imwrite(str(other / 'images' / name), changed, (cv2.IMWRITE_JPEG_QUALITY, 80))
    val.save()
    files.panoptic['annotations'][1]['segments_info'].pop()  # the only dog that is left is in image 30, a crowd
    files.ids[10][files.ids[10] == 65536] = 0
    files.write_png(10)
    files.annotation(30)['segments_info'][1]['iscrowd'] = 1
    files.save()
    third = source(val)
    third = third._replace(
        images=lambda image, _: str((files if image['id'] == 30 else val).root / 'images' / image['file_name'])
    )
    found = {'train': inspect(source(files)), 'val': inspect(third)}
    assert found['train'].faults == found['val'].faults == {}
    numbers = {split: statistics_of(one) for split, one in found.items()}
    warnings = {warning['text']: warning['items'] for warning in warnings_of(found, numbers)}
    assert warnings == {
        'train: 1 classes without a segment': ['dog'],
        'train: 2 images without things, which filter_empty_gt=True leaves out of a training': ['c.webp', 'b.jpg'],
        'val: 1 images without things, which filter_empty_gt=True leaves out of a training': ['b.jpg'],
        '1 classes of val are without a segment in train': ['dog'],
        '1 images are in train and in val': ['c.webp'],
        '2 pairs of images of train and val look the same': ['c.webp and c.webp', 'a.png and copy.jpg'],
        '1 names of images occur in train and in val, of files that look different': ['b.jpg'],
    }
