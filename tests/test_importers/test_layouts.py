"""Maps, and the layouts of published data sets."""

import json

import numpy as np
import pytest
from fixtures.cityscapes import TREE
from fixtures.mapillary import LABELS, instance_map
from helpers.labelled import SCENE, SIZE, SMALL_ON_TOP, read_imported, same
from helpers.labelled_maps import AS_MAPS, SEEN, names_of, save_map, write_voc
from helpers.repo import load_tool

from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.importers.voc import voc_colour

TOOL = load_tool('dataset_converters/import')


def run(name: str, source: object, out: object, *more: str) -> dict:
    TOOL.main([name, str(source), str(out), '--workers', '1', *more])
    return json.loads((out / 'import_report.json').read_text())


@pytest.mark.parametrize('name', AS_MAPS)
def test_the_map_is_the_truth(name, tmp_path):
    write, expected, as_drawn = AS_MAPS[name]
    (tmp_path / 'in').mkdir()
    more = ['--stuff', 'sky'] if name in ('supervisely', 'voc') else []
    report = run(name, write(tmp_path / 'in'), tmp_path / 'out', *more)
    (image,) = read_imported(tmp_path / 'out').values()
    assert same(image.seen, expected) and report['left_out'] == []
    things = ('car', 'person')
    drawn = {area.name: [area.mask] for area in SCENE} if as_drawn else {name: [SEEN[name]] for name in things}
    assert same(image.drawn, {name: drawn[name] for name in things})
    assert names_of(tmp_path / 'out')['sky'] == 0
    run(name, tmp_path / 'in', tmp_path / 'out2', *more, '--background', 'ground')
    (image,) = read_imported(tmp_path / 'out2').values()
    unlabelled = ~np.any([area.mask for area in SCENE], axis=0)
    if name in ('coco-semantic', 'ade20k'):
        unlabelled[19, 0] = False  # a person, of whom nobody knows which one
        assert image.ids[19, 0] == 0
    assert np.array_equal(image.seen['ground'][0], unlabelled)


def test_voc_as_its_devkit_has_it(tmp_path):
    """Indices of a palette, 255 where an outline is, which is void also beside a background."""
    root = write_voc(tmp_path / 'in')
    (root / 'labelmap.txt').unlink()
    (root / 'ImageSets' / 'Segmentation' / 'default.txt').rename(root / 'ImageSets' / 'Segmentation' / 'val.txt')
    palette = [value for index in range(256) for value in voc_colour(index)]
    assert voc_colour(15) == (192, 128, 128) and voc_colour(255) == (224, 224, 192)
    classes, objects = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    for index, (name, number) in enumerate({'sky': 1, 'car': 7, 'person': 15}.items(), 1):
        classes[SEEN[name]], objects[SEEN[name]] = number, index
    classes[15], objects[15] = 255, 255
    for folder, values in (('SegmentationClass', classes), ('SegmentationObject', objects)):
        save_map(root / folder / 'a.png', values, palette)
    run('voc', root, tmp_path / 'out', '--background', 'background', '--stuff', 'aeroplane')
    (image,) = read_imported(tmp_path / 'out', 'val').values()
    for name, masks in SMALL_ON_TOP.items():
        mask = masks[0].copy()
        mask[15] = False
        assert np.array_equal(image.seen[{'sky': 'aeroplane'}.get(name, name)][0], mask)
    assert (image.ids[15] == 0).all() and np.count_nonzero(image.ids == 0) == SIZE[1]


def test_cityscapes_is_as_cityscapesscripts_makes_it(cityscapes_root, tmp_path):
    """createPanopticImgs is the judge; polygons are all that is read here."""
    root = tmp_path / 'in'
    root.mkdir()
    (root / 'leftImg8bit').symlink_to(cityscapes_root / 'leftImg8bit')
    for path in cityscapes_root.glob('gtFine/*/*/*_polygons.json'):
        place = root / path.relative_to(cityscapes_root)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)
    run('cityscapes-polygons', root, tmp_path / 'out')
    for split, images in TREE.items():
        official = json.loads((cityscapes_root / 'gtFine' / f'cityscapes_panoptic_{split}.json').read_text())
        ours = json.loads((tmp_path / 'out' / 'annotations' / f'panoptic_{split}.json').read_text())
        names = {one['id']: (one['name'], one['isthing']) for one in official['categories']}
        assert {one['id']: (one['name'], one['isthing']) for one in ours['categories']} == names
        found = read_imported(tmp_path / 'out', split)
        crowds = 0
        for annotation in official['annotations']:
            png = cityscapes_root / 'gtFine' / f'cityscapes_panoptic_{split}' / annotation['file_name']
            ids, expected = decode_panoptic_png(png.read_bytes(), png.name), {}
            for one in annotation['segments_info']:
                expected.setdefault(names[one['category_id']][0], []).append(ids == one['id'])
                crowds += one['iscrowd']
            city = annotation['image_id'].split('_')[0]
            assert same(found[f'leftImg8bit/{split}/{city}/{annotation["image_id"]}_leftImg8bit.png'].seen, expected)
        assert (
            sum(s['iscrowd'] for a in ours['annotations'] for s in a['segments_info']) == crowds == sum(images.values())
        )


def test_labels_of_another_street(tmp_path):
    """Labelled as Cityscapes is, with other classes and a group."""
    root = tmp_path / 'in'
    root.mkdir()
    save_map(root / 'a.png', np.zeros((*SIZE, 3), np.uint8))
    boxes = {'rickshaw': (2, 2, 9, 9), 'rickshawgroup': (12, 2, 20, 9), 'road': (0, 10, 29, 19)}
    objects = [
        {'label': label, 'polygon': [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}
        for label, (x0, y0, x1, y1) in boxes.items()
    ]
    content = {'imgHeight': SIZE[0], 'imgWidth': SIZE[1], 'objects': objects}
    (root / 'a_polygons.json').write_text(json.dumps(content))
    run('cityscapes-polygons', root, tmp_path / 'out')
    assert names_of(tmp_path / 'out') == {'rickshaw': 1, 'road': 0}
    content = json.loads((tmp_path / 'out' / 'annotations' / 'panoptic_train.json').read_text())
    segments = content['annotations'][0]['segments_info']
    assert [(one['area'], one['iscrowd']) for one in segments] == [(64, 0), (72, 1), (300, 0)]


@pytest.mark.parametrize('layout', ['v1.2', 'v2.0'])
def test_mapillary(layout, mapillary_root, tmp_path):
    root = tmp_path / 'in'
    root.mkdir()
    config = json.loads((mapillary_root / 'config.json').read_text())
    config['labels'][4]['evaluate'] = False
    (root / ('config.json' if layout == 'v1.2' else 'config_v2.0.json')).write_text(json.dumps(config))
    for split in ('training', 'validation'):
        (root / split).mkdir()
        (root / split / 'images').symlink_to(mapillary_root / split / 'images')
        place = root / split / ('instances' if layout == 'v1.2' else 'v2.0/instances')
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(mapillary_root / split / 'instances')
    run('mapillary', root, tmp_path / 'out')
    for split, keys in {'train': ['_A1', 'b-2', 'zC'], 'val': ['_V1']}.items():
        found = read_imported(tmp_path / 'out', split)
        for seed, key in enumerate(keys):
            values, expected = instance_map(seed, things=key != 'b-2'), {}
            for value in np.unique(values):
                name = LABELS[value // 256][1]
                if name != 'Unlabeled':
                    expected.setdefault(name, []).append(values == value)
            assert same(found[f'{key}.jpg'].seen, expected)
    assert names_of(tmp_path / 'out') == {'Bird': 1, 'Sky': 0, 'Person': 1, 'Car': 1}


def test_voc_with_classes_of_no_colour(tmp_path):
    """As datumaro writes labelmap.txt: colours are then those of the devkit, by the order of the classes."""
    root = write_voc(tmp_path / 'in')
    (root / 'labelmap.txt').write_text('background:::\nperson:::\nsky:::\ncar:::\n')
    classes = np.zeros((*SIZE, 3), np.uint8)
    for number, name in enumerate(('person', 'sky', 'car'), 1):
        classes[SEEN[name]] = voc_colour(number)
    save_map(root / 'SegmentationClass' / 'a.png', classes)
    run('voc', root, tmp_path / 'out', '--stuff', 'sky')
    (image,) = read_imported(tmp_path / 'out').values()
    assert same(image.seen, SMALL_ON_TOP)
