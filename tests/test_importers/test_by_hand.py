"""Files that were written to the specifications of their formats."""

import json

import numpy as np
import pytest
from helpers.labelled import BY_HAND, NAMES, SCENE, SIZE, read_imported, same
from helpers.repo import load_tool

from mmpanoptic.datasets import CocoPanopticDataset

TOOL = load_tool('dataset_converters/import')


@pytest.mark.parametrize('name', BY_HAND)
def test_the_map_is_the_truth(name, tmp_path):
    write, expected = BY_HAND[name]
    source = write(tmp_path / 'in') if not (tmp_path / 'in').mkdir() else None
    out = tmp_path / 'out'
    TOOL.main([name, str(source), str(out), '--stuff', 'sky', '--workers', '1'])
    (image,) = read_imported(out).values()
    assert same(image.seen, expected)
    assert same(image.drawn, {area.name: [area.mask] for area in SCENE if area.name != 'sky'})
    report = json.loads((out / 'import_report.json').read_text())
    part = report['splits']['train']
    assert report['left_out'] == []
    masks = np.stack([area.mask for area in SCENE])
    assert part['overlapping_pixels'] == (masks.sum(0) > 1).sum()
    assert part['void_share'] == (~masks.any(0)).mean()
    assert part['segments'] == dict.fromkeys(NAMES, 1)


@pytest.mark.parametrize('name', BY_HAND)
def test_a_dataset_reads_it_with_data_root_alone(name, tmp_path):
    (tmp_path / 'in').mkdir()
    source = BY_HAND[name][0](tmp_path / 'in')
    TOOL.main([name, str(source), str(tmp_path / 'out'), '--stuff', 'sky', '--background', 'ground', '--workers', '1'])
    dataset = CocoPanopticDataset(
        data_root=str(tmp_path / 'out'),
        ann_file='annotations/panoptic_train.json',
        inst_ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/', seg='annotations/panoptic_train/'),
    )
    assert len(dataset) == 1 and set(dataset.metainfo['thing_classes']) == {'car', 'person'}
    assert set(dataset.metainfo['stuff_classes']) == {'sky', 'ground'}
    (image,) = read_imported(tmp_path / 'out').values()
    unlabelled = ~np.any([area.mask for area in SCENE], axis=0)
    assert np.array_equal(image.seen['ground'][0], unlabelled) and unlabelled.shape == SIZE


@pytest.mark.parametrize('order', ['area', 'z', 'file'])
def test_the_order_can_be_chosen(order, tmp_path):
    (tmp_path / 'in').mkdir()
    source = BY_HAND['cvat'][0](tmp_path / 'in')
    TOOL.main(['cvat', str(source), str(tmp_path / 'out'), '--stuff', 'sky', '--order', order, '--workers', '1'])
    (image,) = read_imported(tmp_path / 'out').values()
    # In the file the car comes last, which is on top then, as by z; by area the person is.
    expected = BY_HAND['coco-instances'][1] if order == 'area' else BY_HAND['cvat'][1]
    assert same(image.seen, expected)
