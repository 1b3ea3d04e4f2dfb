"""What can be wrong with the JSON files: each error names the file, the entry and the remedy."""

import json
import re

import pytest
from helpers.panoptic_files import PanopticFiles

from mmpanoptic.formats.panoptic_json import (
    annotations_by_image,
    check_metainfo,
    dataset_meta,
    parse_categories,
    parse_segments,
    read_json,
)
from mmpanoptic.utils import DatasetError


@pytest.fixture
def files(tmp_path):
    return PanopticFiles(tmp_path)


def edit(*path, value):
    """An edit that sets what lies at ``path`` in a file."""

    def apply(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return apply


def drop(*path):
    """An edit that removes what lies at ``path`` in a file."""

    def apply(data):
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return apply


def repeat(*path):
    """An edit that repeats the first entry of a list."""

    def apply(data):
        for key in path:
            data = data[key]
        data.append(data[0])

    return apply


PANOPTIC_FAULTS = [
    # categories
    (drop('categories'), 'lists no categories', 'add `categories`'),
    (edit('categories', value=[]), 'lists no categories', 'add `categories`'),
    (edit('categories', value={'3': 'cat'}), '`categories` is no list', 'add `categories`'),
    (edit('categories', value=['cat']), '`categories` is no list', 'add `categories`'),
    (drop('categories', 1, 'isthing'), "category 'cat' lacks `isthing`", 'add it to every category'),
    (drop('categories', 1, 'name'), 'category 3 lacks `name`', 'add it'),
    (drop('categories', 1, 'id'), "category 'cat' lacks `id`", 'add it'),
    (edit('categories', 1, 'isthing', value='yes'), "category 'cat' has isthing 'yes'", 'use 0 or 1'),
    (edit('categories', 1, 'id', value=[3]), r"category 'cat' has id \[3\]", 'write int or str'),
    (edit('categories', 1, 'color', value=[1, 2]), r"category 'cat' has color \[1, 2\]", 'write .red, green, blue'),
    (edit('categories', 1, 'color', value=None), "category 'cat' has color None", 'write .red, green, blue'),
    (edit('categories', 1, 'color', value=[1, 2, 300]), "category 'cat' has color", 'each 0 to 255'),
    (edit('categories', 1, 'id', value=7), 'category id 7 occurs twice', 'must be unique'),
    (edit('categories', 1, 'name', value='sky'), "category name 'sky' occurs twice", 'must be unique'),
    (
        edit('categories', value=[{'id': i, 'name': str(i), 'isthing': 1} for i in range(255)]),
        '255 categories',
        'at most 254',
    ),
    # images
    (drop('images'), 'lists no images', 'give `ann_file` the panoptic JSON'),
    (edit('images', value=[]), 'lists no images', 'give `ann_file` the panoptic JSON'),
    (drop('images', 1, 'height'), 'image 20 lacks `height`', 'add it'),
    (drop('images', 1, 'file_name'), 'image 20 lacks `file_name`', 'add it'),
    (edit('images', 1, 'file_name', value='b\n.jpg'), r"image 20 has file_name 'b\\n\.jpg', with line", 'file without'),
    (edit('images', 1, 'width', value='36'), "image 20 has width '36'", 'write int'),
    (repeat('images'), 'image id 10 occurs twice', 'must be unique'),
    # annotations
    (drop('annotations', 1, 'segments_info'), 'image 10 lacks `segments_info`', '`inst_ann_file` the instances JSON'),
    (drop('annotations', 1, 'file_name'), 'image 10 lacks `file_name`', 'add it'),
    (drop('annotations', 1, 'image_id'), 'image None lacks `image_id`', 'add it'),
    (edit('annotations', value={}), 'has no annotations', 'set test_mode=True'),
    (edit('annotations', value=['x']), '`annotations` is no list', 'give `ann_file` the panoptic JSON'),
    (repeat('annotations'), 'annotation of image 30 occurs twice', 'must be unique'),
    (edit('annotations', 1, 'image_id', value=99), r'10\.png annotates image 99', 'add the image or drop'),
    (drop('annotations', 1), r'1 images have no annotation, the first is a\.png \(id 10\)', 'or annotate them'),
    # segments
    (edit('annotations', 0, 'segments_info', 1, value=3), r'30\.png: segments_info holds 3', 'write objects with id'),
    (edit('annotations', 0, 'segments_info', value=None), 'image 30 has segments_info None', 'write list'),
    (drop('annotations', 0, 'segments_info', 1, 'id'), r'30\.png: segment None lacks `id`', 'add it'),
    (drop('annotations', 0, 'segments_info', 0, 'area'), r'30\.png: segment 1 lacks `area`', 'add it'),
    (drop('annotations', 0, 'segments_info', 0, 'bbox'), r'30\.png: segment 1 lacks `bbox`', 'add it'),
    (drop('annotations', 0, 'segments_info', 0, 'category_id'), r'30\.png: segment 1 lacks `category_id`', 'add it'),
    (edit('annotations', 0, 'segments_info', 0, 'id', value=0), r'30\.png: segment id 0 is outside', 'R \\+ 256 G'),
    (edit('annotations', 0, 'segments_info', 0, 'id', value=2**24), r'30\.png: segment id 16777216', 'R \\+ 256 G'),
    (edit('annotations', 0, 'segments_info', 0, 'id', value='1'), r"30\.png: segment '1' has id '1'", 'write int'),
    (edit('annotations', 0, 'segments_info', 0, 'bbox', value=[1, 2]), r'30\.png: segment 1 has bbox', 'write .x, y'),
    (edit('annotations', 0, 'segments_info', 0, 'iscrowd', value=None), 'segment 1 has iscrowd None', 'write 0 or 1'),
    *(
        (
            edit('annotations', 0, 'segments_info', 0, 'area', value=value),
            rf'30\.png: segment 1 has area {value}',
            remedy,
        )
        for value, remedy in [
            (float('nan'), 'write int or float'),
            (float('inf'), 'write int or float'),
            (True, 'write int or float'),
            (0, 'write its number of pixels'),
            (-4, 'write its number of pixels'),
        ]
    ),
    *(
        (edit('annotations', 0, 'segments_info', 0, 'bbox', value=value), '30.*segment 1 has .*bbox .*', 'write .*x, y')
        for value in ([0, 0, float('nan'), 5], [0, 0, float('inf'), 5], [0, 0, True, 5], [0, 0, 0, 0], [1, 1, 5, -2])
    ),
    (edit('annotations', 0, 'segments_info', 0, 'id', value=3.7), r'30\.png: segment 3\.7 has id 3\.7', 'write int'),
    (edit('annotations', 0, 'segments_info', 0, 'id', value=True), r'30\.png: segment True has id True', 'write int'),
    (edit('images', 1, 'width', value=True), 'image 20 has width True', 'write int'),
    (
        edit('annotations', 0, 'segments_info', 0, 'category_id', value=8),
        r'30\.png: segment 1 has category_id 8, which `categories` lacks',
        'add it, or mend the id',
    ),
    (repeat('annotations', 0, 'segments_info'), r'30\.png: segment id 1 occurs twice', 'must be unique'),
]


@pytest.mark.parametrize(('fault', 'what', 'remedy'), PANOPTIC_FAULTS, ids=[fault[1] for fault in PANOPTIC_FAULTS])
def test_panoptic_json_faults(fault, what, remedy, files):
    fault(files.panoptic)
    files.save()
    with pytest.raises(DatasetError, match=f'(?s){re.escape(str(files.root))}/panoptic.json.*{what}.*{remedy}') as info:
        files.dataset()
    assert '\n' not in str(info.value)


INSTANCE_FAULTS = [
    (drop('categories'), 'lists no categories', 'an instances JSON'),
    (edit('categories', 0, 'id', value=4), r"category 4 \('cat'\) is no thing of that id", 'must number their things'),
    (edit('categories', 0, 'name', value='dog'), r"category 3 \('dog'\) is no thing", 'must number their things'),
    (edit('categories', 0, value={'id': 7, 'name': 'sky'}), r"category 7 \('sky'\) is no", 'must number their things'),
    (edit('categories', 0, 'id', value=99), r"category 99 \('cat'\) is no thing", 'must number their things'),
    (drop('images'), 'lists no images', 'instances JSON'),
    (edit('images', value=[{'id': 10, 'height': 32, 'width': 40}]), r'lacks image 30 \(c\.webp\)', 'the same split'),
    (
        edit('images', 0, value={'id': 10, 'height': 40, 'width': 32}),
        r'image 10 is 40x32 .*panoptic\.json 32x40',
        'of the same images',
    ),
    (edit('images', 0, value={'id': 10, 'height': 'a\n', 'width': 32}), r"image 10 is 'a\\n'x32", 'same images'),
    (drop('annotations'), 'lists no annotations', 'instances JSON'),
    (edit('annotations', 1, 'id', value=1), 'annotation id 1 occurs twice', 'must be unique'),
    (drop('annotations', 1, 'bbox'), 'annotation 2 of image 10 lacks `bbox`', 'add it'),
    (drop('annotations', 1, 'segmentation'), 'annotation 2 of image 10 lacks `segmentation`', 'add it'),
    (edit('annotations', 1, 'bbox', value=[1, 2, 3]), 'annotation 2 of image 10 has bbox', r'write \[x, y'),
    (edit('annotations', 1, 'category_id', value=99), 'annotation 2 of image 10 has category_id 99', 'number'),
    (edit('annotations', 1, 'category_id', value=7), 'annotation 2 of image 10 has category_id 7', 'number'),
    (
        edit('annotations', 2, 'segmentation', value={'size': [40, 32], 'counts': [1280]}),
        r'annotation 3 of image 10 has a mask \(RLE\) of size \[40, 32\].* 32x40',
        'size of the image',
    ),
]


@pytest.mark.parametrize(('fault', 'what', 'remedy'), INSTANCE_FAULTS, ids=[fault[1] for fault in INSTANCE_FAULTS])
def test_instances_json_faults(fault, what, remedy, files):
    files.instances = json.loads(json.dumps(files.instances))  # it shares its images with the panoptic one
    fault(files.instances)
    files.save()
    with pytest.raises(DatasetError, match=f'{re.escape(str(files.root))}/instances.json.*{what}.*{remedy}'):
        files.dataset(inst_ann_file='instances.json')


def test_files_of_the_other_kind(files):
    remedies = r'starter/panet_r18_fpn\.py.*`inst_ann_file`.*mmpanoptic import coco-instances'
    with pytest.raises(DatasetError, match=rf'instances\.json is no panoptic JSON.*`isthing`.*{remedies}'):
        files.dataset(ann_file='instances.json')
    with pytest.raises(DatasetError, match=r'panoptic\.json is a panoptic JSON: give it to `ann_file`'):
        files.dataset(inst_ann_file='panoptic.json')


@pytest.mark.parametrize('key', ['ann_file', 'inst_ann_file'])
@pytest.mark.parametrize(
    ('content', 'what'),
    [
        (b'{"images": [', r'is not valid JSON \(Expecting value.*fetch or write it again'),
        (b'', r'is not valid JSON'),
        (b'\xff\xfe\x00', r'is not valid JSON .*decode'),
        (b'[1, 2]', r'holds a list: a COCO annotation file is an object'),
    ],
    ids=['truncated', 'empty', 'binary', 'list'],
)
def test_file_is_no_json_object(key, content, what, files):
    (files.root / 'bad.json').write_bytes(content)
    with pytest.raises(DatasetError, match=rf'bad\.json {what}'):
        files.dataset(**{key: 'bad.json'})


@pytest.mark.parametrize('key', ['ann_file', 'inst_ann_file'])
def test_file_cannot_be_read(key, files):
    with pytest.raises(DatasetError, match=r'none\.json does not exist: set `ann_file`'):
        files.dataset(**{key: 'none.json'})
    with pytest.raises(DatasetError, match=r'images cannot be read .*directory.*: set `ann_file`'):
        files.dataset(**{key: 'images'})


def test_labels_are_things_first_in_the_order_of_the_file(files):
    categories = parse_categories(files.panoptic['categories'], 'x.json')
    assert [(c['id'], c['isthing'], c['label']) for c in categories] == [
        (7, False, 2),
        (3, True, 0),
        (200, False, 3),
        (4, True, 1),
    ]
    meta = dataset_meta(categories)
    assert meta['classes'] == ('cat', 'dog', 'sky', 'road')
    assert (meta['thing_classes'], meta['stuff_classes']) == (('cat', 'dog'), ('sky', 'road'))
    assert meta['palette'][3] == (1, 2, 3)
    assert len(set(meta['palette'])) == 4
    assert [c['name'] for c in meta['categories']] == ['sky', 'cat', 'road', 'dog']


def test_segments_have_labels(files):
    category_of = {c['id']: c for c in parse_categories(files.panoptic['categories'], 'x.json')}
    segments = parse_segments(files.annotation(10), category_of, 'x.json')
    assert [(s['id'], s['label'], s['is_thing'], s['iscrowd']) for s in segments] == [
        (5, 2, False, 0),
        (70000, 3, False, 0),
        (300, 0, True, 0),
        (301, 0, True, 0),
        (65536, 1, True, 1),
    ]
    assert segments[0]['bbox'] == [0, 0, 40, 16]
    assert segments[0]['area'] == int((files.ids[10] == 5).sum())


def test_images_are_in_the_order_of_the_annotations(files):
    pairs = annotations_by_image(files.panoptic, 'x.json')
    assert [(image['id'], annotation['image_id']) for image, annotation in pairs] == [(30, 30), (10, 10), (20, 20)]
    del files.panoptic['annotations']
    assert [(image['id'], a) for image, a in annotations_by_image(files.panoptic, 'x.json')] == [
        (10, None),
        (20, None),
        (30, None),
    ]


def test_metainfo_of_the_config(files):
    meta = dataset_meta(parse_categories(files.panoptic['categories'], 'x.json'))
    palette = [(0, 0, 0)] * 4
    check_metainfo(
        {'classes': ['cat', 'dog', 'sky', 'road'], 'thing_classes': ('cat', 'dog'), 'palette': palette}, meta, 'x'
    )
    for given, what in [
        ({'classes': ('cat', 'dog', 'sky')}, r"x\.json: its 4 classes are not the 3 .*only in the file: \['road'\]"),
        ({'classes': ('cat', 'dog', 'sky', 'wall')}, r"only in the config: \['wall'\]; only in the file: \['road'\]"),
        ({'classes': ('sky', 'cat', 'road', 'dog')}, r"differ from position 0 on \('sky' against 'cat'\)"),
        ({'classes': ('cat', 'sky', 'dog', 'road')}, r"differ from position 1 on \('sky' against 'dog'\)"),
        ({'classes': ('cat', 'dog', 'sky', 'road', 'cat')}, "repeats 'cat'"),
        ({'classes': 'cat'}, r'are not the 1 of `metainfo.classes`'),
        ({'thing_classes': ('cat',)}, r"its 2 thing_classes .*only in the file: \['dog'\]"),
        ({'stuff_classes': ('road', 'sky')}, r"differ from position 0 on \('road' against 'sky'\)"),
    ]:
        with pytest.raises(DatasetError, match=f'{what}.*Drop the list from the config'):
            check_metainfo(given, meta, 'x.json')
    for wrong in ([(0, 0, 0)] * 3, [(0, 0)] * 4, [(0, 0, 256)] * 4):
        with pytest.raises(DatasetError, match=r'x\.json: `metainfo\.palette` must be 4 times .*mend it or drop'):
            check_metainfo({'palette': wrong}, meta, 'x.json')


def test_coco_has_its_colours(shared_data):
    categories = parse_categories(
        read_json(str(shared_data / 'coco_panoptic_sample' / 'panoptic.json'))['categories'], 'x'
    )
    for category in categories:
        category.pop('color', None)
    meta = dataset_meta(categories)
    assert meta['palette'][:2] == [(220, 20, 60), (119, 11, 32)]
    assert (len(meta['thing_classes']), len(meta['stuff_classes'])) == (80, 53)


@pytest.mark.parametrize(
    ('text', 'words'),
    [('[' * 100_000, 'nested too deeply'), ('{"a": ' + '9' * 5000 + '}', 'not valid JSON')],
    ids=['depth', 'digits'],
)
def test_json_that_python_cannot_hold_is_one_line(text, words, tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(text)
    with pytest.raises(DatasetError, match=rf'a\.json .*{words}.*: fetch or write it again') as info:
        read_json(str(path))
    assert '\n' not in str(info.value)
