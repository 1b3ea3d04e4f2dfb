"""What is of one split does not get into another; what is left out is listed."""

import json
from pathlib import Path

import pytest
import yaml
from helpers.labelled import BY_HAND, SIZE, dump, read_imported, save_image
from helpers.labelled_maps import write_label_maps, write_voc
from helpers.repo import load_tool

from mmpanoptic.importers.mapillary import read_labels
from mmpanoptic.importers.sources import ImageFinder, split_of
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


def of_two_splits(name: str, root: Path) -> Path:
    """Images a.png and b.png of train, labels of these and of val's a.png, which is missing."""
    for one in 'ab':
        save_image(root / 'train' / ('img' if name == 'supervisely' else '') / f'{one}.png')
    shape = {'height': SIZE[0], 'width': SIZE[1]}
    for split, image in (('train', 'a'), ('train', 'b'), ('val', 'a')):
        if name == 'labelme':
            content = {'imageHeight': SIZE[0], 'imageWidth': SIZE[1], 'imagePath': f'{image}.png', 'shapes': []}
            dump(root / split / f'{image}.json', content)
        elif name == 'cityscapes-polygons':
            content = {'imgHeight': SIZE[0], 'imgWidth': SIZE[1], 'objects': []}
            dump(root / 'gtFine' / split / f'{image}_polygons.json', content)
        elif name == 'supervisely':
            dump(root / split / 'ann' / f'{image}.png.json', {'size': shape, 'objects': []})
    if name == 'supervisely':
        dump(root / 'meta.json', {'classes': [{'title': 'car', 'shape': 'polygon'}]})
    if name == 'coco-instances':
        for split, images in (('train', 'ab'), ('val', 'a')):
            listed = [{'id': number, 'file_name': f'{one}.png', **shape} for number, one in enumerate(images)]
            content = {'images': listed, 'annotations': [], 'categories': [{'id': 1, 'name': 'car'}]}
            dump(root / 'annotations' / f'instances_{split}.json', content)
        (root / 'train').rename(root / 'moved')
        (root / 'images').mkdir()
        (root / 'moved').rename(root / 'images' / 'train')
    return root


@pytest.mark.parametrize('given', [False, True])
@pytest.mark.parametrize('name', ['coco-instances', 'labelme', 'cityscapes-polygons', 'supervisely'])
def test_an_image_of_another_split_is_not_taken(name, given, tmp_path):
    """A picture of train under the masks of val would be a wrong label."""
    source = of_two_splits(name, tmp_path / 'data')
    if name == 'cityscapes-polygons':
        dump(
            source / 'gtFine' / 'train' / 'c_polygons.json',
            {'imgHeight': 20, 'imgWidth': 30, 'objects': [{'label': 'thing', 'polygon': [[2, 2], [9, 2], [9, 9]]}]},
        )
        save_image(source / 'train' / 'c.png')
    if name == 'labelme':
        shape = {'label': 'car', 'shape_type': 'polygon', 'points': [[2, 2], [9, 2], [9, 9]]}
        content = {'imageHeight': SIZE[0], 'imageWidth': SIZE[1], 'imagePath': 'c.png', 'shapes': [shape]}
        dump(source / 'train' / 'c.json', content)
        save_image(source / 'train' / 'c.png')
    more = ['--images', str(source)] if given else []
    report = run(name, source, tmp_path / 'out', *more)
    assert report['splits'].keys() == {'train'}
    assert any('a' in one['what'] for one in report['left_out'])
    assert 'b.png' in {Path(one).name for one in read_imported(tmp_path / 'out')}


def test_the_split_in_a_name_counts(tmp_path):
    save_image(tmp_path / 'train' / '1.png')
    finder = ImageFinder(tmp_path, [])
    with pytest.raises(DatasetError, match=r'no such image is in .* but that of another split, .*train/1\.png'):
        finder.find('val/1.png', 'x')
    for name, split in (('elsewhere/1.png', None), ('1.png', 'train'), ('train/1.png', 'val')):  # the last as it says
        assert finder.find(name, 'x', split) == (tmp_path / 'train' / '1.png', 'train/1.png')


def test_two_records_of_one_image(tmp_path):
    """Nobody knows which of them it is."""
    (tmp_path / 'in').mkdir()
    source = BY_HAND['cvat'][0](tmp_path / 'in')
    save_image(tmp_path / 'in' / 'images' / 'b.png')
    text = source.read_text()
    start, end = text.index('<image '), text.index('</annotations>')
    one = text[start:end]
    others = [one.replace('a.png', name) for name in ('/x/a.png', 'b.png')]
    source.write_text(text[:end] + ''.join(others).replace('/x/', 'images/') + text[end:])
    link = tmp_path / 'in' / 'images' / 'images'
    link.mkdir()
    (link / 'a.png').symlink_to(tmp_path / 'in' / 'images' / 'a.png')
    report = run('cvat', source, tmp_path / 'out', '--stuff', 'sky')
    assert read_imported(tmp_path / 'out').keys() == {'b.png'}
    assert [one['what'] for one in report['left_out']] == ['image a.png', 'image images/a.png']


def test_an_image_of_another_city_is_not_taken(tmp_path):
    """Of one split and without labels there; a folder of all images serves all cities."""
    for image in ('aachen/1', 'bochum/2'):
        save_image(tmp_path / 'in' / 'leftImg8bit' / f'{image}.png')
        save_image(tmp_path / 'flat' / f'{image[-1]}.png')
    for name in ('bochum/1', 'bochum/2'):
        objects = [{'label': 'thing', 'polygon': [[2, 2], [9, 2], [9, 9]]}]
        content = {'imgHeight': SIZE[0], 'imgWidth': SIZE[1], 'objects': objects}
        dump(tmp_path / 'in' / 'gtFine' / f'{name}_polygons.json', content)
    run('cityscapes-polygons', tmp_path / 'in', tmp_path / 'out')
    assert [Path(name).name for name in read_imported(tmp_path / 'out')] == ['2.png']
    run('cityscapes-polygons', tmp_path / 'in', tmp_path / 'all', '--images', str(tmp_path / 'flat'))
    assert read_imported(tmp_path / 'all').keys() == {'1.png', '2.png'}


def test_a_json_of_one_split_takes_no_image_of_another(tmp_path):
    """images/val/1.png is missing; images/train/1.png is of the same name."""
    for place in ('train/1.png', 'val/2.png'):
        save_image(tmp_path / 'in/images' / place)
    images = [{'id': i, 'file_name': f'{i}.png', 'height': SIZE[0], 'width': SIZE[1]} for i in (1, 2)]
    content = {'images': images, 'annotations': [], 'categories': [{'id': 1, 'name': 'car'}]}
    dump(tmp_path / 'in/annotations/instances_val.json', content)
    report = run('coco-instances', tmp_path / 'in', tmp_path / 'out')
    assert report['splits']['val']['images'] == 1
    (one,) = report['left_out']
    assert '1.png' in one['reason']


def test_a_subset_of_cvat_takes_no_image_of_another(tmp_path):
    for place in ('Train/1.png', 'Validation/2.png'):
        save_image(tmp_path / 'in/images' / place)
    size = f'width="{SIZE[1]}" height="{SIZE[0]}"'
    images = ''.join(f'<image id="{i}" name="{i}.png" subset="Validation" {size}/>' for i in (1, 2))
    (tmp_path / 'in/annotations.xml').write_text(
        f'<annotations><meta><task><labels><label><name>car</name></label></labels></task></meta>{images}</annotations>'
    )
    report = run('cvat', tmp_path / 'in', tmp_path / 'out')
    assert report['splits']['val']['images'] == 1
    (one,) = report['left_out']
    assert '1.png' in one['reason']
