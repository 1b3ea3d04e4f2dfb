"""What does not fit is one line, or is left out and listed; it is never a wrong mask."""

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.labelled import BY_HAND, SCENE, SIZE, read_imported, save_image
from helpers.labelled_maps import AS_MAPS, save_map
from helpers.mutate_bytes import damaged
from helpers.mutate_json import mutated_json
from helpers.repo import load_tool

from mmpanoptic.utils import UserError

TOOL = load_tool('dataset_converters/import')
WRITERS = {name: one[0] for name, one in (*BY_HAND.items(), *AS_MAPS.items())}
HEIGHT, WIDTH = SIZE

#: An 8 of two triangles; its lobes run in opposite directions.
BOW_TIE = [[2, 2], [12, 12], [12, 2], [2, 12]]
CAR = next(area.mask for area in SCENE if area.name == 'car')


def run(name: str, root: Path, source: Path, *more: str) -> tuple[dict, dict]:
    """The report, and the images that are left."""
    out = root / 'out'
    TOOL.main([name, str(source), str(out), '--workers', '1', *more])
    return json.loads((out / 'import_report.json').read_text()), read_imported(out)


def edit_json(path: Path, change: Callable) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# How each format takes another shape of the class car, in place of the one that the scene has.
def coco_shape(root: Path, kind: str, value: object) -> None:
    def change(content: dict) -> None:
        car = next(one for one in content['annotations'] if one['category_id'] == 2)
        if kind == 'polygon':
            car['segmentation'] = [[x for point in value for x in point]]
        elif kind == 'box':
            x0, y0, x1, y1 = value
            car |= {'segmentation': [], 'bbox': [x0, y0, x1 - x0, y1 - y0]}
        elif kind == 'class':
            car['category_id'] = 77
        else:
            car['segmentation'] = {'size': [HEIGHT, WIDTH], 'counts': [10, 20, 30]}

    edit_json(root / 'annotations' / 'instances_default.json', change)


def labelme_shape(root: Path, kind: str, value: object) -> None:
    def change(content: dict) -> None:
        car = next(one for one in content['shapes'] if one['label'] == 'car')
        if kind == 'polygon':
            car |= {'shape_type': 'polygon', 'points': value, 'mask': None}
        elif kind == 'box':
            car |= {'shape_type': 'rectangle', 'points': [value[:2], value[2:]], 'mask': None}
        elif kind == 'class':
            car['label'] = 5
        else:
            car['mask'] = base64.b64encode(b'no picture').decode()

    edit_json(root / 'a.json', change)


def cvat_shape(root: Path, kind: str, value: object) -> None:
    tree = ElementTree.parse(root / 'annotations.xml')
    image = tree.getroot().find('image')
    car = next(one for one in image if one.get('label') == 'car')
    if kind == 'polygon':
        points = ';'.join(f'{x},{y}' for x, y in value)
        image.append(ElementTree.Element('polygon', {'label': 'car', 'z_order': '2', 'points': points}))
        image.remove(car)
    elif kind == 'box':
        place = dict(zip(('xtl', 'ytl', 'xbr', 'ybr'), map(str, value), strict=True))
        image.append(ElementTree.Element('box', {'label': 'car', 'z_order': '2', **place}))
        image.remove(car)
    elif kind == 'class':
        car.set('label', 'boat')
    else:
        car.set('rle', '1, 2, 3')
    tree.write(root / 'annotations.xml')


def label_studio_shape(root: Path, kind: str, value: object) -> None:
    def change(content: list) -> None:
        results = content[0]['annotations'][0]['result']
        car = next(one for one in results if 'car' in str(one['value'].get('polygonlabels')))
        if kind == 'polygon':
            car['value']['points'] = [[x * 100 / WIDTH, y * 100 / HEIGHT] for x, y in value]
        elif kind == 'box':
            x0, y0, x1, y1 = (v * 100 / side for v, side in zip(value, (WIDTH, HEIGHT, WIDTH, HEIGHT), strict=True))
            car['type'] = 'rectanglelabels'
            car['value'] = {'x': x0, 'y': y0, 'width': x1 - x0, 'height': y1 - y0, 'rectanglelabels': ['car']}
        elif kind == 'class':
            car['value']['polygonlabels'] = []
        else:
            brush = next(one for one in results if one['type'] == 'brushlabels')
            brush['value']['rle'] = brush['value']['rle'][:40]

    edit_json(root / 'export.json', change)


def yolo_shape(root: Path, kind: str, value: object) -> None:
    path = root / 'train' / 'labels' / 'a.txt'
    lines = [line for line in path.read_text().splitlines() if not line.startswith('1 ')]
    if kind == 'polygon':
        lines.append('1 ' + ' '.join(f'{x / WIDTH} {y / HEIGHT}' for x, y in value))
    elif kind == 'box':
        x0, y0, x1, y1 = value
        shares = ((x0 + x1) / 2 / WIDTH, (y0 + y1) / 2 / HEIGHT, (x1 - x0) / WIDTH, (y1 - y0) / HEIGHT)
        lines.append(f'1 {shares[0]} {shares[1]} {shares[2]} {shares[3]}')
    elif kind == 'class':
        lines.append('9 0 0 1 0 1 1')
    else:
        lines.append('1 0 0 1 nan 1 1')
    path.write_text('\n'.join(lines))


def supervisely_shape(root: Path, kind: str, value: object) -> None:
    def change(content: dict) -> None:
        car = next(one for one in content['objects'] if one['classTitle'] == 'car')
        if kind == 'polygon':
            car |= {'geometryType': 'polygon', 'points': {'exterior': value, 'interior': []}}
        elif kind == 'box':
            car |= {'geometryType': 'rectangle', 'points': {'exterior': [value[:2], value[2:]], 'interior': []}}
        elif kind == 'class':
            car['classTitle'] = 'boat'
        else:
            car['bitmap']['origin'] = [25, 15]

    edit_json(root / 'set' / 'ann' / 'a.png.json', change)


SHAPES = {
    'coco-instances': coco_shape,
    'labelme': labelme_shape,
    'cvat': cvat_shape,
    'label-studio': label_studio_shape,
    'yolo-seg': yolo_shape,
    'supervisely': supervisely_shape,
}
LEFT_OUT = {
    'crosses itself': ('polygon', BOW_TIE, 'its outline crosses itself'),
    'two points': ('polygon', [[2, 4], [20, 16]], 'no polygon of three points'),
    'outside': ('polygon', [[32, 2], [40, 2], [40, 9], [32, 9]], 'no pixel in the image'),
    'no area': ('polygon', [[2, 4], [20, 4], [2, 4]], 'no pixel in the image'),
    'box': ('box', [2, 4, 20, 16], 'void: draw its outline'),
    'box outside': ('box', [32, 2, 40, 9], 'void: draw its outline'),
}


@pytest.fixture
def broken(tmp_path):
    def make(name: str) -> tuple[Path, Path]:
        root = tmp_path / 'in'
        root.mkdir()
        return root, WRITERS[name](root)

    return make


@pytest.mark.parametrize('how', LEFT_OUT)
@pytest.mark.parametrize('name', SHAPES)
def test_a_shape_that_is_no_mask_is_void_and_listed(name, how, broken, tmp_path):
    kind, value, reason = LEFT_OUT[how]
    root, source = broken(name)
    SHAPES[name](root, kind, value)
    if name == 'yolo-seg' and how == 'two points':  # two points are the four numbers of a box, which is no mask either
        reason = 'void: draw its outline'
    report, images = run(name, tmp_path, source, '--stuff', 'sky', '--background', 'ground')
    assert len(report['left_out']) == 1 and reason in report['left_out'][0]['reason']
    (image,) = images.values()
    assert 'car' not in image.seen and 'car' not in image.drawn
    # Nothing of it is background: its pixels are void, but for those of what lies on top.
    void = image.ids == 0
    person = next(area.mask for area in SCENE if area.name == 'person')
    on_top = name not in ('cvat', 'supervisely')
    if how == 'box':
        assert np.array_equal(void, CAR & ~person if on_top else CAR)
    elif how == 'crosses itself':
        assert void.any() and not (void & ~CAR)[4:, 2:].any()
    elif name != 'yolo-seg' or how != 'two points':
        assert not void.any()


@pytest.mark.parametrize('kind', ['class', 'damage'])
@pytest.mark.parametrize('name', SHAPES)
def test_an_image_with_damage_is_left_out(name, kind, broken, tmp_path):
    """Alone, it ends the import with one line; nothing is written."""
    root, source = broken(name)
    SHAPES[name](root, kind, None)
    with pytest.raises(UserError) as error:
        run(name, tmp_path, source)
    assert '\n' not in str(error.value) and str(root) in str(error.value)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', WRITERS)
def test_a_missing_image(name, broken, tmp_path):
    root, source = broken(name)
    (image,) = [path for path in root.rglob('*') if path.name in ('a.png', 'ADE_train_1.jpg') and is_picture(path)]
    image.unlink()
    with pytest.raises(UserError) as error:
        run(name, tmp_path, source)
    assert '\n' not in str(error.value) and not (tmp_path / 'out').exists()


def is_picture(path: Path) -> bool:
    return path.parent.name not in ('labels', 'semantic', 'SegmentationClass', 'SegmentationObject') and not any(
        part in ('stuffthingmaps', 'annotations', 'annotations_instance') for part in path.parts
    )


@pytest.mark.parametrize('name', [name for name in WRITERS if name != 'yolo-seg'])  # which does not know sizes
def test_an_image_of_another_size(name, broken, tmp_path):
    root, source = broken(name)
    (image,) = [path for path in root.rglob('*') if path.name in ('a.png', 'ADE_train_1.jpg') and is_picture(path)]
    save_image(image, (HEIGHT + 1, WIDTH))
    with pytest.raises(UserError, match=f'{HEIGHT}x{WIDTH}') as error:
        run(name, tmp_path, source)
    assert '\n' not in str(error.value) and 'height x width' in str(error.value)


@pytest.mark.parametrize(
    ('name', 'file'),
    [
        ('voc', 'SegmentationClass/a.png'),
        ('voc', 'SegmentationObject/a.png'),
        ('ade20k', 'annotations/training/ADE_train_1.png'),
        ('ade20k', 'annotations_instance/training/ADE_train_1.png'),
        ('coco-semantic', 'stuffthingmaps/train2017/a.png'),
        ('label-maps', 'semantic/a.png'),
    ],
)
def test_maps_that_do_not_fit(name, file, broken, tmp_path):
    for change in ('value', 'size', 'cut', 'gone'):
        root = tmp_path / change
        source = WRITERS[name](root)
        path = root / file
        if change == 'value':
            colour = np.zeros(
                SIZE if name in ('coco-semantic', 'label-maps') or 'ade' in file else (*SIZE, 3), np.uint8
            )
            colour = np.zeros((*SIZE, 3), np.uint8) if file.startswith(('annotations_i', 'Segm')) else colour
            colour[:] = 213
            save_map(path, colour)
        elif change == 'size':
            save_map(path, np.zeros((4, 4), np.uint8))
        elif change == 'cut':
            path.write_bytes(path.read_bytes()[:-30])
        else:
            path.unlink()
        if (name, change, file) == ('voc', 'value', 'SegmentationObject/a.png'):
            continue  # one object of whatever class
        with pytest.raises(UserError) as error:
            run(name, root, source)
        assert '\n' not in str(error.value) and str(root) in str(error.value)


@pytest.mark.parametrize('name', ['coco-instances', 'labelme', 'cvat', 'label-studio'])
@pytest.mark.parametrize('address', ['../outside.png', '/etc/../{}/outside.png', '..\\outside.png'])
def test_no_name_leaves_the_folder_of_the_images(name, address, broken, tmp_path):
    root, source = broken(name)
    save_image(tmp_path / 'outside.png')
    address = address.format(str(tmp_path).lstrip('/'))
    if name == 'cvat':
        tree = ElementTree.parse(source)
        tree.getroot().find('image').set('name', address)
        tree.write(source)
    else:
        path = {'coco-instances': root / 'annotations' / 'instances_default.json', 'labelme': root / 'a.json'}
        edit_json(path.get(name, source), lambda content: set_name(name, content, address))
    with pytest.raises(UserError) as error:
        run(name, tmp_path, source)
    assert 'no such image' in str(error.value) and '\n' not in str(error.value)


def set_name(name: str, content: object, address: str) -> None:
    if name == 'coco-instances':
        content['images'][0]['file_name'] = address
    elif name == 'labelme':
        content['imagePath'] = address
    else:
        content[0]['data']['image'] = address


def test_xml_that_grows_is_refused(broken, tmp_path):
    _, source = broken('cvat')
    text = source.read_text()
    entities = '<!DOCTYPE annotations [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    source.write_text(text.replace('<annotations>', f'{entities}<annotations>').replace('<name>t<', '<name>&b;<'))
    with pytest.raises(UserError, match='declares a document type'):
        run('cvat', tmp_path, source)


def test_tracks_of_a_video_are_refused(broken, tmp_path):
    _, source = broken('cvat')
    source.write_text('<annotations><version>1.1</version><track id="0" label="car"></track></annotations>')
    with pytest.raises(UserError, match="tracks of a video: export the task as 'CVAT for images 1"):
        run('cvat', tmp_path, source)


FILES = {
    'coco-instances': 'annotations/instances_default.json',
    'labelme': 'a.json',
    'label-studio': 'export.json',
    'supervisely': 'set/ann/a.png.json',
    'cvat': 'annotations.xml',
    'yolo-seg': 'train/labels/a.txt',
    'voc': 'SegmentationClass/a.png',
}


@pytest.mark.parametrize('name', FILES)
def test_files_of_anything(name, tmp_path, capsys):
    """A mutated file is imported, or is an error of one line; whatever is written can be read."""
    rng = random.Random(name)
    root = tmp_path / 'in'
    root.mkdir()
    source = WRITERS[name](root)
    path = root / FILES[name]
    good, other = path.read_bytes(), b'{"a": [1, 2, "x"]}<mask rle="1">'
    refused = 0
    for _ in range(60):
        if path.suffix == '.json' and name != 'label-studio':
            path.write_bytes(mutated_json(json.loads(good), rng, other))
        elif path.suffix == '.json':
            path.write_bytes(b'[' + mutated_json(json.loads(good)[0], rng, other) + b']')
        else:
            path.write_bytes(damaged(good, rng, other))
        try:
            run(name, tmp_path, source)
        except UserError as error:
            refused += 1
            assert '\n' not in str(error)
    assert 5 < refused < 60


def test_an_image_of_another_folder_is_not_taken(tmp_path):
    """Of one name and size, it would give a wrong label."""
    root = tmp_path / 'in'
    root.mkdir()
    source = WRITERS['cvat'](root)
    for name in ('x/a.png', 'a.png', 'y/b/a.png'):
        save_image(root / 'images' / name)
    tree = ElementTree.parse(source)
    tree.getroot().find('image').set('name', 'b/a.png')
    tree.write(source)
    assert run('cvat', tmp_path, source)[1].keys() == {'y/b/a.png'}
    (root / 'images' / 'y' / 'b' / 'a.png').unlink()
    with pytest.raises(UserError, match='and no such image is'):
        run('cvat', tmp_path, source)
