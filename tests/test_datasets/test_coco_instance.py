"""Instances without a panoptic map, as other tools write them."""

import json

import pytest
from helpers.panoptic_files import PanopticFiles

from mmpanoptic.datasets import CocoInstanceDataset
from mmpanoptic.formats import instances_json
from mmpanoptic.formats.coco_api import load_coco
from mmpanoptic.formats.instances_json import with_used_categories
from mmpanoptic.utils import DatasetError

PARENT = dict(id=0, name='animals', supercategory='none')


@pytest.fixture
def files(tmp_path):
    return PanopticFiles(tmp_path)


def dataset(files, **options):
    files.save()
    options = dict(data_root=str(files.root), data_prefix=dict(img='images'), lazy_init=False) | options
    return CocoInstanceDataset(ann_file='instances.json', serialize_data=False, **options)


def as_roboflow(content):
    """The same file with the category that Roboflow writes in front."""
    categories = [dict(one, supercategory='animals') for one in content['categories']]
    return {**content, 'categories': [PARENT, *categories]}


def test_an_unused_parent_is_no_class(files, monkeypatch):
    logged = []
    monkeypatch.setattr(instances_json, 'print_log', lambda text, logger: logged.append(text))
    classes = dataset(files).metainfo['classes']
    files.instances = as_roboflow(files.instances)
    assert dataset(files).metainfo['classes'] == classes
    assert "category 'animals' is the parent of all others and unused: no class" in logged[0]
    api = load_coco(str(files.root / 'instances.json'))
    assert [one['name'] for one in api.dataset['categories']] == list(classes)


@pytest.mark.parametrize(
    'change',
    [
        lambda content: content['annotations'][0].update(category_id=0),  # it is used
        lambda content: content['categories'][0].update(id=77),
        lambda content: content['categories'][0].update(supercategory='animals'),
        lambda content: content['categories'][1].update(supercategory='other'),
        lambda content: content.update(categories=content['categories'][:1]),  # nothing else is there
    ],
)
def test_other_categories_are_classes(files, change):
    content = json.loads(json.dumps(as_roboflow(files.instances)))
    change(content)
    assert with_used_categories(content, 'x.json') is content


def test_more_classes_than_a_semantic_map_has_labels(files):
    more = [dict(id=1000 + number, name=f'class {number}') for number in range(300)]
    files.instances['categories'] += more
    assert len(dataset(files).metainfo['thing_classes']) == len(files.instances['categories']) > 300


def test_boxes_need_no_masks(files):
    for one in files.instances['annotations']:
        del one['segmentation']
    assert dataset(files, need_masks=False).get_data_info(0)['instances']
    with pytest.raises(DatasetError, match='lacks `segmentation`'):
        dataset(files)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda content: content['categories'].pop(), r'category_id 4, which is none of its `categories`: list it'),
        (lambda content: content['categories'][0].update(isthing=0), r"category 'cat' has isthing 0, .*: leave it out"),
        (lambda content: content.update(annotations=[]), r'lists no annotations: give `ann_file` a COCO instances'),
        (
            lambda content: content['annotations'][0].update(segments_info=[]),
            r'is a panoptic JSON: train it by a panoptic config',
        ),
    ],
)
def test_errors_do_not_speak_of_a_panoptic_file(files, change, message):
    files.instances = json.loads(json.dumps(files.instances))
    change(files.instances)
    with pytest.raises(DatasetError, match=message) as error:
        dataset(files)
    assert 'inst_ann_file' not in str(error.value)
