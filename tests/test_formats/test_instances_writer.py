import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as rle

from mmpanoptic.formats.instances_writer import (
    InstanceItem,
    encode_instances,
    has_instances_of,
    instances_to_coco,
    write_instances,
)
from mmpanoptic.utils import DatasetError, UserError

MAPS = hnp.arrays(
    st.sampled_from([np.uint8, np.uint16, np.int32]),
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    elements=st.integers(0, 4),
)
ITEM = InstanceItem(
    {'id': 'a', 'file_name': 'a.png', 'width': 3, 'height': 2}, [{'category_id': 5}, {'category_id': 6}]
)


@settings(deadline=None)
@given(MAPS)
def test_encodings_are_those_of_pycocotools(id_map: np.ndarray):
    encoded = encode_instances(id_map, [3, 0, 4, 9])
    assert list(encoded) == [i for i in (3, 0, 4) if (id_map == i).any()]
    for i, mask in encoded.items():
        expected = rle.encode(np.asfortranarray(id_map == i, np.uint8))
        assert mask == {'size': expected['size'], 'counts': expected['counts'].decode()}


@settings(deadline=None)
@given(MAPS)
def test_boxes_and_areas(id_map: np.ndarray):
    annotations = instances_to_coco(id_map, {1: 11, 2: 12}, crowd_ids=[2, 7])
    assert [(a['category_id'], a['iscrowd']) for a in annotations] == [
        pair for i, pair in ((1, (11, 0)), (2, (12, 1))) if (id_map == i).any()
    ]
    for annotation in annotations:
        ys, xs = np.nonzero(id_map == annotation['category_id'] - 10)
        assert annotation['area'] == len(ys)
        box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
        assert annotation['bbox'] == box


def test_writing(tmp_path: Path):
    path = tmp_path / 'new' / 'instances.json'
    other = InstanceItem({**ITEM.image, 'id': 'b'}, ITEM.annotations[:1])
    content = write_instances(path, [ITEM, other], [{'id': 5, 'name': 'x'}])
    assert json.loads(path.read_text()) == content
    assert content['images'] == [ITEM.image, other.image]
    assert [(a['id'], a['image_id'], a['category_id']) for a in content['annotations']] == [
        (1, 'a', 5),
        (2, 'a', 6),
        (3, 'b', 5),
    ]
    assert has_instances_of(path, ['b', 'a'])
    assert not has_instances_of(path, ['a'])
    assert not has_instances_of(path.with_name('none.json'), [])


def test_nothing_is_written_unless_all_is(tmp_path: Path):
    path = tmp_path / 'instances.json'
    path.write_text('before')
    with pytest.raises(DatasetError, match=r"image id 'a' occurs twice \(a.png\)"):
        write_instances(path, [ITEM, ITEM], [])
    assert [file.name for file in tmp_path.glob('[!.]*')] == ['instances.json'] and path.read_text() == 'before'
    with pytest.raises(UserError, match='is a folder'):
        write_instances(tmp_path, [], [])
