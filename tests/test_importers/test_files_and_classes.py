"""Files of a folder that are damaged, and which categories are classes."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.labelled import BY_HAND, NAMES, SIZE, dump, read_imported, save_image
from helpers.labelled_maps import AS_MAPS, SEEN, save_map
from helpers.repo import load_tool

from mmpanoptic.datasets import CocoInstanceDataset
from mmpanoptic.utils import UserError

TOOL = load_tool('dataset_converters/import')


def run(name: str, source: Path, out: Path, *more: str) -> dict:
    TOOL.main([name, str(source), str(out), '--workers', '1', *more])
    return json.loads((out / 'import_report.json').read_text())


@pytest.fixture
def coco(tmp_path) -> Path:
    (tmp_path / 'in').mkdir()
    return BY_HAND['coco-instances'][0](tmp_path / 'in') and next((tmp_path / 'in').rglob('instances_default.json'))


@pytest.mark.parametrize('text', ['{"images": [', '[]', '{"images": [], "categories": []}'])
def test_a_damaged_instances_json_of_a_folder_is_an_error(text, coco, tmp_path):
    coco.with_name('instances_val.json').write_text(text)
    coco.with_name('captions_val.json').write_text('{')
    with pytest.raises(UserError, match=r'instances_val\.json'):
        run('coco-instances', tmp_path / 'in', tmp_path / 'out')


def test_another_json_that_cannot_be_read_is_listed(coco, tmp_path):
    coco.rename(coco.with_name('a.json'))
    broken = coco.with_name('b.json')
    broken.write_text('{"images": [')
    coco.with_name('list.json').write_text('[]')
    (left,) = run('coco-instances', tmp_path / 'in', tmp_path / 'out')['left_out']
    assert left['file'] == str(broken) and 'JSON' in left['reason']
    coco.with_name('a.json').unlink()
    with pytest.raises(UserError, match=r'holds no JSON with .*b\.json'):
        run('coco-instances', tmp_path / 'in', tmp_path / 'out')


def test_training_and_import_have_the_same_classes(coco, tmp_path):
    """A parent of one that nothing uses is a class, but for the one that Roboflow adds."""
    content = json.loads(coco.read_text())
    content['categories'].append({'id': 9, 'name': 'vehicle', 'supercategory': ''})
    content['categories'][NAMES.index('car')]['supercategory'] = 'vehicle'
    coco.write_text(json.dumps(content))
    report = run('coco-instances', coco, tmp_path / 'out')
    dataset = CocoInstanceDataset(ann_file=str(coco), data_prefix=dict(img=str(tmp_path / 'in' / 'images')))
    assert [one['name'] for one in report['categories']] == [*dataset.metainfo['classes']] == [*NAMES, 'vehicle']


def two_cells(root: Path, semantic: bool = True) -> Path:
    """A cell of 10x10 in a sky that fills the rest; label maps have no categories.json."""
    labels, classes = np.zeros(SIZE, np.uint8), np.full(SIZE, 2, np.uint8)
    labels[2:12, 2:12], classes[2:12, 2:12] = 1, 1
    save_image(root / 'images' / 'a.png')
    save_map(root / 'labels' / 'a.png', labels)
    if semantic:
        save_map(root / 'semantic' / 'a.png', classes)
    return root


@pytest.mark.parametrize('semantic', [True, False])
@pytest.mark.parametrize('option', ['--stuff', '--background'])
def test_stuff_of_listed_classes_is_no_void(option, semantic, tmp_path):
    source = two_cells(tmp_path / 'in', semantic)
    (tmp_path / 'names.txt').write_text('cell\nsky\n')
    arguments = ['--categories', str(tmp_path / 'names.txt')]
    part = run('label-maps', source, tmp_path / 'out', *arguments, option, 'sky')['splits']['train']
    assert part['void_share'] == 0 and part['segments'] == {'cell': 1, 'sky': 1}
    if not semantic:
        with pytest.raises(UserError, match=r'add .*in/semantic'):
            run('label-maps', source, tmp_path / 'out', *arguments)


@pytest.mark.parametrize('given', [True, False])
def test_stuff_overrules_what_the_categories_say(given, tmp_path):
    source = two_cells(tmp_path / 'in')
    names = [{'id': 1, 'name': 'cell', 'isthing': 1}, {'id': 2, 'name': 'sky', 'isthing': 1}]
    file = dump((tmp_path if given else source) / 'categories.json', names)
    more = ['--categories', str(file)] if given else []
    part = run('label-maps', source, tmp_path / 'out', '--stuff', 'sky', *more)['splits']['train']
    assert part['void_share'] == 0 and part['segments'] == {'cell': 1, 'sky': 1}


@pytest.mark.parametrize('given', [True, False])
def test_a_thing_without_instances_in_maps_is_void(given, coco, tmp_path):
    """categories.json calls the car a thing, the instances JSON knows the person alone."""
    root = tmp_path / 'in'
    content = json.loads(coco.read_text())
    person = NAMES.index('person') + 1
    content['categories'] = [one for one in content['categories'] if one['id'] == person]
    content['annotations'] = [one for one in content['annotations'] if one['category_id'] == person]
    coco.write_text(json.dumps(content))
    values = np.zeros(SIZE, np.uint8)
    for number, name in enumerate(NAMES, 1):
        values[SEEN[name]] = number
    save_map(root / 'semantic' / 'a.png', values)
    listed = [{'id': number, 'name': name, 'isthing': int(name != 'sky')} for number, name in enumerate(NAMES, 1)]
    dump(root / 'categories.json', listed)
    more = ['--categories', str(root / 'categories.json')] if given else []
    report = run('coco-semantic', root, tmp_path / 'out', *more)
    (image,) = read_imported(tmp_path / 'out').values()
    assert {one['name']: one['isthing'] for one in report['categories']} == {'sky': 0, 'car': 1, 'person': 1}
    assert 'car' not in image.seen and 'car' not in image.drawn and {'sky', 'person'} <= image.seen.keys()
    run('coco-semantic', root, tmp_path / 'out', *more, '--stuff', 'sky,car')
    (image,) = read_imported(tmp_path / 'out').values()
    assert len(image.seen['car']) == 1 and 'car' not in image.drawn


def test_a_listed_thing_of_stuffthingmaps_is_void(tmp_path):
    """Of the first 91 classes those are left out that nobody calls a thing."""
    root = tmp_path / 'in'
    root.mkdir()
    AS_MAPS['coco-semantic'][0](root)
    (path,) = root.rglob('instances*.json')
    content = json.loads(path.read_text())
    car = next(one['id'] for one in content['categories'] if one['name'] == 'car')
    content['categories'] = [one for one in content['categories'] if one['id'] != car]
    content['annotations'] = [one for one in content['annotations'] if one['category_id'] != car]
    path.write_text(json.dumps(content))
    rows = [row.split(': ') for row in (root / 'labels.txt').read_text().splitlines() if not row.startswith('0')]
    things = {one['name'] for one in content['categories']} | {'car'}
    listed = [{'id': int(number), 'name': name, 'isthing': int(name in things)} for number, name in rows]
    file = dump(tmp_path / 'listed.json', listed)
    run('coco-semantic', root, tmp_path / 'out', '--categories', str(file))
    (image,) = read_imported(tmp_path / 'out').values()
    assert 'car' not in image.seen and 'person' in image.seen
