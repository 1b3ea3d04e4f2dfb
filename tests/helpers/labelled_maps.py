"""The scene of ``helpers.labelled`` as maps and in the layouts of data sets."""

import base64
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from .labelled import BY_Z, NAMES, SCENE, SIZE, SMALL_ON_TOP, dump, save_image

SEEN = {name: masks[0] for name, masks in SMALL_ON_TOP.items()}
STUFF_OF_COCO = 157  # sky-other


def save_map(path: Path, values: np.ndarray, palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette:
        image.putpalette(palette)
    image.save(path)


def write_supervisely(root: Path) -> Path:
    """The sky as a polygon, the person as two bitmaps of an instance, the car as a bitmap that is last in the file."""
    save_image(root / 'set' / 'img' / 'a.png')
    objects = []
    for index, area in enumerate(SCENE):
        one = {'id': 100 + index, 'classTitle': area.name, 'tags': [], 'description': ''}
        if area.name == 'sky':
            exterior = [list(point) for point in area.polygons[0]]
            objects.append(one | {'geometryType': 'polygon', 'points': {'exterior': exterior, 'interior': []}})
            continue
        for x0, y0, x1, y1 in area.boxes:
            picture = np.full((y1 - y0, x1 - x0, 4), 255, np.uint8)
            file = io.BytesIO()
            Image.fromarray(picture).save(file, 'PNG')
            data = base64.b64encode(zlib.compress(file.getvalue())).decode()
            bitmap = {'geometryType': 'bitmap', 'bitmap': {'data': data, 'origin': [x0, y0]}}
            objects.append(one | bitmap | ({'instance': 'p1'} if len(area.boxes) > 1 else {}))
    dump(
        root / 'set' / 'ann' / 'a.png.json',
        {'description': '', 'tags': [], 'size': {'height': SIZE[0], 'width': SIZE[1]}, 'objects': objects},
    )
    classes = [{'title': name, 'shape': 'any', 'color': '#FF0000'} for name in NAMES]
    dump(root / 'meta.json', {'classes': classes, 'tags': [], 'projectType': 'images'})
    return root


def write_label_maps(root: Path) -> Path:
    save_image(root / 'images' / 'a.png')
    labels, semantic = np.zeros(SIZE, np.uint16), np.zeros(SIZE, np.uint8)
    for index, name in enumerate(NAMES, 1):
        semantic[SEEN[name]] = index
        if name != 'sky':
            labels[SEEN[name]] = 300 * index
    save_map(root / 'labels' / 'a.png', labels)
    save_map(root / 'semantic' / 'a.png', semantic)
    categories = [{'id': i, 'name': name, 'isthing': int(name != 'sky')} for i, name in enumerate(NAMES, 1)]
    dump(root / 'categories.json', categories)
    return root


VOC_COLOURS = {'background': (0, 0, 0), 'sky': (0, 0, 255), 'car': (250, 50, 83), 'person': (128, 64, 12)}


def write_voc(root: Path) -> Path:
    """As CVAT writes it: colours of a labelmap.txt."""
    save_image(root / 'JPEGImages' / 'a.png')
    classes, objects = np.zeros((*SIZE, 3), np.uint8), np.zeros((*SIZE, 3), np.uint8)
    for index, name in enumerate(NAMES, 1):
        classes[SEEN[name]] = VOC_COLOURS[name]
        objects[SEEN[name]] = (10 * index, 7, index)
    save_map(root / 'SegmentationClass' / 'a.png', classes)
    save_map(root / 'SegmentationObject' / 'a.png', objects)
    rows = [f'{name}:{",".join(map(str, colour))}::' for name, colour in VOC_COLOURS.items()]
    (root / 'labelmap.txt').write_text('# label:color_rgb:parts:actions\n' + '\n'.join(rows) + '\n')
    lists = root / 'ImageSets' / 'Segmentation'
    lists.mkdir(parents=True)
    (lists / 'default.txt').write_text('a\n')
    return root


def write_coco_stuff(root: Path) -> Path:
    """Instances of COCO and a map of COCO-stuff: ids less one, 255 where void."""
    save_image(root / 'images' / 'a.png')
    ids = {'car': 3, 'person': 1}
    annotations = []
    for number, area in enumerate((area for area in SCENE if area.name != 'sky'), 1):
        polygons = [[value for point in polygon for value in point] for polygon in area.polygons]
        one = {'id': number, 'image_id': 3, 'category_id': ids[area.name], 'iscrowd': 0, 'segmentation': polygons}
        annotations.append(one | {'bbox': [0, 0, 9, 9], 'area': 9})
    categories = [{'id': number, 'name': name} for name, number in ids.items()]
    images = [{'id': 3, 'file_name': 'a.png', 'height': SIZE[0], 'width': SIZE[1]}]
    dump(root / 'instances_train2017.json', dict(images=images, annotations=annotations, categories=categories))
    values = np.full(SIZE, 255, np.uint8)
    values[SEEN['sky']], values[SEEN['car']] = STUFF_OF_COCO - 1, ids['car'] - 1
    values[19, 0] = ids['person'] - 1  # of no instance
    save_map(root / 'stuffthingmaps' / 'train2017' / 'a.png', values)
    rows = ['0: unlabeled', '1: person', '3: car', '12: street sign', f'{STUFF_OF_COCO}: sky']
    (root / 'labels.txt').write_text('\n'.join(rows) + '\n')
    return root


def write_ade20k(root: Path) -> Path:
    """Sky is class 3 of 150, person 13 and car 21; among the things, person is the 4th and car the 9th."""
    save_image(root / 'images' / 'training' / 'ADE_train_1.jpg')
    classes, colours = np.zeros(SIZE, np.uint8), np.zeros((*SIZE, 3), np.uint8)
    classes[SEEN['sky']], classes[SEEN['person']], classes[SEEN['car']] = 3, 13, 21
    classes[19, 0] = 13  # of no instance
    colours[SEEN['person']], colours[SEEN['car']] = (4, 1, 0), (9, 2, 0)
    save_map(root / 'annotations' / 'training' / 'ADE_train_1.png', classes)
    save_map(root / 'annotations_instance' / 'training' / 'ADE_train_1.png', colours)
    return root


#: Writes the scene; what is seen of it; and whether instances are drawn as in the scene, not as they are seen.
AS_MAPS: dict[str, tuple[Callable[[Path], Path], dict[str, list[np.ndarray]], bool]] = {
    'supervisely': (write_supervisely, BY_Z, True),
    'label-maps': (write_label_maps, SMALL_ON_TOP, False),
    'voc': (write_voc, SMALL_ON_TOP, False),
    'coco-semantic': (write_coco_stuff, SMALL_ON_TOP, True),
    'ade20k': (write_ade20k, SMALL_ON_TOP, False),
}


def names_of(out: Path) -> dict[str, int]:
    """Whether classes are things, by name."""
    content = json.loads((out / 'annotations' / 'panoptic_train.json').read_text())
    return {one['name']: one['isthing'] for one in content['categories']}
