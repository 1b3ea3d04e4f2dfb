"""Classes of models that others trained."""

import json
from pathlib import Path

import pytest
from mmdet.datasets import CocoPanopticDataset
from mmengine.config import Config

from mmpanoptic.apis.categories import meta_of_model
from mmpanoptic.formats.coco_categories import coco_meta
from mmpanoptic.utils import UserError

COCO = CocoPanopticDataset.METAINFO
ALL, THINGS = tuple(COCO['thing_classes'] + COCO['stuff_classes']), tuple(COCO['thing_classes'])


def test_the_table_is_that_of_the_distributed_file(shared_data: Path):
    """Ids, names and kinds of all 133 categories, and that things come first."""
    distributed = json.loads((shared_data / 'coco_panoptic_sample/panoptic.json').read_text())['categories']
    expected = {(c['id'], c['name'], bool(c['isthing'])) for c in distributed}
    for with_stuff, number in ((True, 133), (False, 80)):
        meta = coco_meta(with_stuff)
        found = {(c['id'], c['name'], c['isthing']) for c in meta['categories']}
        assert found == {one for one in expected if with_stuff or one[2]} and len(meta['classes']) == number
        assert [c['name'] for c in sorted(meta['categories'], key=lambda c: c['label'])] == list(meta['classes'])
    assert coco_meta(True)['classes'] == ALL


@pytest.mark.parametrize('names', [ALL, THINGS], ids=['panoptic', 'instances'])
@pytest.mark.parametrize('version', ['3.x', '3.0rc', '2.x'])
def test_coco_by_its_names(names, version):
    """As checkpoints of mmdet name them; there is no file of the data."""
    metas = {
        '3.x': dict(dataset_meta=dict(classes=list(names), palette=[])),
        '3.0rc': dict(dataset_meta=dict(CLASSES=names)),
        '2.x': dict(CLASSES=list(names)),
    }
    found = meta_of_model(metas[version], Config(), 'a.pth')
    assert found == coco_meta(with_stuff=names is ALL)


def config_with(path: Path, split: str = 'val') -> Config:
    return Config({f'{split}_dataloader': dict(dataset=dict(data_root=str(path.parent), ann_file=path.name))})


@pytest.mark.parametrize('split', ['test', 'val', 'train'])
@pytest.mark.parametrize('names', [(), ('cell', 'sky')])
def test_ids_come_from_the_data_of_the_config(tmp_path, split, names):
    path = tmp_path / 'panoptic.json'
    path.write_text(
        json.dumps(dict(categories=[dict(id=7, name='sky', isthing=0), dict(id=3, name='cell', isthing=1)]))
    )
    found = meta_of_model(dict(CLASSES=names), config_with(path, split), 'a.pth')
    assert found['classes'] == ('cell', 'sky')
    assert {c['name']: c['id'] for c in found['categories']} == {'sky': 7, 'cell': 3}


def test_an_instances_json_has_things_alone(tmp_path):
    path = tmp_path / 'instances.json'
    path.write_text(json.dumps(dict(categories=[dict(id=5, name='nut'), dict(id=9, name='bolt')])))
    found = meta_of_model({}, config_with(path), 'a.pth')
    assert found['thing_classes'] == ('nut', 'bolt') and found['stuff_classes'] == ()


def test_data_of_other_classes_tells_nothing(tmp_path):
    path = tmp_path / 'panoptic.json'
    path.write_text(json.dumps(dict(categories=[dict(id=3, name='cell', isthing=1)])))
    found = meta_of_model(dict(CLASSES=('nut', 'bolt')), config_with(path), 'a.pth')
    assert found == dict(classes=('nut', 'bolt'))
    assert meta_of_model(dict(CLASSES=ALL), config_with(path), 'a.pth') == coco_meta(True)


def test_what_the_checkpoint_says_comes_first(tmp_path):
    told = dict(classes=('a',), categories=[dict(id=1, name='a', isthing=True, label=0)], palette=[(1, 2, 3)])
    assert meta_of_model(dict(dataset_meta=told), Config(), 'a.pth') == told


def test_no_names_at_all():
    with pytest.raises(UserError, match=r'a\.pth has no class names'):
        meta_of_model({}, Config(), 'a.pth')
