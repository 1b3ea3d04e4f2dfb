"""A small scene whose panoptic map is known, in the formats of annotation tools, written to their specifications."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from PIL import Image
from pycocotools import mask as rle

from mmpanoptic.formats.panoptic_png import decode_panoptic_png, encode_panoptic_png
from mmpanoptic.formats.panoptic_writer import segments_to_coco

SIZE = (20, 30)
NAMES = ('sky', 'car', 'person')


class Area(NamedTuple):
    """Rectangles (x0, y0, x1, y1) in borders of pixels, labelled as one."""

    name: str
    boxes: list[tuple[int, int, int, int]]
    z: int = 0

    @property
    def mask(self) -> np.ndarray:
        mask = np.zeros(SIZE, bool)
        for x0, y0, x1, y1 in self.boxes:
            mask[y0:y1, x0:x1] = True
        return mask

    @property
    def polygons(self) -> list[list[tuple[int, int]]]:
        return [[(x0, y0), (x1, y0), (x1, y1), (x0, y1)] for x0, y0, x1, y1 in self.boxes]


# The person, smaller, stands before the car, and is seen on both sides of a pole; rows 16 to 19 have no label.
SCENE = [
    Area('sky', [(0, 0, 30, 9)], z=-1),
    Area('person', [(14, 6, 17, 14), (19, 6, 22, 14)], z=1),
    Area('car', [(2, 4, 20, 16)], z=2),
]


def truth(order: tuple[str, ...]) -> dict[str, list[np.ndarray]]:
    """What is seen of every area of SCENE, by class, if they are drawn in this order."""
    canvas = np.full(SIZE, -1)
    for name in order:
        index = next(i for i, area in enumerate(SCENE) if area.name == name)
        canvas[SCENE[index].mask] = index
    return {area.name: [canvas == i] for i, area in enumerate(SCENE)}


SMALL_ON_TOP, BY_Z = truth(('sky', 'car', 'person')), truth(('sky', 'person', 'car'))


def save_image(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size[::-1], (90, 120, 40)).save(path)


def write_coco(root: Path) -> Path:
    """As CVAT writes it: annotations/instances_default.json and images/."""
    save_image(root / 'images' / 'a.png')
    annotations = []
    for number, area in enumerate(SCENE, 1):
        if area.name == 'car':  # one of them uncompressed
            flat = area.mask.ravel(order='F').astype(int)
            changes = np.flatnonzero(np.diff(flat, prepend=0))
            segmentation = {'size': list(SIZE), 'counts': np.diff(changes, prepend=0, append=flat.size).tolist()}
        else:
            segmentation = [[value for point in polygon for value in point] for polygon in area.polygons]
        annotations.append(
            {
                'id': number,
                'image_id': 7,
                'category_id': NAMES.index(area.name) + 1,
                'segmentation': segmentation,
                'area': int(area.mask.sum()),
                'bbox': [1, 1, 2, 2],
                'iscrowd': 0,
                'attributes': {'occluded': False},
            }
        )
    content = {
        'licenses': [],
        'info': {},
        'categories': [{'id': i, 'name': name, 'supercategory': ''} for i, name in enumerate(NAMES, 1)],
        'images': [{'id': 7, 'width': SIZE[1], 'height': SIZE[0], 'file_name': 'a.png', 'license': 0}],
        'annotations': annotations,
    }
    return dump(root / 'annotations' / 'instances_default.json', content)


def dump(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_labelme(root: Path) -> Path:
    """The person as two shapes of a group, the car as a mask."""
    save_image(root / 'a.png')
    shapes = []
    for group, area in enumerate(SCENE):
        one = {'label': area.name, 'group_id': None, 'description': '', 'flags': {}, 'mask': None}
        if area.name == 'car':
            ((x0, y0, x1, y1),) = area.boxes
            file = io.BytesIO()
            Image.new('1', (x1 - x0, y1 - y0), 1).save(file, 'PNG')
            text = base64.b64encode(file.getvalue()).decode()
            points = [[x0, y0], [x1 - 1, y1 - 1]]  # the last pixel is part of it
            shapes.append(one | {'shape_type': 'mask', 'points': points, 'mask': text})
            continue
        for polygon in area.polygons:
            part = {'shape_type': 'polygon', 'points': [[float(x), float(y)] for x, y in polygon]}
            shapes.append(one | part | ({'group_id': group} if len(area.boxes) > 1 else {}))
    content = {'version': '5.5.0', 'flags': {}, 'shapes': shapes, 'imagePath': 'a.png', 'imageData': None}
    dump(root / 'a.json', content | {'imageHeight': SIZE[0], 'imageWidth': SIZE[1]})
    return root


def write_cvat(root: Path) -> Path:
    """The car as a mask, the person as two polygons of a group."""
    save_image(root / 'images' / 'a.png')
    shapes = []
    for group, area in enumerate(SCENE, 1):
        rest = f'label="{area.name}" source="manual" occluded="0" z_order="{area.z}"'
        if area.name == 'car':
            ((x0, y0, x1, y1),) = area.boxes
            count = (x1 - x0) * (y1 - y0)
            place = f'left="{x0 - 1}" top="{y0}" width="{x1 - x0 + 1}" height="{y1 - y0}"'
            runs = ', '.join(['1', str(x1 - x0)] * (y1 - y0))
            assert count == (x1 - x0) * (y1 - y0)
            shapes.append(f'<mask {rest} rle="{runs}" {place}></mask>')
            continue
        for polygon in area.polygons:
            points = ';'.join(f'{x:.2f},{y:.2f}' for x, y in polygon)
            grouped = f' group_id="{group}"' if len(area.boxes) > 1 else ''
            shapes.append(f'<polygon {rest} points="{points}"{grouped}></polygon>')
    labels = ''.join(f'<label><name>{name}</name><type>any</type><attributes/></label>' for name in NAMES)
    text = (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
        f'<meta><task><name>t</name><labels>{labels}</labels></task></meta>'
        f'<image id="0" name="a.png" width="{SIZE[1]}" height="{SIZE[0]}">{"".join(shapes)}</image></annotations>'
    )
    path = root / 'annotations.xml'
    path.write_text(text)
    return path


def write_yolo(root: Path) -> Path:
    """The person's parts joined by a line that goes there and back, as ultralytics' converter from COCO does it."""
    save_image(root / 'train' / 'images' / 'a.png')
    lines = []
    for area in SCENE:
        first, *others = area.polygons
        points = list(first)
        for other in others:
            points += [first[0], *other, other[0], first[0]]
        shares = ' '.join(f'{x / SIZE[1]:.6f} {y / SIZE[0]:.6f}' for x, y in points)
        lines.append(f'{NAMES.index(area.name)} {shares}\n')
    (root / 'train' / 'labels').mkdir()
    (root / 'train' / 'labels' / 'a.txt').write_text(''.join(lines))
    content = {'train': '../train/images', 'nc': len(NAMES), 'names': list(NAMES)}  # as Roboflow has it
    (root / 'data.yaml').write_text(yaml.safe_dump(content))
    return root / 'data.yaml'


def thi_ng_encode(values: np.ndarray) -> list[int]:
    """Packs values one by one, of which no count is larger than 8: not as this project packs them."""
    bits = f'{values.size:032b}{7:05b}' + ''.join(f'{size - 1:04b}' for size in (3, 4, 8, 16))
    for start in range(0, values.size, 8):
        piece = values[start : start + 8].tolist()
        bits += f'000{len(piece) - 1:03b}' + ''.join(f'{value:08b}' for value in piece)
    bits += '0' * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def write_label_studio(root: Path) -> Path:
    """The person and the sky with the brush, the car as a polygon."""
    save_image(root / 'images' / 'a.png')
    results = []
    for index, area in enumerate(SCENE):
        one = {'id': f'r{index}', 'from_name': 'label', 'to_name': 'image', 'image_rotation': 0}
        one |= {'original_width': SIZE[1], 'original_height': SIZE[0]}
        if area.name == 'car':
            points = [[x * 100 / SIZE[1], y * 100 / SIZE[0]] for x, y in area.polygons[0]]
            value = {'points': points, 'closed': True, 'polygonlabels': [area.name]}
            results.append(one | {'type': 'polygonlabels', 'value': value})
        else:
            packed = thi_ng_encode(np.repeat(area.mask.ravel() * 255, 4))
            value = {'format': 'rle', 'rle': packed, 'brushlabels': [area.name]}
            results.append(one | {'type': 'brushlabels', 'value': value})
    task = {
        'id': 1,
        'annotations': [{'id': 5, 'was_cancelled': False, 'updated_at': '2024-01-01', 'result': results}],
        'data': {'image': '/data/upload/1/0a1b2c3d-a.png'},
        'predictions': [],
    }
    return dump(root / 'export.json', [task])


CATEGORIES = [
    {'id': i, 'name': name, 'isthing': int(name != 'sky')} for i, name in enumerate(('sky', 'car', 'person'), 1)
]


def write_panoptic_scene(root: Path) -> list[Path]:
    """The scene as it is seen by area, in COCO's panoptic format: JSON, PNGs, images."""
    ids = np.zeros(SIZE, np.int32)
    for category in CATEGORIES:
        ids[SMALL_ON_TOP[category['name']][0]] = category['id']
    (root / 'panoptic').mkdir(parents=True)
    (root / 'panoptic' / 'a.png').write_bytes(encode_panoptic_png(ids))
    save_image(root / 'images' / 'a.png')
    content = {
        'images': [{'id': 1, 'file_name': 'a.png', 'height': SIZE[0], 'width': SIZE[1]}],
        'annotations': [
            {'image_id': 1, 'file_name': 'a.png', 'segments_info': segments_to_coco(ids, {1: 1, 2: 2, 3: 3})}
        ],
        'categories': CATEGORIES,
    }
    (root / 'panoptic.json').write_text(json.dumps(content))
    return [root / 'panoptic.json', root / 'panoptic', root / 'images']


#: Writes the scene; and what is seen of it.
BY_HAND: dict[str, tuple[Callable[[Path], Path], dict[str, list[np.ndarray]]]] = {
    'coco-instances': (write_coco, SMALL_ON_TOP),
    'labelme': (write_labelme, SMALL_ON_TOP),
    'cvat': (write_cvat, BY_Z),
    'label-studio': (write_label_studio, SMALL_ON_TOP),
    'yolo-seg': (write_yolo, SMALL_ON_TOP),
}


class Imported(NamedTuple):
    """An image of a dataset that was imported.

    Attributes:
        seen: Visible masks by name of the class, sorted.
        drawn: Masks of instances, sorted.
        ids: Segment ids.
    """

    seen: dict[str, list[np.ndarray]]
    drawn: dict[str, list[np.ndarray]]
    ids: np.ndarray


def read_imported(out: Path, split: str = 'train') -> dict[str, Imported]:
    """Images of a split by name."""
    panoptic = json.loads((out / 'annotations' / f'panoptic_{split}.json').read_text())
    instances = json.loads((out / 'annotations' / f'instances_{split}.json').read_text())
    assert panoptic['images'] == instances['images']
    names = {one['id']: one['name'] for one in panoptic['categories']}
    assert {one['id']: one['name'] for one in instances['categories']}.items() <= names.items()
    found = {}
    for image, annotation in zip(panoptic['images'], panoptic['annotations'], strict=True):
        assert (out / split / image['file_name']).is_file()
        png = out / 'annotations' / f'panoptic_{split}' / annotation['file_name']
        ids = decode_panoptic_png(png.read_bytes(), png.name, (image['height'], image['width']))
        seen, drawn = {}, {}
        for one in annotation['segments_info']:
            assert (ids == one['id']).sum() == one['area']
            seen.setdefault(names[one['category_id']], []).append(ids == one['id'])
        assert set(np.unique(ids)) <= {0} | {one['id'] for one in annotation['segments_info']}
        for one in instances['annotations']:
            if one['image_id'] == image['id']:
                drawn.setdefault(names[one['category_id']], []).append(rle.decode(one['segmentation']).astype(bool))
        found[image['file_name']] = Imported(in_order(seen), in_order(drawn), ids)
    return found


def in_order(masks: dict[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    return {name: sorted(those, key=lambda mask: mask.tobytes()) for name, those in sorted(masks.items())}


def same(first: dict[str, list[np.ndarray]], second: dict[str, list[np.ndarray]]) -> bool:
    """Whether both have the same masks of the same classes."""
    first, second = in_order(first), in_order(second)
    return first.keys() == second.keys() and all(
        len(first[name]) == len(second[name])
        and all(np.array_equal(a, b) for a, b in zip(first[name], second[name], strict=True))
        for name in first
    )
