"""Real labels to every format and back."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.labelled import read_imported, same
from helpers.repo import load_tool

from mmpanoptic.formats.panoptic_png import decode_panoptic_png

IMPORT, EXPORT = load_tool('dataset_converters/import'), load_tool('dataset_converters/export')
LABEL_MAPS = load_tool('dataset_converters/label_maps')

#: Name of a way, format, more arguments of the export, and where the labels then lie.
WAYS = {
    'labelme': ('labelme', [], '.'),
    'cvat masks': ('cvat', [], '.'),
    'cvat polygons': ('cvat', ['--polygons'], 'annotations.xml'),
    'label-studio brush': ('label-studio', ['--final'], 'tasks.json'),
    'label-studio polygons': ('label-studio', ['--final', '--polygons'], 'tasks.json'),
    'yolo-seg': ('yolo-seg', ['--split', 'val'], 'data.yaml'),
    'coco-instances': ('coco-instances', [], 'instances.json'),
}


class Truth:
    """A panoptic dataset of a few images."""

    def __init__(self, json_file: Path, images: Path) -> None:
        self.json_file, self.images = json_file, images
        self.content = json.loads(json_file.read_text())
        self.categories = self.content['categories']
        self.category_file = json_file.with_name('categories.json')
        kept = [{key: one[key] for key in ('id', 'name', 'isthing')} for one in self.categories]
        self.category_file.write_text(json.dumps(kept))

    def export(self, out: Path, name: str, *more: str) -> Path:
        pngs = self.json_file.with_suffix('')
        EXPORT.main([name, *map(str, (self.json_file, pngs, self.images, out)), '--workers', '1', *more])
        return out

    def seen(self) -> dict[str, dict[str, list[np.ndarray]]]:
        """Masks by image and class, and those of crowds under '<class> crowd'."""
        names = {one['id']: one['name'] for one in self.categories}
        files = {one['id']: one['file_name'] for one in self.content['images']}
        found = {}
        for annotation in self.content['annotations']:
            png = self.json_file.with_suffix('') / annotation['file_name']
            ids, masks = decode_panoptic_png(png.read_bytes(), png.name), {}
            for one in annotation['segments_info']:
                name = names[one['category_id']] + ' crowd' * one['iscrowd']
                masks.setdefault(name, []).append(ids == one['id'])
            found[files[annotation['image_id']]] = masks
        return found


@pytest.fixture(scope='module')
def nuclei(shared_data, tmp_path_factory) -> Truth:
    root = tmp_path_factory.mktemp('nuclei')
    source = shared_data / 'nuclei' / 'val'
    for folder in ('images', 'labels'):
        (root / folder).mkdir()
        for path in sorted((source / folder).iterdir())[::20]:
            (root / folder / path.name).symlink_to(path)
    categories = root / 'given.json'
    categories.write_text('[{"id": 1, "name": "nucleus", "isthing": 1}, {"id": 2, "name": "background", "isthing": 0}]')
    out = root / 'gt' / 'panoptic.json'
    args = LABEL_MAPS.argparse.Namespace(
        images=root / 'images', labels=root / 'labels', out_json=out, semantic=None, categories=categories,
        panoptic_dir=None, workers=1,
    )  # fmt: skip
    LABEL_MAPS.run(args)
    return Truth(out, root / 'images')


@pytest.fixture(scope='module')
def coco(shared_data, tmp_path_factory) -> Truth:
    """Images with crowds, and others."""
    root = tmp_path_factory.mktemp('coco')
    source = shared_data / 'coco_panoptic_sample'
    content = json.loads((source / 'panoptic.json').read_text())
    crowds = [one['image_id'] for one in content['annotations'] if any(s['iscrowd'] for s in one['segments_info'])]
    kept = {*crowds[:2], *(one['id'] for one in content['images'][:1])}
    content['images'] = [one for one in content['images'] if one['id'] in kept]
    content['annotations'] = [one for one in content['annotations'] if one['image_id'] in kept]
    (root / 'panoptic').symlink_to(source / 'panoptic')
    (root / 'panoptic.json').write_text(json.dumps(content))
    return Truth(root / 'panoptic.json', source / 'images')


def bring_back(truth: Truth, way: str, tmp_path: Path, *more: str) -> Path:
    name, arguments, place = WAYS[way]
    exported = truth.export(tmp_path / 'exported', name, *arguments)
    out = tmp_path / 'imported'
    IMPORT.main(
        [name, str(exported / place), str(out), '--categories', str(truth.category_file), *more, '--workers', '1']
    )
    return out


@pytest.mark.parametrize('way', WAYS)
def test_coco(coco, way, tmp_path):
    out = bring_back(coco, way, tmp_path)
    split = 'val' if way == 'yolo-seg' else 'train'
    names = {one['id']: one for one in coco.categories}
    content = json.loads((out / 'annotations' / f'panoptic_{split}.json').read_text())
    crowd_areas = {s['area'] for a in content['annotations'] for s in a['segments_info'] if s['iscrowd']}
    stuff = {one['name'] for one in names.values() if not one['isthing']}
    found, expected_crowds = read_imported(out, split), set()
    for file, masks in coco.seen().items():
        expected = {}
        for name, those in masks.items():
            plain = name.removesuffix(' crowd')
            if way == 'yolo-seg' and plain != name:  # the format has none
                continue
            if way == 'coco-instances' and plain in stuff:  # nor that
                continue
            if plain != name:
                expected_crowds |= {int(mask.sum()) for mask in those}
            expected.setdefault(plain, []).extend(those)
        assert same(found[file].seen, expected), file
    assert crowd_areas == expected_crowds
    report = json.loads((out / 'import_report.json').read_text())
    assert report['left_out'] == []


def test_nuclei_are_the_same_through_all_formats(nuclei, tmp_path):
    """So that a training on them is the same training, whatever tool they were drawn in."""
    results = {}
    for way in WAYS:
        (tmp_path / way).mkdir()
        more = ['--background', 'background'] if way == 'coco-instances' else []
        out = bring_back(nuclei, way, tmp_path / way, *more)
        split = 'val' if way == 'yolo-seg' else 'train'
        annotations = out / 'annotations'
        panoptic, instances = (
            json.loads((annotations / f'{kind}_{split}.json').read_text()) for kind in ('panoptic', 'instances')
        )
        panoptic.pop('info')
        maps = {path.name: path.read_bytes() for path in (annotations / f'panoptic_{split}').glob('*.png')}
        results[way] = (panoptic, instances, maps)
        for file, masks in nuclei.seen().items():
            assert same(read_imported(out, split)[file].seen, masks)
    first = results.pop('labelme')
    assert len(first[1]['annotations']) > 50 and len(first[2]) == 3
    for way, (panoptic, instances, maps) in results.items():
        assert (panoptic, instances) == first[:2], way
        assert maps == first[2], way


def test_predictions_become_labels_to_correct(nuclei, tmp_path):
    """Label Studio takes tasks with predictions; as long as nobody has corrected them, they are no labels."""
    exported = nuclei.export(tmp_path / 'tasks', 'label-studio', '--image-prefix', '/data/local-files/?d=set/')
    (first, *_) = json.loads((exported / 'tasks.json').read_text())
    assert first['data']['image'].startswith('/data/local-files/?d=set/') and 'annotations' not in first
    assert first['predictions'][0]['result'][0]['from_name'] == 'label'
    config = (exported / 'label_config.xml').read_text()
    assert '<BrushLabels name="label" toName="image"><Label value="nucleus" />' in config
    for image in json.loads(nuclei.json_file.read_text())['images']:
        link = exported / 'images' / image['file_name']
        assert link.is_symlink() and os.path.samefile(link, nuclei.images / image['file_name'])


def test_instances_and_semantic_maps_together_are_all_of_it(coco, tmp_path):
    """Nothing is lost: things from one export, stuff from the other."""
    both = tmp_path / 'both'
    both.mkdir()
    things = coco.export(tmp_path / 'things', 'coco-instances')
    maps = coco.export(tmp_path / 'maps', 'semantic-png')
    for place in (things / 'instances.json', things / 'images', maps / 'semantic', maps / 'categories.json'):
        (both / place.name).symlink_to(place)
    IMPORT.main(['coco-semantic', str(both), str(tmp_path / 'out'), '--workers', '1'])
    found = read_imported(tmp_path / 'out')
    for file, masks in coco.seen().items():
        expected = {}
        for name, those in masks.items():
            expected.setdefault(name.removesuffix(' crowd'), []).extend(those)
        assert same(found[file].seen, expected)
