"""Overlaps, fillings, groups, splits, classes, and the folder that is written."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from helpers.labelled import BY_HAND, NAMES, SIZE, read_imported, same, save_image
from helpers.repo import load_tool, one_error_of
from PIL import Image
from pycocotools import mask as rle

from mmpanoptic.engine import cli
from mmpanoptic.formats.brush_rle import decode_brush, encode_brush
from mmpanoptic.formats.contours import mask_loops, mask_polygon
from mmpanoptic.importers import LabelledImage, Labels, Plan, Shape, decide, split_names, write_dataset
from mmpanoptic.importers.rasterise import rasterise, with_holes
from mmpanoptic.utils import DatasetError, UserError

TOOL = load_tool('dataset_converters/import')


def box(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def filled(mask: list | dict, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, str | None]:
    encoded, reason = rasterise(mask, size, 'x')
    return rle.decode(encoded).astype(bool), reason


@pytest.mark.parametrize('density', [0.05, 0.3, 0.5, 0.7, 0.95, 1])
def test_the_polygon_of_a_mask_is_filled_to_the_mask(density):
    """Whatever its parts, holes and corners that touch; and no pixel of it is in doubt."""
    rng = np.random.default_rng(int(100 * density))
    for _ in range(100):
        size = tuple(int(side) for side in rng.integers(1, 16, 2))
        mask = rng.random(size) < density
        polygon = mask_polygon(mask)
        assert bool(polygon) == mask.any()
        if not mask.any():
            continue
        assert np.array_equal(rle.decode(rle.frPyObjects([polygon], *size))[..., 0].astype(bool), mask)
        assert filled([polygon], size)[1] is None
        signed = 0
        for x, y in (loop.T for loop in mask_loops(mask)):
            assert ((np.diff(x, append=x[0]) == 0) != (np.diff(y, append=y[0]) == 0)).all()
            signed += (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2
        assert signed == mask.sum()  # holes run the other way


def test_the_brush_is_packed_and_unpacked():
    rng = np.random.default_rng(0)
    for size, density in (((1, 1), 1), ((7, 5), 0.5), ((64, 70), 0.02), ((300, 300), 1), ((200, 100), 0)):
        mask = rng.random(size) < density
        packed = encode_brush(mask)
        assert all(type(value) is int and 0 <= value < 256 for value in packed)
        assert np.array_equal(decode_brush(packed, *size, 'x'), mask)
        with pytest.raises(DatasetError, match='x has a brush mask'):
            decode_brush(packed[:-2], *size, 'x')
        with pytest.raises(DatasetError, match=r'of [0-9]+ values'):
            decode_brush(packed, size[0] + 1, size[1], 'x')


def test_a_small_loop_does_not_cost_the_object():
    """Clicks that go back a pixel: what is in doubt is little, and pycocotools' rule fills it."""
    polygon = [2, 2, 25, 2, 25, 17, 12, 17, 12, 15, 13, 15, 13, 17.5, 2, 17]
    mask, reason = filled([polygon])
    assert reason is None
    assert np.array_equal(mask, rle.decode(rle.frPyObjects([polygon], *SIZE))[..., 0].astype(bool))


@pytest.mark.parametrize('turned', [False, True])
def test_what_crosses_itself_is_no_mask(turned):
    points = [(2, 2), (12, 12), (12, 2), (2, 12)]
    twice = [(2, 2), (20, 2), (20, 18), (2, 18)] * 2  # surrounded twice: even-odd fills nothing
    for polygon in (points, twice):
        flat = [value for point in (polygon[::-1] if turned else polygon) for value in point]
        mask, reason = filled([flat])
        assert reason.startswith('its outline crosses itself') and mask.any()


def test_holes_are_holes_whatever_their_direction():
    outline, hole = box(2, 2, 20, 18), box(5, 5, 9, 9)
    expected = np.zeros(SIZE, bool)
    expected[2:18, 2:20] = True
    expected[5:9, 5:9] = False
    for turned in (hole, hole[:2] + hole[6:] + hole[4:6] + hole[2:4]):
        mask, reason = filled([with_holes(outline, [turned])])
        assert reason is None and np.array_equal(mask, expected)


def make_labels(root: Path, names: list[str], shapes: list[Shape], **more: object) -> Labels:
    for name in names:
        save_image(root / name)
    images = [LabelledImage(root / name, name, 'labels', shapes, **more) for name in names]
    return Labels(images, [{'name': name} for name in NAMES])


def written(labels: Labels, out: Path, order: str = 'area', stuff: tuple = ('sky',), **more: object) -> dict:
    categories = decide(labels.classes, stuff, more.get('background'), 'x')
    write_dataset(labels, out, Plan(categories, order, workers=1, **more))
    return read_imported(out)


def test_equal_areas_are_drawn_in_the_order_of_the_file(tmp_path):
    shapes = [Shape('car', [box(2, 2, 10, 10)], 'a'), Shape('car', [box(6, 2, 14, 10)], 'b')]
    (image,) = written(make_labels(tmp_path / 'in', ['a.png'], shapes), tmp_path / 'out').values()
    assert sorted(mask.sum() for mask in image.seen['car']) == [32, 64]
    assert [mask.sum() for mask in image.drawn['car']] == [64, 64]


def test_things_lie_on_stuff_and_on_crowds(tmp_path):
    shapes = [
        Shape('car', [box(2, 2, 20, 18)], 'large'),
        Shape('sky', [box(4, 4, 6, 6)], 'a small piece of stuff'),
        Shape('car', [box(8, 4, 10, 6)], 'a small crowd', is_crowd=True),
    ]
    (image,) = written(make_labels(tmp_path / 'in', ['a.png'], shapes), tmp_path / 'out').values()
    assert image.seen.keys() == {'car'} and [mask.sum() for mask in image.seen['car']] == [18 * 16]
    report = json.loads((tmp_path / 'out' / 'import_report.json').read_text())['splits']['train']
    assert report['hidden_instances'] == 1 and report['instances'] == 2 and report['overlapping_pixels'] == 8


def test_parts_of_a_group_are_one_instance_of_one_class(tmp_path):
    shapes = [
        Shape('car', [box(2, 2, 4, 4)], 'a', group='1', z=1),
        Shape('person', [box(8, 2, 10, 4)], 'b', group='1'),
        Shape('car', [box(20, 2, 22, 4)], 'c', group='1', z=5),
        Shape('car', [box(20, 10, 22, 12)], 'd', group='2'),
        Shape('car', [box(2, 2, 22, 4)], 'e', z=3),
    ]
    (image,) = written(make_labels(tmp_path / 'in', ['a.png'], shapes), tmp_path / 'out', 'z').values()
    assert sorted(mask.sum() for mask in image.drawn['car']) == [4, 8, 40]
    assert sorted(mask.sum() for mask in image.seen['car']) == [4, 8, 32]  # the group's greatest z counts


def test_a_class_that_is_not_listed_is_void(tmp_path):
    (tmp_path / 'in').mkdir()
    source = BY_HAND['labelme'][0](tmp_path / 'in')
    (tmp_path / 'classes.txt').write_text('person\nsky\nbus\n')
    more = ['--categories', tmp_path / 'classes.txt', '--stuff', 'sky', '--background', 'ground', '--workers', '1']
    TOOL.main(['labelme', *map(str, (source, tmp_path / 'out', *more))])
    report = json.loads((tmp_path / 'out' / 'import_report.json').read_text())
    assert [one['name'] for one in report['categories']] == ['person', 'sky', 'bus', 'ground']
    assert report['left_out'][0]['reason'] == f"its class 'car' is not in {tmp_path / 'classes.txt'}"
    (image,) = read_imported(tmp_path / 'out').values()
    assert (image.ids == 0).any() and 'ground' in image.seen


@pytest.mark.parametrize('by', ['image', 'group', 'folder'])
def test_splits_do_not_depend_on_chance_or_order(by):
    names = [f'{folder}/clip{clip}_{frame:03d}.jpg' for folder in 'abcde' for clip in (1, 2) for frame in range(5)]
    split = split_names(names, 0.8, by)
    shuffled = random.Random(0).sample(names, len(names))
    assert split == split_names(shuffled, 0.8, by) and split.keys() == set(names)
    assert sum(one == 'train' for one in split.values()) == 40
    together = {'folder': lambda name: name[0], 'group': lambda name: name[:7], 'image': lambda name: name}[by]
    for key in set(map(together, names)):
        assert len({split[name] for name in names if together(name) == key}) == 1
    for few in (['a', 'b'], ['a', 'b', 'c']):
        assert set(split_names(few, 0.99).values()) == set(split_names(few, 0.01).values()) == {'train', 'val'}


def test_splits_that_cannot_be(tmp_path):
    with pytest.raises(UserError, match='all 2 images are of one folder'):
        split_names(['a/1', 'a/2'], 0.5, 'folder')
    for share in (0, 1, -1, float('nan')):
        with pytest.raises(UserError, match='is no share of the images'):
            split_names(['a', 'b'], share)


def test_a_split_is_written(tmp_path):
    names = [f'{number}.png' for number in range(10)]
    labels = make_labels(tmp_path / 'in', names, [Shape('car', [box(2, 2, 9, 9)], 'a')])
    written(labels, tmp_path / 'out', split_of=split_names(names, 0.7))
    parts = [read_imported(tmp_path / 'out', split) for split in ('train', 'val')]
    assert [len(part) for part in parts] == [7, 3] and {*parts[0], *parts[1]} == set(names)
    ids = [
        {one['id'] for one in json.loads((tmp_path / f'out/annotations/panoptic_{split}.json').read_text())['images']}
        for split in ('train', 'val')
    ]
    assert not ids[0] & ids[1]


def test_classes(tmp_path):
    classes = [{'id': 3, 'name': 'a'}, {'id': 9, 'name': 'b'}]
    assert [(one['id'], one['isthing']) for one in decide(classes, ['b'], 'c', 'x')] == [(3, 1), (9, 0), (10, 0)]
    assert [one['id'] for one in decide([{'id': 0, 'name': 'a'}, {'id': 1, 'name': 'b'}], None, None, 'x')] == [1, 2]
    assert [one['isthing'] for one in decide(classes, None, 'b', 'x')] == [1, 0]
    with pytest.raises(UserError, match="'car' is no class of x: its classes are 'a', 'b'"):
        decide(classes, ['car'], None, 'x')
    with pytest.raises(UserError, match="'a' is a thing in x"):
        decide([{'name': 'a', 'isthing': 1}], None, 'a', 'x')


def test_who_is_there_is_asked_once(monkeypatch, capsys):
    classes = [{'name': name} for name in NAMES]
    assert TOOL.ask_stuff(classes, None) is None
    assert 'All classes are things, as --stuff names none: sky, car, person' in capsys.readouterr().out
    monkeypatch.setattr('sys.stdin.isatty', lambda: True, raising=False)
    monkeypatch.setattr('builtins.input', lambda text: ' sky,  car ')
    assert TOOL.ask_stuff(classes, None) == ['sky', 'car']
    assert TOOL.ask_stuff(classes, []) == []
    assert TOOL.ask_stuff([{'name': 'a', 'isthing': 1}], None) is None


def test_images_are_linked_or_copied_and_nothing_else_is_replaced(tmp_path, monkeypatch, capsys):
    (tmp_path / 'in').mkdir()
    source = BY_HAND['labelme'][0](tmp_path / 'in')
    out = tmp_path / 'out'
    arguments = ['labelme', str(source), str(out), '--workers', '1']
    TOOL.main(arguments)
    assert (out / 'train' / 'a.png').is_symlink()
    TOOL.main([*arguments, '--copy-images'])
    assert not (out / 'train' / 'a.png').is_symlink()
    assert (out / 'train' / 'a.png').read_bytes() == (source / 'a.png').read_bytes()
    (out / 'mine.txt').write_text('mine')
    with pytest.raises(SystemExit):
        cli.run(lambda: TOOL.main(arguments))
    assert 'mine.txt' in one_error_of(capsys.readouterr().err) and (out / 'mine.txt').read_text() == 'mine'


def test_what_was_imported_is_no_source(tmp_path):
    (tmp_path / 'in').mkdir()
    source = BY_HAND['coco-instances'][0](tmp_path / 'in')
    (source.parent / 'captions.json').write_text('{"images": [{"id": 7}], "annotations": [{"caption": "a"}]}')
    for _ in range(2):
        TOOL.main(['coco-instances', str(tmp_path / 'in'), str(tmp_path / 'in' / 'out'), '--workers', '1'])
        assert read_imported(tmp_path / 'in' / 'out').keys() == {'a.png'}


def test_an_image_is_as_large_as_it_is_loaded(tmp_path):
    """Turned, as tools for labelling show it and training loads it, where EXIF says so."""
    (tmp_path / 'in').mkdir()
    source = BY_HAND['labelme'][0](tmp_path / 'in')
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', SIZE).save(source / 'a.png', exif=exif)  # width 20 and height 30, turned by 90 degrees
    TOOL.main(['labelme', str(source), str(tmp_path / 'out'), '--workers', '1', '--stuff', 'sky'])
    (image,) = read_imported(tmp_path / 'out').values()
    assert same(image.seen, BY_HAND['labelme'][1])


def test_names_that_meet(tmp_path):
    """Folders are part of an image's name; PNGs lie in one folder, so theirs differ otherwise."""
    names = ['a/1.png', 'b/1.png', 'a_1.png']
    labels = make_labels(tmp_path / 'in', names, [Shape('car', [box(2, 2, 9, 9)], 'a')])
    found = written(labels, tmp_path / 'out')
    assert found.keys() == set(names)
    twice = Labels([*labels.images, labels.images[0]], labels.classes)
    with pytest.raises(DatasetError, match=r'occurs twice, and both would be called a/1\.png'):
        written(twice, tmp_path / 'out')
    with pytest.raises(UserError, match="a split cannot be called 'annotations'"):
        written(make_labels(tmp_path / 'in', names, [], split='annotations'), tmp_path / 'other')


def test_roboflow_writes_a_parent_and_three_folders(tmp_path):
    for split, number in (('train', 2), ('valid', 1)):
        for index in range(number):
            save_image(tmp_path / 'in' / split / f'{split}{index}.png')
        images = [{'id': i, 'file_name': f'{split}{i}.png', 'height': SIZE[0], 'width': SIZE[1]} for i in range(number)]
        annotations = [
            {'id': i, 'image_id': i, 'category_id': 1, 'bbox': [2, 2, 7, 7], 'segmentation': [box(2, 2, 9, 9)]}
            for i in range(number)
        ]
        categories = [
            {'id': 0, 'name': 'nuclei', 'supercategory': 'none'},
            {'id': 1, 'name': 'nucleus', 'supercategory': 'nuclei'},
        ]
        content = dict(images=images, annotations=annotations, categories=categories)
        (tmp_path / 'in' / split / '_annotations.coco.json').write_text(json.dumps(content))
    out = tmp_path / 'out'
    TOOL.main(['coco-instances', str(tmp_path / 'in'), str(out), '--workers', '1'])
    report = json.loads((out / 'import_report.json').read_text())
    assert [one['name'] for one in report['categories']] == ['nucleus']
    assert report['splits']['train']['images'] == 2 and report['splits']['val']['images'] == 1
    assert {one['what'] for one in report['left_out']} == {"class 'nuclei'"}
    assert read_imported(out, 'val')['valid0.png'].seen['nucleus'][0].sum() == 49
