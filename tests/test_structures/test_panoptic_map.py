"""Ids and colours, and ids to indices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mmpanoptic.structures import MAX_ID, id_to_rgb, ids_to_indices, rgb_to_id
from mmpanoptic.structures.panoptic_map import areas_and_boxes

ID_MAPS = arrays(np.int32, array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, MAX_ID))


@given(ID_MAPS)
@settings(max_examples=50, deadline=None)
def test_ids_survive_colours(ids):
    rgb = id_to_rgb(ids)
    assert rgb.shape == (*ids.shape, 3)
    np.testing.assert_array_equal(rgb.astype(int) @ [1, 256, 65536], ids)
    result = rgb_to_id(rgb)
    assert result.dtype == np.int32
    np.testing.assert_array_equal(result, ids)


@given(ID_MAPS, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_indices_are_positions_in_the_list(ids, random):
    known = [int(i) for i in np.unique(ids) if i] + [MAX_ID - 12345 if MAX_ID - 12345 not in ids else 17]
    known = list(dict.fromkeys(known))
    random.shuffle(known)
    indices = ids_to_indices(ids, known)
    np.testing.assert_array_equal(np.array([0, *known])[indices], ids)


@pytest.mark.parametrize(('num', 'dtype'), [(0, np.uint8), (254, np.uint8), (255, np.uint16), (65535, np.uint16)])
def test_type_of_indices(num, dtype):
    known = range(100, 100 + num)
    ids = np.array([[0, *known]], np.int64)
    indices = ids_to_indices(ids, known)
    assert indices.dtype == dtype
    np.testing.assert_array_equal(indices, [range(num + 1)])


def test_too_many_segments():
    with pytest.raises(ValueError, match='65536 segments'):
        ids_to_indices(np.zeros((1, 1), np.int32), range(1, 65537))


def test_smallest_stranger_is_named_and_nothing_is_left_behind():
    ids = np.array([[0, 7, 900, 8, MAX_ID]], np.int32)
    with pytest.raises(KeyError) as caught:
        ids_to_indices(ids, [7, MAX_ID])
    assert caught.value.args == (8,)
    with pytest.raises(KeyError) as caught:  # ids of the call before are strangers to this one
        ids_to_indices(ids, [8, 900])
    assert caught.value.args == (7,)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_any_integer_type(dtype):
    np.testing.assert_array_equal(ids_to_indices(np.array([[5, 0, 9]], dtype), [9, 5]), [[2, 0, 1]])


@pytest.mark.parametrize('seed', range(3))
def test_areas_and_boxes(seed: int):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 6, (7, 9)).repeat(2, 0).repeat(3, 1) * 1001  # the last of a row may go on in the next one
    known = [value for value in (5005, 1001, 3003, 2002, 4004) if (ids == value).any()]
    areas, boxes = areas_and_boxes(ids, known)
    for value, area, (x, y, width, height) in zip(known, areas.tolist(), boxes.tolist(), strict=True):
        rows, columns = np.nonzero(ids == value)
        assert area == len(rows)
        assert (x, y, x + width - 1, y + height - 1) == (columns.min(), rows.min(), columns.max(), rows.max())
    with pytest.raises(KeyError, match='1001'):
        areas_and_boxes(ids, [value for value in known if value != 1001])
    areas, boxes = areas_and_boxes(np.zeros((4, 5), np.int32), [])
    assert areas.shape == (0,) and boxes.shape == (0, 4)
