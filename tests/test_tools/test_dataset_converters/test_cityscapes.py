import json
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from fixtures.cityscapes import HEIGHT, TREE, WIDTH, make_cityscapes_tree
from helpers.repo import load_tool
from PIL import Image

from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.utils import DatasetError

NAME = 'frankfurt/frankfurt_000000_000294'


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('dataset_converters/cityscapes')


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_cityscapes_tree(tmp_path)


def args(root: Path, *split: str) -> Namespace:
    return Namespace(root=root, split=split or ('val',), workers=1)


def stamps(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob('[!.]*') if path.is_file()}


@pytest.mark.parametrize('split', list(TREE))
def test_same_as_the_original_script(cityscapes_root: Path, tmp_path: Path, split: str):
    convert2panoptic(str(cityscapes_root / 'gtFine'), str(tmp_path), False, [split])
    name = f'cityscapes_panoptic_{split}'
    original = json.loads((tmp_path / f'{name}.json').read_text())
    ours = json.loads((cityscapes_root / 'gtFine' / f'{name}.json').read_text())
    assert {key: ours[key] for key in original} == original
    pngs = {path.name: path.read_bytes() for path in (tmp_path / name).glob('*.png')}
    assert len(pngs) == len(TREE[split])
    assert {path.name: path.read_bytes() for path in (cityscapes_root / 'gtFine' / name).glob('*.png')} == pngs


def test_contents(cityscapes_root: Path):
    content = json.loads((cityscapes_root / 'gtFine' / 'cityscapes_panoptic_val.json').read_text())
    things = [c['name'] for c in content['categories'] if c['isthing']]
    assert things == ['person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle']
    assert len(content['categories']) == 19
    assert [image['id'] for image in content['images']] == list(TREE['val'])
    annotation = content['annotations'][0]
    segments = {s['id']: s for s in annotation['segments_info']}
    assert {i for i in segments if i >= 1000} == {24000, 25000, 26000, 26001, 33000}
    assert segments[24]['iscrowd'] == 1 and sum(s['iscrowd'] for s in segments.values()) == 1
    assert {i for i in segments if i < 24} == {7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23}
    png = cityscapes_root / 'gtFine' / 'cityscapes_panoptic_val' / annotation['file_name']
    ids = decode_panoptic_png(png.read_bytes(), png.name)
    assert ids.shape == (HEIGHT, WIDTH)
    assert {int(i): int((ids == i).sum()) for i in np.unique(ids) if i} == {i: s['area'] for i, s in segments.items()}
    assert (ids[60:, 30:60] == 0).all()  # ego vehicle


def test_instance_and_label_maps_are_made_from_polygons(cityscapes_root: Path):
    folder = cityscapes_root / 'gtFine' / 'val' / 'frankfurt'
    instances = cv2.imread(str(folder / 'frankfurt_000000_000294_gtFine_instanceIds.png'), cv2.IMREAD_UNCHANGED)
    labels = cv2.imread(str(folder / 'frankfurt_000000_000294_gtFine_labelIds.png'), cv2.IMREAD_UNCHANGED)
    assert (instances.dtype, labels.dtype) == (np.uint16, np.uint8)
    np.testing.assert_array_equal(np.where(instances >= 1000, instances // 1000, instances), labels)
    assert len(list(folder.iterdir())) == 3  # nothing else is left


def test_second_run_does_nothing_and_a_changed_set_is_made_again(
    tree: Path, tool: ModuleType, capsys: pytest.CaptureFixture
):
    tool.run(args(tree, 'train', 'val'))
    before = stamps(tree)
    capsys.readouterr()
    tool.run(args(tree, 'train', 'val'))
    assert stamps(tree) == before
    assert 'cityscapes_panoptic_val.json is complete (2 images)' in capsys.readouterr().out

    shutil.rmtree(tree / 'gtFine' / 'val' / 'lindau')
    shutil.rmtree(tree / 'leftImg8bit' / 'val' / 'lindau')
    tool.run(args(tree, 'val'))
    assert len(list((tree / 'gtFine' / 'cityscapes_panoptic_val').glob('*.png'))) == 1


def test_existing_instance_maps_are_used_without_polygons(tree: Path, tool: ModuleType):
    instances = np.full((HEIGHT, WIDTH), 7, np.uint8)  # 8 bits, which the original script cannot take with numpy 2
    path = tree / 'gtFine' / 'val' / f'{NAME}_gtFine_instanceIds.png'
    Image.fromarray(instances).save(path)
    (tree / 'gtFine' / 'val' / f'{NAME}_gtFine_polygons.json').unlink()
    before = path.read_bytes()
    tool.run(args(tree))
    content = json.loads((tree / 'gtFine' / 'cityscapes_panoptic_val.json').read_text())
    assert [s['category_id'] for s in content['annotations'][0]['segments_info']] == [7]
    assert path.read_bytes() == before
    assert not path.with_name(path.name.replace('instanceIds', 'labelIds')).exists()


def _break(tree: Path, how: str) -> None:
    polygons = tree / 'gtFine' / 'val' / f'{NAME}_gtFine_polygons.json'
    instances = tree / 'gtFine' / 'val' / f'{NAME}_gtFine_instanceIds.png'
    image = tree / 'leftImg8bit' / 'val' / f'{NAME}_leftImg8bit.png'
    if how == 'no folder':
        shutil.rmtree(tree / 'leftImg8bit')
    elif how == 'empty':
        for folder in ('leftImg8bit', 'gtFine'):
            shutil.rmtree(tree / folder / 'val')
            (tree / folder / 'val').mkdir()
    elif how == 'no image':
        image.unlink()
    elif how == 'no annotation':
        polygons.unlink()
    elif how == 'label':
        polygons.write_text(polygons.read_text().replace('"caravan"', '"spaceship"'))
    elif how == 'json':
        polygons.write_text(polygons.read_text()[:100])
    elif how == 'size':
        Image.new('RGB', (8, 8)).save(image)
    elif how == 'id':
        Image.fromarray(np.full((HEIGHT, WIDTH), 77, np.uint16)).save(instances)
    elif how == 'truncated':
        Image.fromarray(np.random.default_rng(0).integers(7, 9, (HEIGHT, WIDTH), np.uint16)).save(instances)
        instances.write_bytes(instances.read_bytes()[:-300])


@pytest.mark.parametrize(
    ('how', 'message'),
    [
        ('no folder', 'leftImg8bit/val is no folder: ROOT must hold'),
        ('empty', 'holds no CITY/'),
        ('no image', f'leftImg8bit/val lacks 1 of the 2 images of .*gtFine/val, first {NAME}'),
        ('no annotation', f'gtFine/val lacks 1 of the 2 images of .*leftImg8bit/val, first {NAME}'),
        ('label', "_polygons.json: cityscapesscripts refuses it: Label 'spaceship' not known"),
        ('json', '_polygons.json cannot be read'),
        ('size', r'_instanceIds.png is 64x96 \(height x width\), its image 8x8'),
        ('id', r'_instanceIds.png: cityscapesscripts fails on it \(KeyError'),
        ('truncated', '_instanceIds.png cannot be decoded as an image'),
    ],
)
def test_what_does_not_fit_is_refused(tree: Path, tool: ModuleType, how: str, message: str):
    _break(tree, how)
    with pytest.raises(DatasetError, match=message) as error:
        tool.run(args(tree))
    assert '\n' not in str(error.value)
    assert not [path for path in tree.glob('gtFine/*panoptic*') if path.suffix != '.lock']
    assert not list(tree.glob('gtFine/val/*/.*'))


def test_command_line(tree: Path, cityscapes_root: Path, repo_root: Path):
    script = repo_root / 'tools' / 'dataset_converters' / 'cityscapes.py'

    def call(*arguments: Path | str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, cwd=repo_root)

    result = call(tree, '--workers', '2')
    assert result.returncode == 0, result.stderr
    for split in TREE:
        name = f'gtFine/cityscapes_panoptic_{split}'
        assert (tree / f'{name}.json').read_bytes() == (cityscapes_root / f'{name}.json').read_bytes()
        assert len(list((tree / name).glob('*.png'))) == len(TREE[split])
    assert 'Converting val' in result.stdout and 'Progress:' not in result.stdout

    failed = call(tree / 'nowhere')
    assert failed.returncode == 1
    assert failed.stderr.startswith('error: ') and failed.stderr.count('\n') == 1
