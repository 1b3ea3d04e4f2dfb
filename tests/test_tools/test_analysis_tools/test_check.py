"""tools/analysis_tools/check.py: what is printed, what is written, and with which status it ends."""

import json

import pytest
from helpers.panoptic_files import PanopticFiles
from helpers.repo import load_tool, run_main

from mmpanoptic.utils import UserError

TOOL = load_tool('analysis_tools/check')


@pytest.fixture
def files(tmp_path) -> PanopticFiles:
    return PanopticFiles(tmp_path)


@pytest.fixture
def check(monkeypatch, capsys, tmp_path):
    """Run the tool; returns its status, what it prints and what it writes."""

    def call(*args) -> tuple[int, str, dict]:
        status = 0
        try:
            run_main(TOOL, monkeypatch, *args, '--out', tmp_path / 'report.json')
        except SystemExit as ended:
            status = ended.code
        return status, capsys.readouterr().out, json.loads((tmp_path / 'report.json').read_text())

    return call


def test_a_panoptic_json(check, files, tmp_path):
    args = (tmp_path / 'panoptic.json', '--images', tmp_path / 'images')
    status, text, report = check(*args)
    assert status == 0 and 'no fault was found' in text and '│ stuff segments' in text and '│ road ' in text
    assert report['statistics']['data']['things'] == 3 and report['faults'] == {'data': {}}
    assert report['warnings'][0]['items'] == ['b.jpg']
    assert check(*args, '--workers', 2)[2] == report
    _, _, without = check(tmp_path / 'panoptic.json', '--panoptic-dir', tmp_path / 'panoptic')
    assert without == report  # images are as they should be


def test_an_instances_json(check, files, tmp_path):
    status, text, report = check(tmp_path / 'instances.json', '--images', tmp_path / 'images')
    assert status == 0 and '│ pairs of masks that overlap' in text and 'void' not in text
    assert report['statistics']['data']['overlaps']['pairs'] == 1


def test_boxes_alone(check, files, tmp_path):
    for annotation in files.instances['annotations']:
        del annotation['segmentation']
    files.save()
    status, _, report = check(tmp_path / 'instances.json')
    numbers = report['statistics']['data']
    assert status == 0 and numbers['things'] == 3 and numbers['overlaps'] is None
    assert (
        numbers['thing_pixels'][2] == sorted(a['area'] for a in files.instances['annotations'] if not a['iscrowd'])[1]
    )
    files.instances['annotations'][0]['segmentation'] = [[4, 10, 14, 10, 14, 20, 4, 20]]  # of some: forgotten
    files.save()
    assert check(tmp_path / 'instances.json')[0] == 1


def test_the_parent_category_of_roboflow(check, files, tmp_path):
    categories = [dict(one, supercategory='pets') for one in files.instances['categories']]
    files.instances['categories'] = [dict(id=0, name='pets', supercategory='none'), *categories]
    files.save()
    _, _, report = check(tmp_path / 'instances.json')
    assert [row['name'] for row in report['statistics']['data']['classes']] == ['cat', 'dog']


def test_many_faults(check, files, tmp_path):
    for annotation in files.panoptic['annotations']:
        for segment in annotation['segments_info']:
            segment |= dict(area=segment['area'] + 1, bbox=[0, 0, 1, 1])
    files.save()
    files.png(20).unlink()
    status, text, report = check(tmp_path / 'panoptic.json')
    lines = report['faults']['data']['panoptic PNGs']
    assert status == 1 and len(lines) == 2 * 7 + 1 and all(line in text for line in lines)
    assert 'no fault' not in text and f'error: data: {len(lines)} in panoptic PNGs:' in text


def test_the_list_ends_at_20(capsys):
    assert TOOL.listed(list('abc'), most=3) == '  a\n  b\n  c'
    assert TOOL.listed([str(i) for i in range(45)]).splitlines()[-2:] == ['  19', '  ... and 25 more']


def test_a_config(check, tiny_config, tiny_shapes, tmp_path):
    status, _, report = check(tiny_config)
    assert status == 0 and list(report['statistics']) == ['train', 'val']  # the test set is that of val
    assert report['statistics']['train']['images'] == 8
    path = tmp_path / 'wrapped.py'
    path.write_text(
        f"""_base_ = {str(tiny_config)!r}
images = _base_.train_dataloader.dataset
images.inst_ann_file = 'annotations/instances_train.json'
train_dataloader = dict(dataset=dict(
    _delete_=True, type='MultiImageMixDataset', pipeline=[dict(type='PanopticCopyPaste')],
    dataset=dict(type='ConcatDataset', datasets=[images, dict(images, ann_file='annotations/panoptic_val.json',
        data_prefix=dict(img='val/', seg='annotations/panoptic_val/'),
        inst_ann_file='annotations/instances_val.json')])))
del images
"""
    )
    _, _, report = check(path)
    assert list(report['statistics']) == ['train 1', 'train 2', 'val']
    assert report['statistics']['train 1']['overlaps']['pairs'] > 0
    options = ('--cfg-options', "train_dataloader.dataset.metainfo.classes=('cat','dog')")
    status, _, report = check(tiny_config, *options)
    assert status == 1 and 'are not the 2 of `metainfo.classes`' in report['faults']['train']['dataset'][0]


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (('panoptic.json', '--panoptic-dir', 'none'), 'none, the folder of the PNGs .* give --panoptic-dir'),
        (('panoptic.json', '--images', 'none'), 'none is no folder'),
        (('instances.json', '--panoptic-dir', 'panoptic'), 'leave out --panoptic-dir'),
        (('none.json',), 'does not exist'),
    ],
)
def test_errors(args, message, monkeypatch, files, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        run_main(TOOL, monkeypatch, *args)


def test_a_config_names_its_folders(monkeypatch, tiny_config):
    with pytest.raises(UserError, match='leave out --panoptic-dir and --images'):
        run_main(TOOL, monkeypatch, tiny_config, '--images', '.')
