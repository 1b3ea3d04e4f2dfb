import json
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from fixtures.mapillary import HEIGHT, LABELS, THINGS, WIDTH, config_json, instance_map, make_mapillary_tree
from helpers.repo import load_tool
from PIL import Image
from pycocotools import mask as rle

from mmpanoptic.utils import DatasetError

TOOL = load_tool('dataset_converters/mapillary')


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_mapillary_tree(tmp_path / 'vistas')


def args(root: Path, *split: str) -> Namespace:
    return Namespace(root=root, split=split or ('training',), workers=1)


def read(root: Path, split: str = 'training') -> dict:
    return json.loads((root / 'annotations' / f'instances_{split}.json').read_text())


def test_classes_are_the_labels_with_instances(mapillary_root: Path):
    categories = read(mapillary_root)['categories']
    assert [c['name'] for c in categories] == THINGS
    for category in categories:
        label = config_json()['labels'][category['id'] - 1]
        assert (category['supercategory'], category['color']) == (label['name'], label['color'])
    assert read(mapillary_root, 'validation')['categories'] == categories


def test_instances_are_the_values_of_the_png(mapillary_root: Path):
    content = read(mapillary_root)
    assert content['images'] == [
        {'id': key, 'file_name': f'{key}.jpg', 'width': WIDTH, 'height': HEIGHT} for key in ('_A1', 'b-2', 'zC')
    ]
    assert {a['image_id'] for a in content['annotations']} == {'_A1', 'zC'}
    assert [a['id'] for a in content['annotations']] == list(range(1, 9))
    for key, seed in (('_A1', 0), ('zC', 2)):
        values = instance_map(seed, True)
        annotations = [a for a in content['annotations'] if a['image_id'] == key]
        expected = [7, 256 * 2, 256 * 2 + 1, 256 * 3 + 255]
        assert [a['category_id'] for a in annotations] == [1, 3, 3, 4]
        for annotation, value in zip(annotations, expected, strict=True):
            mask = rle.decode(annotation['segmentation'])
            np.testing.assert_array_equal(mask, values == value)
            ys, xs = np.nonzero(values == value)
            assert annotation['bbox'] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert (annotation['area'], annotation['iscrowd']) == (len(ys), 0)


def test_the_archive_of_v2_is_read_with_the_classes_of_v1_2(tree: Path, mapillary_root: Path):
    (tree / 'config.json').rename(tree / 'config_v1.2.json')
    (tree / 'config_v2.0.json').write_text(json.dumps({'labels': []}))
    for split in ('training', 'validation'):
        (tree / split / 'v1.2').mkdir()
        (tree / split / 'instances').rename(tree / split / 'v1.2' / 'instances')
        (tree / split / 'v2.0').mkdir()
    TOOL.run(args(tree, 'training', 'validation'))
    for split in ('training', 'validation'):
        assert read(tree, split) == read(mapillary_root, split)


def test_second_run_does_nothing(tree: Path, capsys: pytest.CaptureFixture):
    TOOL.run(args(tree))
    path = tree / 'annotations' / 'instances_training.json'
    before = path.stat().st_mtime_ns
    printed = capsys.readouterr().out
    assert '3 of 5 labels have instances' in printed and 'training: 3 images, 8 instances' in printed
    TOOL.run(args(tree))
    assert path.stat().st_mtime_ns == before and 'is complete (3 images)' in capsys.readouterr().out
    for folder, suffix in (('images', 'jpg'), ('instances', 'png')):
        (tree / 'training' / folder / f'zC.{suffix}').unlink()
    TOOL.run(args(tree))
    assert len(read(tree)['images']) == 2


def _break(tree: Path, how: str) -> None:
    png, jpg = tree / 'training' / 'instances' / 'zC.png', tree / 'training' / 'images' / 'zC.jpg'
    config = config_json()
    if how == 'no config':
        (tree / 'config.json').unlink()
    elif how == 'no json':
        (tree / 'config.json').write_text('{')
    elif how == 'no key':
        del config['labels'][0]['readable']
    elif how == 'no thing':
        for label in config['labels']:
            label['instances'] = False
    elif how == 'alike':
        config['labels'][2]['readable'] = 'Bird'
    elif how == 'no folder':
        shutil.rmtree(tree / 'training' / 'instances')
    elif how == 'no map':
        png.unlink()
    elif how == 'no image':
        jpg.unlink()
    elif how == 'empty':
        for folder in ('images', 'instances'):
            shutil.rmtree(tree / 'training' / folder)
            (tree / 'training' / folder).mkdir()
    elif how == 'size':
        Image.new('RGB', (HEIGHT, WIDTH)).save(jpg)
    elif how == 'rgb':
        Image.new('RGB', (WIDTH, HEIGHT)).save(png)
    elif how == 'label':
        Image.fromarray(np.full((HEIGHT, WIDTH), 256 * len(LABELS) + 3, np.uint16)).save(png)
    elif how == 'truncated':
        Image.fromarray(np.random.default_rng(0).integers(0, 999, (HEIGHT, WIDTH)).astype(np.uint16)).save(png)
        png.write_bytes(png.read_bytes()[:-300])
    if how in ('no key', 'no thing', 'alike'):
        (tree / 'config.json').write_text(json.dumps(config))


@pytest.mark.parametrize(
    ('how', 'message'),
    [
        ('no config', 'vistas holds neither config.json nor config_v1.2.json'),
        ('no json', 'config.json is not the configuration of Mapillary Vistas'),
        ('no key', r"config.json is not the configuration of Mapillary Vistas \(KeyError\('readable'\)"),
        ('no thing', 'marks none of its 5 labels `instances`'),
        ('alike', 'two labels with instances are `readable` alike'),
        ('no folder', 'training/instances is no folder: ROOT must hold training/images/'),
        ('no map', 'training/instances lacks 1 of the 3 images of .*training/images, first zC'),
        ('no image', 'training/images lacks 1 of the 3 images of .*training/instances, first zC'),
        ('empty', 'training/images holds no'),
        ('size', r'zC.png is 24x40 \(height x width\), its image 40x24'),
        ('rgb', r'zC.png is of shape \(24, 40, 3\)'),
        ('label', 'zC.png holds 1283, that is label 5; the configuration has 5 labels'),
        ('truncated', 'zC.png cannot be decoded as an image'),
    ],
)
def test_what_does_not_fit_is_refused(tree: Path, how: str, message: str):
    _break(tree, how)
    with pytest.raises(DatasetError, match=message) as error:
        TOOL.run(args(tree))
    assert '\n' not in str(error.value)
    assert not list((tree / 'annotations').glob('[!.]*'))


def test_command_line(tree: Path, mapillary_root: Path, repo_root: Path):
    def call(*arguments: Path | str) -> subprocess.CompletedProcess:
        script = repo_root / 'tools' / 'dataset_converters' / 'mapillary.py'
        return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, cwd=repo_root)

    result = call(tree, '--workers', '2')
    assert result.returncode == 0, result.stderr
    for split in ('training', 'validation'):
        assert read(tree, split) == read(mapillary_root, split)
    failed = call(tree / 'nowhere')
    assert failed.returncode == 1
    assert failed.stderr.startswith('error: ') and failed.stderr.count('\n') == 1
