"""What single formats have besides outlines and masks."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from helpers.labelled import BY_HAND, SCENE, SIZE, SMALL_ON_TOP, dump, read_imported, same, save_image
from helpers.labelled_maps import write_label_maps, write_supervisely
from helpers.repo import load_tool
from pycocotools import mask as rle

from mmpanoptic.utils import UserError

TOOL = load_tool('dataset_converters/import')
HEIGHT, WIDTH = SIZE


def run(name: str, source: Path, out: Path, *more: str) -> dict:
    TOOL.main([name, str(source), str(out), '--workers', '1', *more])
    return json.loads((out / 'import_report.json').read_text())


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def scene(tmp_path):
    def make(name: str) -> Path:
        (tmp_path / 'in').mkdir()
        return BY_HAND[name][0](tmp_path / 'in')

    return make


def test_labelme_of_another_machine(scene, tmp_path):
    """A path of Windows; circles; what is to be ignored; what has no area."""
    source = scene('labelme')

    def change(content: dict) -> None:
        content['imagePath'] = '..\\pictures\\a.png'
        content['shapes'] += [
            {'label': 'car', 'shape_type': 'circle', 'points': [[25, 14], [25, 17]]},
            {'label': '__ignore__', 'shape_type': 'polygon', 'points': [[0, 17], [9, 17], [9, 20], [0, 20]]},
            {'label': 'car', 'shape_type': 'line', 'points': [[0, 17], [9, 17]]},
        ]

    edit(source / 'a.json', change)
    report = run('labelme', source, tmp_path / 'out', '--stuff', 'sky', '--background', 'ground')
    assert [one['reason'] for one in report['left_out']] == [
        "a shape of kind 'line' has no area: draw a polygon or a mask"
    ]
    (image,) = read_imported(tmp_path / 'out').values()
    ys, xs = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    circle = min(image.drawn['car'], key=lambda mask: mask.sum())
    inside = np.hypot(xs - 25, ys - 14)
    assert circle[inside < 2.4].all() and not circle[inside > 3.6].any()
    assert (image.ids[17:, :9] == 0).all()
    assert 'ignore' not in str(report['categories'])


def test_cvat_with_subsets_and_the_rest(scene, tmp_path):
    source = scene('cvat')
    tree = ElementTree.parse(source)
    image = tree.getroot().find('image')
    image.set('subset', 'Validation')
    place = {'cx': '25', 'cy': '14', 'rx': '3', 'ry': '2'}
    image.append(ElementTree.Element('ellipse', {'label': 'car', 'z_order': '9', **place}))
    image.append(ElementTree.Element('tag', {'label': 'car'}))
    image.append(ElementTree.Element('polyline', {'label': 'car', 'points': '1,1;2,2'}))
    tree.write(source)
    report = run('cvat', source, tmp_path / 'out', '--stuff', 'sky', '--background', 'ground')
    assert [one['what'].split()[0] for one in report['left_out']] == ['tag', 'polyline', 'ellipse']
    (image,) = read_imported(tmp_path / 'out', 'val').values()
    void = np.zeros(SIZE, bool)
    void[12:16, 22:28] = True
    assert np.array_equal(image.ids == 0, void)


def test_label_studio_with_labels_apart_and_several_annotations(scene, tmp_path):
    """<Labels> beside <Brush>: two results of one id. The latest annotation counts, one that was cancelled does not."""
    source = scene('label-studio')

    def change(content: list) -> None:
        (task,) = content
        (annotation,) = task['annotations']
        for one in annotation['result'][:]:
            kind = one['type']
            labels = one['value'].pop(kind)
            one['type'] = kind.removesuffix('labels')
            annotation['result'].append({**one, 'type': 'labels', 'value': {'labels': labels}})
        annotation['result'].append({'type': 'choices', 'from_name': 'c', 'value': {'choices': ['night']}})
        older = {'id': 3, 'updated_at': '2023-01-01', 'result': []}
        cancelled = {'id': 9, 'updated_at': '2025-01-01', 'was_cancelled': True, 'result': []}
        task['annotations'] = [cancelled, annotation, older]
        task['data'] = {'text': 'x', 'picture': '/data/local-files/?d=somewhere/images/a.png'}

    edit(source, change)
    report = run('label-studio', source, tmp_path / 'out', '--stuff', 'sky')
    (image,) = read_imported(tmp_path / 'out').values()
    assert same(image.seen, SMALL_ON_TOP)
    reasons = sorted(one['reason'] for one in report['left_out'])
    assert reasons[0].startswith("a 'choices' has no area") and reasons[1] == 'a later one of the task was taken'
    edit(source, lambda content: content[0].update(annotations=[], predictions=content[0]['annotations']))
    with pytest.raises(UserError, match='has no annotation that was submitted'):
        run('label-studio', source, tmp_path / 'out2')


def test_yolo_with_lists_of_images(scene, tmp_path):
    source = scene('yolo-seg')
    root = source.parent
    for name in ('b.png', 'c.png'):
        save_image(root / 'train' / 'images' / name)
    (root / 'val.txt').write_text('./train/images/b.png\n./train/images/c.png\n')
    (root / 'train.txt').write_text('./train/images/a.png\n')
    (root / 'train' / 'labels' / 'b.txt').write_text('')
    content = {
        'path': '/another/machine',
        'train': 'train.txt',
        'val': ['val.txt'],
        'names': {0: 'sky', 1: 'car', 2: 'person'},
    }
    source.write_text(yaml.safe_dump(content))
    report = run('yolo-seg', root, tmp_path / 'out', '--stuff', 'sky')
    assert same(read_imported(tmp_path / 'out')['a.png'].seen, SMALL_ON_TOP)
    assert read_imported(tmp_path / 'out', 'val').keys() == {'b.png', 'c.png'}
    assert report['splits']['val']['void_share'] == 1
    assert [one['what'] for one in report['left_out']] == ['labels of c.png']
    for names, message in (
        (['a', 'a'], 'twice'),
        ({'x': 'a'}, 'no `names`'),
        ([], 'no `names`'),
        (None, 'no `names`'),
    ):
        source.write_text(yaml.safe_dump({**content, 'names': names}))
        with pytest.raises(UserError, match=message):
            run('yolo-seg', root, tmp_path / 'other')
    source.write_text('a: [')
    with pytest.raises(UserError, match='is not valid YAML'):
        run('yolo-seg', root, tmp_path / 'other')


def test_supervisely_with_datasets_for_splits_and_a_hole(tmp_path):
    root = tmp_path / 'in'
    root.mkdir()
    write_supervisely(root)
    (root / 'set').rename(root / 'train')
    (root / 'val' / 'img').mkdir(parents=True)
    (root / 'val' / 'ann').mkdir()
    save_image(root / 'val' / 'img' / 'a.png')
    content = json.loads((root / 'train' / 'ann' / 'a.png.json').read_text())
    points = {
        'exterior': [[2, 2], [20, 2], [20, 18], [2, 18]],
        'interior': [[[5, 5], [9, 5], [9, 9], [5, 9]], [[12, 12], [12, 15], [15, 15], [15, 12]]],
    }
    content['objects'] = [{'classTitle': 'car', 'geometryType': 'polygon', 'points': points}]
    dump(root / 'val' / 'ann' / 'a.png.json', content)
    report = run('supervisely', root, tmp_path / 'out', '--stuff', 'sky')
    assert report['left_out'] == [] and read_imported(tmp_path / 'out').keys() == {'train/a.png'}
    (image,) = read_imported(tmp_path / 'out', 'val').values()
    expected = np.zeros(SIZE, bool)
    expected[2:18, 2:20] = True
    expected[5:9, 5:9] = expected[12:15, 12:15] = False
    assert same(image.seen, {'car': [expected]})


def test_label_maps_alone(tmp_path):
    """Without semantic maps there are a thing and a background, which may have other names."""
    root = tmp_path / 'in'
    root.mkdir()
    write_label_maps(root)
    for path in (root / 'semantic').iterdir():
        path.unlink()
    (root / 'semantic').rmdir()
    (root / 'categories.json').unlink()
    report = run('label-maps', root, tmp_path / 'out')
    assert report['splits']['train']['segments'] == {'object': 2, 'background': 1}
    categories = dump(
        tmp_path / 'c.json', [{'id': 5, 'name': 'cell', 'isthing': 1}, {'id': 2, 'name': 'gap', 'isthing': 0}]
    )
    report = run('label-maps', root, tmp_path / 'out', '--categories', str(categories))
    assert report['splits']['train']['segments'] == {'cell': 2, 'gap': 1}
    (tmp_path / 'c.json').write_text('[{"id": 5, "name": "cell", "isthing": 1}]')
    with pytest.raises(UserError, match='label maps alone tell one of each'):
        run('label-maps', root, tmp_path / 'out', '--categories', str(categories))


def test_coco_of_several_files(tmp_path):
    """Classes by name; the ids of files that number them otherwise are not kept."""
    for split, ids in (('train', {'car': 1, 'person': 2}), ('val', {'person': 1, 'car': 2})):
        save_image(tmp_path / 'in' / f'{split}2017' / f'{split}.png')
        annotations = [
            {
                'id': number,
                'image_id': 1,
                'category_id': ids[area.name],
                'segmentation': {
                    'size': list(SIZE),
                    'counts': rle.encode(np.asfortranarray(area.mask, np.uint8))['counts'].decode(),
                },
            }
            for number, area in enumerate((area for area in SCENE if area.name in ids), 1)
        ]
        content = {
            'images': [{'id': 1, 'file_name': f'{split}.png', 'height': HEIGHT, 'width': WIDTH}],
            'annotations': [*annotations, {**annotations[0], 'id': 99, 'image_id': 5}],
            'categories': [{'id': number, 'name': name} for name, number in ids.items()],
        }
        dump(tmp_path / 'in' / 'annotations' / f'instances_{split}2017.json', content)
    report = run('coco-instances', tmp_path / 'in', tmp_path / 'out')
    assert [one['reason'] for one in report['left_out']] == ['its image 5 is not in `images`'] * 2
    assert [(one['id'], one['name']) for one in report['categories']] == [(1, 'car'), (2, 'person')]
    for split in ('train', 'val'):
        (image,) = read_imported(tmp_path / 'out', split).values()
        assert same(image.seen, {name: SMALL_ON_TOP[name] for name in ('car', 'person')})
        assert same(image.drawn, {area.name: [area.mask] for area in SCENE if area.name != 'sky'})
