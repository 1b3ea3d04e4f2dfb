import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmpanoptic.formats.panoptic_png import encode_panoptic_png
from mmpanoptic.formats.panoptic_writer import (
    PanopticItem,
    distinct_id,
    distinct_png_names,
    read_categories,
    segments_to_coco,
    write_panoptic,
)
from mmpanoptic.structures import MAX_ID
from mmpanoptic.utils import DatasetError, UserError

CATEGORIES = [{'id': 3, 'name': 'cell', 'isthing': 1}, {'id': 5, 'name': 'glass', 'isthing': 0}]
ID_MAPS = hnp.arrays(
    np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([0, 1, 7, 256, MAX_ID])
)


def item(image_id: int, name: str = '', size: int = 4) -> PanopticItem:
    id_map = np.full((size, size), image_id, np.int32)
    name = name or f'{image_id}'
    return PanopticItem(
        {'id': image_id, 'file_name': f'{name}.jpg', 'width': size, 'height': size},
        f'{name}.png',
        encode_panoptic_png(id_map),
        segments_to_coco(id_map, {image_id: 3}),
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('[!.]*') if path.is_file()}


def test_distinct_ids_are_distinct_and_never_void():
    ids = [distinct_id(k) for k in range(1, 20000)]
    assert len(set(ids)) == len(ids) and min(ids) > 0 and max(ids) <= MAX_ID
    assert distinct_id(MAX_ID) > 0 and distinct_id(MAX_ID + 1) == 0


def test_successive_ids_have_distant_colours():
    colours = np.array([[distinct_id(k) >> shift & 255 for shift in (0, 8, 16)] for k in range(1, 31)])
    distances = np.abs(colours[:, None] - colours[None]).max(-1)
    assert distances[~np.eye(30, dtype=bool)].min() >= 30


@given(ID_MAPS)
def test_segments_agree_with_masks(id_map: np.ndarray):
    category_of_id = {MAX_ID: 3, 1: 3, 256: 5, 7: 3, 99: 3}
    segments = segments_to_coco(id_map, category_of_id, crowd_ids=[7])
    assert [s['id'] for s in segments] == [i for i in category_of_id if (id_map == i).any()]
    for segment in segments:
        mask = id_map == segment['id']
        x, y, w, h = segment['bbox']
        assert segment['area'] == mask.sum() == mask[y : y + h, x : x + w].sum()
        inside = mask[y : y + h, x : x + w]
        assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
        assert segment['category_id'] == category_of_id[segment['id']]
        assert segment['iscrowd'] == (segment['id'] == 7)
    json.dumps(segments)  # no numpy numbers


def test_id_without_category_and_id_too_large():
    with pytest.raises(KeyError, match='8'):
        segments_to_coco(np.array([[0, 8]]), {7: 3})
    for bad in (MAX_ID + 1, -1):
        with pytest.raises(ValueError, match='24 bits'):
            encode_panoptic_png(np.array([[0, bad]]))


def test_write_lists_images_in_order_and_replaces_what_it_wrote(tmp_path: Path):
    out = tmp_path / 'annotations' / 'cells.json'
    write_panoptic(out, [item(9), item(2)], CATEGORIES)
    content = json.loads(out.read_text())
    assert [image['id'] for image in content['images']] == [9, 2]
    assert [a['image_id'] for a in content['annotations']] == [9, 2]
    assert content['categories'] == CATEGORIES
    assert content['annotations'][1]['segments_info'] == [
        {'id': 2, 'category_id': 3, 'area': 16, 'bbox': [0, 0, 4, 4], 'iscrowd': 0}
    ]
    png = cv2.imread(str(out.parent / 'cells' / '9.png'), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(png[0, 0], [0, 0, 9])  # BGR

    write_panoptic(out, [item(4)], CATEGORIES)
    assert set(files(tmp_path)) == {'annotations/cells.json', 'annotations/cells/4.png'}


@pytest.mark.parametrize('exists', [False, True])
def test_failure_leaves_everything_as_it_was(tmp_path: Path, exists: bool):
    out = tmp_path / 'cells.json'
    if exists:
        write_panoptic(out, [item(1)], CATEGORIES)
    before = files(tmp_path)

    def broken():
        yield item(2)
        raise DatasetError('broken')

    with pytest.raises(DatasetError, match='broken'):
        write_panoptic(out, broken(), CATEGORIES)
    assert files(tmp_path) == before
    shown = {path.name for path in tmp_path.iterdir() if path.suffix != '.lock'}
    assert shown == ({'cells', 'cells.json'} if exists else set())


def test_foreign_folders_are_never_replaced(tmp_path: Path):
    out, mine = tmp_path / 'cells.json', tmp_path / 'labels'
    mine.mkdir()
    (mine / '1.png').write_bytes(b'the only copy')
    with pytest.raises(
        UserError, match=r'labels is not empty .* say that the writer of cells\.json .* move the folder'
    ):
        write_panoptic(out, [item(1)], CATEGORIES, mine)
    # not even if the JSON lists files of these names, which it wrote elsewhere, or another JSON does
    write_panoptic(out, [item(1)], CATEGORIES)
    with pytest.raises(UserError, match='move the folder away'):
        write_panoptic(tmp_path / 'other.json', [item(1)], CATEGORIES, tmp_path / 'cells')
    with pytest.raises(UserError, match='move the folder away'):
        write_panoptic(out, [item(1)], CATEGORIES, mine)
    (tmp_path / 'cells' / 'notes.txt').write_text('')
    with pytest.raises(UserError, match=r'cells holds notes\.txt'):
        write_panoptic(out, [item(1)], CATEGORIES)
    assert (mine / '1.png').read_bytes() == b'the only copy'
    for text in ('{"images": []}', '[', '[1]'):
        (tmp_path / 'mine.json').write_text(text)
        with pytest.raises(UserError, match=r'mine\.json is there and was not written by mmpanoptic: move it away'):
            write_panoptic(tmp_path / 'mine.json', [item(1)], CATEGORIES)


def test_folder_and_json_may_move_together(tmp_path: Path):
    write_panoptic(tmp_path / 'a' / 'cells.json', [item(1)], CATEGORIES)
    (tmp_path / 'a').rename(tmp_path / 'b')
    write_panoptic(tmp_path / 'b' / 'cells.json', [item(2)], CATEGORIES)
    assert set(files(tmp_path)) == {'b/cells.json', 'b/cells/2.png'}


def test_repeated_images_and_names_are_refused(tmp_path: Path):
    with pytest.raises(DatasetError, match=r'image id 1 occurs twice \(b\.jpg\)'):
        write_panoptic(tmp_path / 'a.json', [item(1, 'a'), item(1, 'b')], CATEGORIES)
    with pytest.raises(DatasetError, match=r'PNG a\.png occurs twice'):
        write_panoptic(tmp_path / 'a.json', [item(1, 'a'), item(2, 'a')], CATEGORIES)
    with pytest.raises(UserError, match=r'does not end in \.json'):
        write_panoptic(tmp_path / 'a', [item(1)], CATEGORIES)
    assert not files(tmp_path)
    (tmp_path / 'b.json').mkdir()
    with pytest.raises(UserError, match=r'b\.json is a folder'):
        write_panoptic(tmp_path / 'b.json', [item(1)], CATEGORIES)


@pytest.mark.parametrize('wrap', [False, True])
def test_read_categories(tmp_path: Path, wrap: bool):
    path = tmp_path / 'c.json'
    path.write_text(json.dumps({'categories': CATEGORIES} if wrap else CATEGORIES))
    assert read_categories(path) == CATEGORIES


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('', 'cannot be read as JSON'),
        ('[]', 'no categories'),
        ('{"images": []}', 'no list of categories'),
        ('[{"id": 1, "name": "a"}]', 'isthing'),
        ('[{"id": 0, "name": "a", "isthing": 1}]', 'id 0 is no positive integer'),
        ('[{"id": "1", "name": "a", "isthing": 1}]', "id '1' is no positive integer"),
        ('[{"id": 1, "name": "a", "isthing": 1}, {"id": 1, "name": "b", "isthing": 0}]', 'twice'),
    ],
)
def test_bad_categories(tmp_path: Path, content: str, message: str):
    path = tmp_path / 'c.json'
    path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        read_categories(path)
    assert str(path) in str(error.value)


def test_images_of_one_name_have_pngs_of_their_own():
    names = ['1.png', '2.png', '1.png']
    items = [PanopticItem({'id': i, 'file_name': f'{i}/{name}'}, name, b'', []) for i, name in enumerate(names)]
    assert [item.png_name for item in distinct_png_names(items)] == ['0_1.png', '2.png', '2_1.png']
    assert [item.image for item in distinct_png_names(items)] == [item.image for item in items]
