"""Turned boxes, names of images in Label Studio, and results that are no shapes."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.labelled import BY_HAND, dump, read_imported, save_image
from helpers.repo import load_tool

from mmpanoptic.utils import UserError

IMPORT, EXPORT = load_tool('dataset_converters/import'), load_tool('dataset_converters/export')
SIDE = 40


def run(name: str, source: Path, out: Path, *more: str) -> dict:
    IMPORT.main([name, str(source), str(out), '--workers', '1', *more])
    return json.loads((out / 'import_report.json').read_text())


def square(root: Path, name: str) -> Path:
    return save_image(root / name, (SIDE, SIDE))


def task(image: str, *results: dict) -> dict:
    polygon = {'points': [[0, 0], [10, 0], [10, 10], [0, 10]], 'closed': True, 'polygonlabels': ['car']}
    whole = {'id': 'r', 'original_width': SIDE, 'original_height': SIDE, 'image_rotation': 0}
    first = whole | {'type': 'polygonlabels', 'value': polygon}
    made = [first, *(whole | one if 'value' in one else one for one in results)]
    return {'id': 1, 'data': {'image': image}, 'annotations': [{'id': 1, 'result': made}]}


def region(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y0:y1, x0:x1] = True
    return mask


#: A box 20 wide and 4 high at (10, 18), turned about its centre (20, 20), and about its corner.
STANDING, HANGING = region(18, 10, 22, 30), region(6, 18, 10, 38)


@pytest.mark.parametrize(
    'shape',
    [
        '<box label="car" xtl="10" ytl="18" xbr="30" ybr="22" rotation="90.00" z_order="0"/>',
        '<ellipse label="car" cx="20" cy="20" rx="10" ry="2" rotation="90.00" z_order="0"/>',
    ],
)
def test_a_turned_box_of_cvat_is_void_where_it_stands(shape, tmp_path):
    square(tmp_path, 'a.png')
    everything = f'0,0;{SIDE},0;{SIDE},{SIDE};0,{SIDE}'
    text = f'<polygon label="ground" points="{everything}" z_order="-1"/>{shape}<tag label="car"/>'
    text = f'<annotations><image id="0" name="a.png" width="{SIDE}" height="{SIDE}">{text}</image></annotations>'
    (tmp_path / 'annotations.xml').write_text(text)
    report = run('cvat', tmp_path / 'annotations.xml', tmp_path / 'out', '--stuff', 'ground')
    (image,) = read_imported(tmp_path / 'out').values()
    assert np.array_equal(image.ids == 0, STANDING)
    assert any(one['what'] == "tag 2 of image 'a.png'" for one in report['left_out'])


@pytest.mark.parametrize(
    'value, expected',
    [
        ({'x': 25, 'y': 45, 'width': 50, 'height': 10, 'rotation': 90, 'rectanglelabels': ['car']}, HANGING),
        ({'x': 50, 'y': 50, 'radiusX': 25, 'radiusY': 5, 'rotation': 90, 'ellipselabels': ['car']}, STANDING),
    ],
)
def test_a_turned_box_of_label_studio_is_void_where_it_stands(value, expected, tmp_path):
    square(tmp_path, 'a.png')
    kind = next(key for key in value if key.endswith('labels'))
    source = dump(tmp_path / 'tasks.json', [task('a.png', {'id': 's', 'type': kind, 'value': value})])
    run('label-studio', source, tmp_path / 'out', '--stuff', '', '--background', 'ground')
    (image,) = read_imported(tmp_path / 'out').values()
    assert np.array_equal(image.ids == 0, expected)


@pytest.mark.parametrize('name, found', [('patient1-001.png', False), ('0a1b2c3d-001.png', True)])
def test_label_studio_s_prefix_is_of_hexadecimal_digits(name, found, tmp_path):
    square(tmp_path, '001.png')
    source = dump(tmp_path / 'tasks.json', [task(f'/data/upload/1/{name}')])
    if found:
        assert run('label-studio', source, tmp_path / 'out')['left_out'] == []
    else:
        with pytest.raises(UserError, match='no such image'):
            run('label-studio', source, tmp_path / 'out')


def test_a_relation_is_left_out_alone(tmp_path):
    square(tmp_path, 'a.png')
    relation = {'from_id': 'r', 'to_id': 's', 'type': 'relation', 'direction': 'right'}
    report = run('label-studio', dump(tmp_path / 'tasks.json', [task('a.png', relation)]), tmp_path / 'out')
    assert report['splits']['train']['instances'] == 1
    (left,) = report['left_out']
    assert left['what'].startswith("region 'r' in") and left['reason'].startswith("a 'relation' has no area")


@pytest.mark.parametrize('name', ['a+b.png', 'a#1.png', 'a?b.png', 'a&d=c.png', 'a%20b.png', 'f/ä b.png', 'a\\b.png'])
@pytest.mark.parametrize('target', ['label-studio', 'coco-instances'])
def test_names_come_back_from_an_export(name, target, tmp_path):
    (tmp_path / 'in').mkdir()
    BY_HAND['coco-instances'][0](tmp_path / 'in')
    run('coco-instances', tmp_path / 'in', tmp_path / 'gt', '--stuff', 'sky')
    path = tmp_path / 'gt' / 'annotations' / 'panoptic_train.json'
    content = json.loads(path.read_text())
    content['images'][0]['file_name'] = name
    path.write_text(json.dumps(content))
    name = name.replace('\\', '/')
    save_image(tmp_path / 'images' / name)
    more = ['--final'] if target == 'label-studio' else []
    folders = (path, path.with_suffix(''), tmp_path / 'images', tmp_path / 'made')
    EXPORT.main([target, *map(str, folders), '--workers', '1', *more])
    file = {'label-studio': 'tasks.json', 'coco-instances': 'instances.json'}[target]
    run(target, tmp_path / 'made' / file, tmp_path / 'out')
    assert read_imported(tmp_path / 'out').keys() == {name}
