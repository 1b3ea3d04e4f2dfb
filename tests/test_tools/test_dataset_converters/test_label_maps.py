import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.repo import load_tool
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mmpanoptic.datasets import CocoPanopticDataset
from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.utils import DatasetError, UserError

CATEGORIES = [
    {'id': 4, 'name': 'road', 'isthing': 0},
    {'id': 1, 'name': 'car', 'isthing': 1},
    {'id': 2, 'name': 'bike', 'isthing': 1},
    {'id': 9, 'name': 'sky', 'isthing': 0},
]
TOOL = load_tool('dataset_converters/label_maps')


class Data:
    """Folders of images, label maps and semantic maps, filled image by image."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.args = Namespace(
            images=root / 'images',
            labels=root / 'labels',
            out_json=root / 'out' / 'panoptic.json',
            semantic=None,
            categories=None,
            panoptic_dir=None,
            workers=1,
        )
        for folder in ('images', 'labels', 'semantic'):
            (root / folder).mkdir()

    def add(self, name: str, labels: np.ndarray, semantic: np.ndarray | None = None, suffix: str = '.png') -> None:
        height, width = labels.shape
        cv2.imwrite(str(self.root / 'images' / name), np.full((height, width, 3), 90, np.uint8))
        stem = Path(name).stem
        self.write_map(self.root / 'labels' / f'{stem}{suffix}', labels)
        if semantic is not None:
            self.write_map(self.root / 'semantic' / f'{stem}.png', semantic.astype(np.uint8))

    @staticmethod
    def write_map(path: Path, array: np.ndarray) -> None:
        if path.suffix == '.npy':
            np.save(path, array)
        else:
            Image.fromarray(array).save(path)

    def use_categories(self, categories: list[dict], semantic: bool) -> None:
        self.args.categories = self.root / 'categories.json'
        self.args.categories.write_text(json.dumps(categories))
        self.args.semantic = self.root / 'semantic' if semantic else None

    def run(self) -> tuple[dict, dict[str, np.ndarray]]:
        """The JSON and, by file name, the decoded PNGs."""
        TOOL.run(self.args)
        folder = self.args.panoptic_dir or self.args.out_json.with_suffix('')
        maps = {path.name: decode_panoptic_png(path.read_bytes(), path.name) for path in folder.glob('*.png')}
        return json.loads(self.args.out_json.read_text()), maps


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path)


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]).astype(np.int64), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


LABELS = np.array([[0, 0, 7, 7], [0, 300, 7, 7], [0, 300, 300, 0]], np.uint16)


@pytest.mark.parametrize(('dtype', 'suffix'), [(np.uint16, '.png'), (np.uint16, '.tif'), (np.int64, '.npy')])
def test_label_map_alone(data: Data, capsys: pytest.CaptureFixture, dtype: type, suffix: str):
    scale = 2**40 if suffix == '.npy' else 1
    data.add('b.jpg', LABELS.astype(dtype) * scale, suffix=suffix)
    data.add('a.bmp', np.zeros((2, 5), np.uint8))
    data.add('c.png', np.full((2, 2), 1, np.uint8))
    content, maps = data.run()

    assert content['images'] == [
        {'id': 1, 'file_name': 'a.bmp', 'width': 5, 'height': 2},
        {'id': 2, 'file_name': 'b.jpg', 'width': 4, 'height': 3},
        {'id': 3, 'file_name': 'c.png', 'width': 2, 'height': 2},
    ]
    assert [a['file_name'] for a in content['annotations']] == ['a.png', 'b.png', 'c.png']
    assert [(c['name'], c['isthing']) for c in content['categories']] == [('object', 1), ('background', 0)]
    segments = content['annotations'][1]['segments_info']
    assert [(s['category_id'], s['area'], s['bbox'], s['iscrowd']) for s in segments] == [
        (2, 5, [0, 0, 4, 3], 0),
        (1, 4, [2, 0, 2, 2], 0),
        (1, 3, [1, 1, 2, 2], 0),
    ]
    for segment, value in zip(segments, (0, 7, 300), strict=True):
        np.testing.assert_array_equal(maps['b.png'] == segment['id'], value == LABELS)
    assert [s['category_id'] for s in content['annotations'][2]['segments_info']] == [1]
    printed = capsys.readouterr().out
    assert '3 images, segments: 3 object, 2 background' in printed
    snippet = eval(printed.strip().splitlines()[-1].rstrip(',').replace('dataset=', '', 1), {'dict': dict})
    dataset = CocoPanopticDataset(**{k: v for k, v in snippet.items() if k != 'type'}, pipeline=[])
    assert len(dataset) == 3 and dataset.metainfo['classes'] == ('object', 'background')


@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.sampled_from(range(9))))
def test_any_label_map_keeps_its_partition(labels: np.ndarray):
    id_map, category_of_id = TOOL.to_panoptic(labels, None, TOOL.DEFAULT_CATEGORIES, 'x')
    assert same_partition(id_map, labels)
    assert (id_map > 0).all()
    for segment in np.unique(id_map):
        assert category_of_id[segment] == (1 if labels[id_map == segment].all() else 2)


@given(st.data())
def test_any_semantic_map_follows_the_rules(data: st.DataObject):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=7))
    labels = data.draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 3, 5])))
    semantic = data.draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 4, 9])))
    for value in {3, 5} & set(labels.flat):
        semantic[tuple(np.argwhere(labels == value)[0])] = data.draw(st.sampled_from([1, 2]))
    id_map, category_of_id = TOOL.to_panoptic(labels, semantic, CATEGORIES, 'x')

    for value in {3, 5} & set(labels.flat):
        (segment,) = np.unique(id_map[labels == value])
        assert (id_map == segment).sum() == (labels == value).sum()
        ones, twos = ((semantic[labels == value] == thing).sum() for thing in (1, 2))
        assert category_of_id[segment] == (1 if ones >= twos else 2)
    free = labels == 0
    category_map = np.vectorize({0: 0, **category_of_id}.get)(id_map)
    np.testing.assert_array_equal(category_map[free], np.where(np.isin(semantic, [4, 9]), semantic, 0)[free])


def test_semantic_maps(data: Data):
    semantic = np.array([[4, 4, 1, 1], [4, 4, 4, 1], [0, 2, 1, 9]])
    labels = np.array([[0, 0, 7, 7], [0, 8, 7, 7], [0, 8, 0, 0]], np.uint8)
    data.add('12.png', labels, semantic)
    data.add('007.png', np.zeros((2, 2), np.uint8), np.full((2, 2), 9))
    data.use_categories(CATEGORIES, semantic=True)
    content, maps = data.run()
    assert [image['id'] for image in content['images']] == [7, 12]
    assert content['categories'] == CATEGORIES
    segments = content['annotations'][1]['segments_info']
    assert [(s['category_id'], s['area']) for s in segments] == [(4, 3), (9, 1), (1, 4), (2, 2)]
    np.testing.assert_array_equal(maps['12.png'] == 0, [[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0]])
    assert [s['category_id'] for s in content['annotations'][0]['segments_info']] == [9]


@pytest.mark.parametrize(
    'image', [np.zeros((3, 4), np.uint8), np.zeros((3, 4), np.uint16), np.zeros((3, 4, 4), np.uint8)]
)
def test_images_of_any_depth(data: Data, image: np.ndarray):
    data.add('a.png', LABELS)
    cv2.imwrite(str(data.args.images / 'a.png'), image)
    content, _ = data.run()
    assert (content['images'][0]['width'], content['images'][0]['height']) == (4, 3)


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.tif'])
def test_size_is_that_of_the_image_as_it_is_loaded(data: Data, name: str):
    data.add(name, LABELS)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new('RGB', (3, 4)).save(data.args.images / name, exif=exif)
    content, _ = data.run()
    assert (content['images'][0]['width'], content['images'][0]['height']) == (4, 3)


def test_palette_png_is_read_as_indices(data: Data):
    data.add('a.png', LABELS)
    palette = Image.frombytes('P', (4, 3), (LABELS % 5).astype(np.uint8).tobytes())
    palette.putpalette([10, 20, 30] * 256)
    palette.save(data.args.labels / 'a.png')
    _, maps = data.run()
    assert same_partition(maps['a.png'], LABELS % 5)


def test_stems_that_are_not_all_different_integers():
    assert TOOL.image_ids(['3', '10']) == [3, 10]
    assert TOOL.image_ids(['3', 'x']) == [1, 2]
    assert TOOL.image_ids(['3', '03']) == [1, 2]


def _break(data: Data, how: str) -> None:
    labels, images = data.args.labels, data.args.images
    if how == 'no images':
        data.args.images = data.root / 'nowhere'
    elif how == 'no label':
        (labels / 'a.png').unlink()
    elif how == 'no image':
        (images / 'a.png').unlink()
    elif how == 'empty':
        for path in images.iterdir():
            path.unlink()
    elif how == 'size':
        data.write_map(labels / 'a.png', np.zeros((4, 4), np.uint8))
    elif how == 'rgb':
        data.write_map(labels / 'a.png', np.zeros((3, 4, 3), np.uint8))
    elif how == 'truncated':
        (labels / 'a.png').write_bytes((labels / 'a.png').read_bytes()[:-30])
    elif how == 'negative':
        (labels / 'a.png').unlink()
        np.save(labels / 'a.npy', np.full((3, 4), -1))
    elif how == 'float':
        (labels / 'a.png').unlink()
        np.save(labels / 'a.npy', np.zeros((3, 4)))
    elif how == 'no picture':
        (images / 'a.png').write_text('hello')
    elif how == 'twice':
        (images / 'a.jpg').write_bytes((images / 'a.png').read_bytes())
    elif how == 'unknown value':
        data.use_categories(CATEGORIES, semantic=True)
        data.write_map(data.root / 'semantic' / 'a.png', np.full((3, 4), 77, np.uint8))
    elif how == 'no thing pixel':
        data.use_categories(CATEGORIES, semantic=True)
        data.write_map(data.root / 'semantic' / 'a.png', np.full((3, 4), 4, np.uint8))
    elif how == 'needs semantic':
        data.use_categories(CATEGORIES, semantic=False)
    elif how == 'no thing':
        data.use_categories(CATEGORIES[:1], semantic=True)


@pytest.mark.parametrize(
    ('how', 'message'),
    [
        ('no images', 'nowhere is no folder'),
        ('no label', r'1 of 2 files have no label map, first .*images/a\.png: add .*labels/a\.\*'),
        ('no image', r'1 of 2 files have no image, first .*labels/a\.png'),
        ('empty', 'images is empty'),
        ('size', r'labels/a\.png is 4x4 \(height x width\), a\.png is 3x4: wrong file'),
        ('rgb', r'labels/a\.png is uint8 of shape \(3, 4, 3\): maps are integers and have one channel'),
        ('truncated', r'labels/a\.png cannot be decoded'),
        ('negative', r'labels/a\.npy holds -1'),
        ('float', r'labels/a\.npy is float64'),
        ('no picture', r'images/a\.png cannot be decoded as an image'),
        ('twice', r'a\.jpg and a\.png differ in their suffix only'),
        ('unknown value', r'semantic/a\.png: semantic value 77 is no category'),
        ('no thing pixel', r'semantic/a\.png: instance 7 has no pixel of a thing category'),
        ('needs semantic', '2 thing and 2 stuff categories.*give --semantic'),
        ('no thing', 'has no thing category'),
    ],
)
def test_what_does_not_fit_is_refused(data: Data, how: str, message: str):
    for name in ('a.png', 'b.png'):
        data.add(name, LABELS, np.where(LABELS, 1, 9))
    _break(data, how)
    with pytest.raises((DatasetError, UserError), match=message) as error:
        data.run()
    assert '\n' not in str(error.value)
    assert not (data.root / 'out').exists() or not list((data.root / 'out').glob('[!.]*'))


def test_real_nuclei(data: Data, shared_data: Path, repo_root: Path):
    source = shared_data / 'nuclei' / 'val'
    names = sorted(path.name for path in (source / 'images').iterdir())[::25]
    for folder in ('images', 'labels'):
        for name in names:
            (data.root / folder / name).symlink_to(source / folder / name)
    data.args.categories = repo_root / 'configs/_base_/datasets/nuclei_categories.json'
    content, maps = data.run()
    assert [image['file_name'] for image in content['images']] == names and len(names) == 3
    nuclei = 0
    for annotation in content['annotations']:
        labels = cv2.imread(str(source / 'labels' / annotation['file_name']), cv2.IMREAD_UNCHANGED)
        assert same_partition(maps[annotation['file_name']], labels)
        of_category = {s['id']: s['category_id'] for s in annotation['segments_info']}
        assert {of_category[i] for i in np.unique(maps[annotation['file_name']][labels > 0])} == {1}
        assert {of_category[i] for i in np.unique(maps[annotation['file_name']][labels == 0])} == {2}
        nuclei += len(np.unique(labels)) - 1
    assert sum(s['category_id'] == 1 for a in content['annotations'] for s in a['segments_info']) == nuclei


def test_command_line(data: Data, repo_root: Path):
    for i in range(4):
        data.add(f'{i}.png', np.roll(LABELS, i, axis=1))
    data.run()
    out = data.args.out_json.parent
    before = {path.name: path.read_bytes() for path in out.rglob('[!.]*') if path.is_file()}

    def call(*arguments: Path | str) -> subprocess.CompletedProcess:
        script = repo_root / 'tools' / 'dataset_converters' / 'label_maps.py'
        return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, cwd=repo_root)

    again = call(data.args.images, data.args.labels, data.args.out_json, '--workers', '3')
    assert again.returncode == 0, again.stderr
    assert {path.name: path.read_bytes() for path in out.rglob('[!.]*') if path.is_file()} == before

    Data.write_map(data.args.labels / '2.png', np.zeros((9, 9), np.uint8))
    failed = call(data.args.images, data.args.labels, data.root / 'other.json', '--workers', '2')
    assert failed.returncode == 1
    assert failed.stderr.startswith('error: ') and failed.stderr.count('\n') == 1
    assert not (data.root / 'other.json').exists() and not (data.root / 'other').exists()
