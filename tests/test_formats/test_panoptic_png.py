"""Panoptic PNGs: what is written comes back, and what is no such file is refused."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mmpanoptic.formats import panoptic_png
from mmpanoptic.formats.panoptic_png import decode_panoptic_png, encode_panoptic_png
from mmpanoptic.structures import MAX_ID, id_to_rgb
from mmpanoptic.utils import DatasetError

IDS = st.integers(0, MAX_ID) | st.sampled_from([0, 1, 7, 256, MAX_ID])
ID_MAPS = arrays(np.int32, array_shapes(min_dims=2, max_dims=2), elements=IDS)


def encode(image):
    done, data = cv2.imencode('.png', image)
    assert done
    return data.tobytes()


@given(ID_MAPS)
@settings(max_examples=100, deadline=None)
def test_ids_survive_files(ids):
    for data in (encode_panoptic_png(ids), encode(id_to_rgb(ids)[..., ::-1])):
        result = decode_panoptic_png(data, 'a.png')
        assert result.dtype == np.int32
        np.testing.assert_array_equal(result, ids)


@pytest.fixture(params=['fast decoder', 'OpenCV'])
def decoder(request, monkeypatch):
    """Each of the two decoders, of which the fast one may not be installed."""
    if request.param == 'OpenCV':
        monkeypatch.setattr(panoptic_png, 'fast_png', None)
    elif panoptic_png.fast_png is None:
        pytest.skip('kornia_rs is not installed')
    return request.param


@pytest.mark.skipif(panoptic_png.fast_png is None, reason='kornia_rs is not installed')
@given(ID_MAPS, st.integers(0, 9), st.sampled_from([cv2.IMWRITE_PNG_FILTER, None]), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_decoders_agree(ids, level, has_filter, strategy):
    """Whatever the compression and the filters."""
    params = [cv2.IMWRITE_PNG_COMPRESSION, level, cv2.IMWRITE_PNG_STRATEGY, strategy]
    params += [] if has_filter is None else [has_filter, cv2.IMWRITE_PNG_ALL_FILTERS]
    _, data = cv2.imencode('.png', id_to_rgb(ids)[..., ::-1], params)
    assert panoptic_png._decode_fast(data.tobytes(), ids.shape) is not None
    np.testing.assert_array_equal(decode_panoptic_png(data.tobytes(), 'a.png'), ids)


def test_alpha_is_no_part_of_the_id():
    bgra = np.array([[[3, 2, 1, 255], [3, 2, 1, 0]]], np.uint8)
    np.testing.assert_array_equal(decode_panoptic_png(encode(bgra), 'a.png'), [[1 + 2 * 256 + 3 * 65536] * 2])


PNG = encode(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ('data', 'words'),
    [
        (b'', 'not a PNG'),
        (b'\xff\xd8\xff' + PNG, 'not a PNG'),
        (PNG[:-1], 'cannot be decoded'),
        (PNG[: len(PNG) // 2], 'truncated'),
        (PNG[:16] + PNG[-12:], 'cannot be decoded'),
        (encode(np.zeros((4, 4, 3), np.uint16)), 'uint16'),
        (encode(np.zeros((4, 4), np.uint8)), r'shape \(4, 4\)'),
    ],
    ids=['empty', 'jpeg', 'last byte missing', 'half', 'no pixels', '16 bit', 'grey'],
)
@pytest.mark.usefixtures('decoder')
def test_files_that_are_no_panoptic_maps(data, words):
    with pytest.raises(DatasetError, match=f'^val/a.png.*{words}') as caught:
        decode_panoptic_png(data, 'val/a.png')
    assert '\n' not in str(caught.value)
