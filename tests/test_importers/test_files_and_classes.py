"""Files of a folder that are damaged, and which categories are classes."""

import json
from pathlib import Path

import pytest
from helpers.labelled import BY_HAND, NAMES
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
