"""What is of one split does not get into another; what is left out is listed."""

import json
from pathlib import Path

import pytest
import yaml
from helpers.labelled import BY_HAND
from helpers.labelled_maps import write_label_maps, write_voc
from helpers.repo import load_tool

from mmpanoptic.importers.mapillary import read_labels
from mmpanoptic.importers.sources import split_of
from mmpanoptic.importers.splits import split_names
from mmpanoptic.utils import DatasetError, UserError

TOOL = load_tool('dataset_converters/import')


def run(name: str, source: Path, out: Path, *more: str) -> dict:
    TOOL.main([name, str(source), str(out), '--workers', '1', *more])
    return json.loads((out / 'import_report.json').read_text())


def test_the_year_of_a_split():
    names = ('train2014', 'Val2014', 'test2015', 'training', 'train', '2014', 'val2')
    assert list(map(split_of, names)) == ['train', 'val', 'test', 'train', 'train', None, None]


def test_several_lists_of_voc_for_one_split(tmp_path):
    source = write_voc(tmp_path)
    lists = source / 'ImageSets' / 'Segmentation'
    lists.mkdir(parents=True, exist_ok=True)
    for path in lists.glob('*.txt'):
        path.unlink()
    for name in 'bcd':
        for folder in ('JPEGImages', 'SegmentationClass', 'SegmentationObject'):
            (first,) = (source / folder).glob('a.*')
            (source / folder / f'{name}{first.suffix}').write_bytes(first.read_bytes())
    (lists / 'part1.txt').write_text('a\nb\n')
    (lists / 'part2.txt').write_text('c\nd\n')
    assert run('voc', source, tmp_path / 'out')['splits']['train']['images'] == 4


def test_frames_of_cityscapes_stay_together():
    names = [f'{clip}_{frame:06d}_leftImg8bit.png' for clip in 'abcde' for frame in range(4)]
    split = split_names(names, 0.6, 'group')
    assert all(len({split[name] for name in names if name[0] == clip}) == 1 for clip in 'abcde')


@pytest.mark.parametrize(
    'text',
    [
        '[' * 200000,
        json.dumps({'labels': [{'name': 'a', 'readable': ['x'], 'color': [0, 0, 0], 'instances': True}]}),
        json.dumps({'labels': [{'name': 'a', 'readable': 'x', 'color': 7, 'instances': False}]}),
        json.dumps({'labels': 7}),
        json.dumps({'labels': ['x']}),
    ],
)
def test_damaged_configuration_of_mapillary(text, tmp_path):
    (tmp_path / 'config.json').write_text(text)
    with pytest.raises(DatasetError, match='is not the configuration of Mapillary Vistas'):
        read_labels(tmp_path / 'config.json')


def test_paths_of_another_machine_in_a_list_of_yolo(tmp_path):
    (tmp_path / 'in').mkdir()
    source = BY_HAND['yolo-seg'][0](tmp_path / 'in')
    (tmp_path / 'in' / 'train.txt').write_text('./train/images/a.png\n\n/home/u/E/images/b.png\n')
    content = yaml.safe_load(source.read_text())
    source.write_text(yaml.safe_dump(content | {'train': 'train.txt'}))
    report = run('yolo-seg', source, tmp_path / 'out', '--stuff', 'sky')
    assert [(one['file'], one['what']) for one in report['left_out']] == [
        (str(tmp_path / 'in' / 'train.txt'), 'line 3')
    ]
    source.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match='the folder that the paths of the YAML are relative to'):
        run('yolo-seg', source, tmp_path / 'out', '--images', str(tmp_path / 'in' / 'train' / 'images'))


def test_two_splits_may_have_one_name(tmp_path):
    (tmp_path / 'in').mkdir()
    source = tmp_path / 'in'
    (tmp_path / 'made').mkdir()
    made = write_label_maps(tmp_path / 'made')
    for split in ('train', 'val'):
        for folder in (path for path in made.iterdir() if path.is_dir()):
            (file,) = folder.iterdir()
            (source / split / folder.name).mkdir(parents=True)
            for name in '01':
                (source / split / folder.name / f'{name}{file.suffix}').write_bytes(file.read_bytes())
    if (made / 'categories.json').is_file():
        (source / 'categories.json').write_bytes((made / 'categories.json').read_bytes())
    run('label-maps', source, tmp_path / 'out')
    ids = []
    for split in ('train', 'val'):
        for name in ('0.png', '1.png'):
            assert (tmp_path / 'out' / split / name).resolve() == source / split / 'images' / name
        content = json.loads((tmp_path / f'out/annotations/panoptic_{split}.json').read_text())
        ids += [one['id'] for one in content['images']]
    assert len(set(ids)) == 4
    with pytest.raises(DatasetError, match='would both be called'):
        run('label-maps', source, tmp_path / 'again', '--split', '0.5')


def test_one_image_is_not_of_two_splits(tmp_path):
    (tmp_path / 'in').mkdir()
    source = BY_HAND['yolo-seg'][0](tmp_path / 'in')
    content = yaml.safe_load(source.read_text())
    source.write_text(yaml.safe_dump(content | {'val': content['train']}))
    with pytest.raises(DatasetError, match=r'train/images/a\.png is in the splits train and val: name each image'):
        run('yolo-seg', source, tmp_path / 'out')
