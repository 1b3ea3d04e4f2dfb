"""Masks of instances, before pycocotools takes them: what it does with wrong ones is in the comments."""

import numpy as np
import pytest
from helpers.panoptic_files import PanopticFiles
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle

from mmpanoptic.datasets.transforms import LoadAnnotations, LoadPanopticAnnotations
from mmpanoptic.formats.masks import check_mask
from mmpanoptic.utils import DatasetError

HEIGHT, WIDTH = 4, 5


def of_runs(counts) -> dict:
    return dict(size=[HEIGHT, WIDTH], counts=counts)


@settings(max_examples=200, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 2**32 - 1))
def test_encodings_of_pycocotools(height, width, seed):
    rng = np.random.default_rng(seed)
    mask = rle.encode(np.asfortranarray((rng.random((height, width)) > rng.random()).astype(np.uint8)))
    check_mask(dict(size=[height, width], counts=mask['counts'].decode()), height, width, 'x')


@pytest.mark.parametrize(
    'mask', [[], [[]], [[1, 2, 3, 4]], [[0, 0, 5, 0, 5, 4]], [[-3.5, 9.0] * 3], of_runs([20]), of_runs([0, 20, 0])]
)
def test_right_ones(mask):
    check_mask(mask, HEIGHT, WIDTH, 'x')


@pytest.mark.parametrize('mask', [None, 3, 'x', True])
def test_what_is_no_mask(mask):
    with pytest.raises(DatasetError, match=r'^x has segmentation .*: write polygons or an RLE$'):
        check_mask(mask, HEIGHT, WIDTH, 'x')


@pytest.mark.parametrize(
    'polygon',
    [
        [1e9, 1, 1e9, 1e9, 5, 6],  # the process ends with a segmentation fault
        [1, 1, 10**400, 1, 1, 1],
        [float('nan')] * 6,
        [float('inf'), 0] * 3,
        ['a'] * 6,
        [None] * 6,
        [[1, 2]] * 3,
        5,
        'abcdef',
        {'1': 2},
    ],
)  # fmt: skip
def test_polygons(polygon):
    with pytest.raises(DatasetError, match=r'^x has a polygon .*: write .* is 4x5 \(height x width\)$') as error:
        check_mask([[0, 0, 5, 0, 5, 4], polygon], HEIGHT, WIDTH, 'x')
    assert len(str(error.value)) < 250


@pytest.mark.parametrize(
    'counts',
    [
        [5, 5],  # memory that nobody has written to becomes the mask
        [5, 5, 100],
        [10**9],
        [2**40],
        [-1, 21],
        ['a'],
        [1.5, 18.5],
        [True, 19],
        [],
        '',  # as above
        '05',  # as above
        '\0\1',
        'é',
        'o' * 100,
        '0' * 50,
        'zzzz',
        b'd0',
        5,
        None,
        {},
    ],
)  # fmt: skip
def test_runs_that_are_not_those_of_the_image(counts):
    with pytest.raises(DatasetError, match=r'^x has a mask \(RLE\) whose `counts` do not add up to the 20 pixels of'):
        check_mask(of_runs(counts), HEIGHT, WIDTH, 'x')


@pytest.mark.parametrize('size', [[5, 4], [10**9, 10**9], [-4, -5], 'x', None, [4, 5, 1]])
def test_runs_of_another_size(size):
    with pytest.raises(DatasetError, match=r'^x has a mask \(RLE\) of size .*, its image is 4x5'):
        check_mask(dict(size=size, counts=[20]), HEIGHT, WIDTH, 'x')


def test_what_is_not_of_a_json_is_seen_when_it_is_loaded(tmp_path):
    files = PanopticFiles(tmp_path)
    files.instances['annotations'][0]['segmentation'] = dict(size=[32, 40], counts='05')
    files.save()
    for load in (LoadAnnotations(with_mask=True), LoadPanopticAnnotations()):
        info = files.dataset(inst_ann_file='instances.json').get_data_info(1)
        with pytest.raises(DatasetError, match=r'a\.png: instance 0 has a mask \(RLE\) whose `counts` do not add up'):
            load(info | dict(ori_shape=(32, 40)))
    files.instances['annotations'][0]['segmentation'] = [[1e9, 0, 1e9, 1e9, 0, 0]]
    files.save()
    with pytest.raises(DatasetError, match=r'instances\.json: annotation 1 of image 10 has a polygon \[1000000000'):
        files.dataset(inst_ann_file='instances.json')
