"""Other libraries' files of a scene, and what they read in ours. Runs in an environment of its own, with datumaro,
labelme and label-studio-sdk: ``python format_judge.py write|read FOLDER``.

FOLDER/scene.npz has ``masks`` (bool of shape (N, H, W)), ``names`` and ``z``, and FOLDER/a.png is the image. Reading
takes FOLDER/cvat, FOLDER/label-studio and FOLDER/labelme, and writes FOLDER/read.json and FOLDER/read.npz.
"""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np

CLASSES = ['background', 'sky', 'car', 'person']


def load_brush():
    """The converter alone: its package imports what an environment for tests need not have."""
    folder = Path(importlib.util.find_spec('label_studio_sdk').origin).parent
    spec = importlib.util.spec_from_file_location('brush', folder / 'converter' / 'brush.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder: Path) -> None:
    from datumaro.components.annotation import Mask
    from datumaro.components.dataset import Dataset
    from datumaro.components.dataset_base import DatasetItem
    from datumaro.components.media import Image
    from labelme import utils
    from labelme._label_file import write_label_file

    scene = np.load(folder / 'scene.npz')
    masks, names, heights = scene['masks'], scene['names'].tolist(), scene['z'].tolist()
    annotations = [
        Mask(mask, label=CLASSES.index(name), z_order=z, id=number, group=number)
        for number, (mask, name, z) in enumerate(zip(masks, names, heights, strict=True), 1)
    ]
    item = DatasetItem(id='a', subset='train', media=Image.from_file(str(folder / 'a.png')), annotations=annotations)
    for name in ('cvat', 'coco_instances', 'voc_segmentation'):
        Dataset.from_iterable([item], categories=CLASSES).export(
            str(folder / name), name, save_media=True, image_ext='.png'
        )
    (folder / 'labelme').mkdir()
    shutil.copy(folder / 'a.png', folder / 'labelme' / 'a.png')
    shapes = []
    for mask, name in zip(masks, names, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        points = [[int(columns[0]), int(rows[0])], [int(columns[-1]), int(rows[-1])]]
        shape = {'label': name, 'points': points, 'group_id': None, 'shape_type': 'mask', 'flags': {}}
        shapes.append(shape | {'mask': utils.img_arr_to_b64(part.astype(np.uint8))})
    height, width = masks.shape[1:]
    place = str(folder / 'labelme' / 'a.json')
    write_label_file(place, shapes=shapes, image_path='a.png', image_height=height, image_width=width)
    brush, results = load_brush(), []
    for mask, name in zip(masks, names, strict=True):
        value = {'format': 'rle', 'rle': brush.mask2rle(mask.astype(np.uint8) * 255), 'brushlabels': [name]}
        value['rle'] = [int(byte) for byte in value['rle']]
        one = {'id': name, 'type': 'brushlabels', 'original_width': width, 'original_height': height, 'value': value}
        results.append(one | {'image_rotation': 0})
    task = {'id': 1, 'data': {'image': '/data/upload/1/12345678-a.png'}, 'annotations': [{'id': 1, 'result': results}]}
    (folder / 'tasks.json').write_text(json.dumps([task]))


def read(folder: Path) -> None:
    from datumaro.components.dataset import Dataset
    from labelme._label_file import read_label_file

    found = {}
    dataset = Dataset.import_from(str(folder / 'cvat'), 'cvat')
    labels = dataset.categories()[next(iter(dataset.categories()))]
    for item in dataset:
        for number, one in enumerate(item.annotations):
            found[f'cvat {number} {labels[one.label].name}'] = np.asarray(one.image).astype(bool)
    brush = load_brush()
    (task,) = json.loads((folder / 'label-studio' / 'tasks.json').read_text())
    for number, one in enumerate(task['predictions'][0]['result']):
        values = brush.decode_rle(one['value']['rle']).reshape(one['original_height'], one['original_width'], 4)
        found[f'label-studio {number} {one["value"]["brushlabels"][0]}'] = values[..., 3] > 0
    np.savez(folder / 'read.npz', **found)
    data = read_label_file(str(folder / 'labelme' / 'a.json'))
    (folder / 'read.json').write_text(json.dumps([[one['label'], len(one['points'])] for one in data.shapes]))


if __name__ == '__main__':
    {'write': write, 'read': read}[sys.argv[1]](Path(sys.argv[2]))
