"""Instances before the fusion: which segments they would have matched, and what of them the fusion has hidden."""

import json

import numpy as np
import pytest
from helpers.pq_cases import CATEGORIES, Case, write_files
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_masks

from mmpanoptic.evaluation.file_scores import score_files
from mmpanoptic.evaluation.found_instances import found_segments, read_instances
from mmpanoptic.utils import UserError

IMAGES = [{'id': 1, 'height': 12, 'width': 24}]


def rle(mask):
    encoded = coco_masks.encode(np.asfortranarray(mask).view(np.uint8))
    return {'size': encoded['size'], 'counts': encoded['counts'].decode()}


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_against_pixels(seed):
    rng = np.random.default_rng(seed)
    ids = np.kron(rng.integers(0, 4, (2, 3)), np.ones((6, 8), int))
    segments = [
        {'id': int(id), 'label': int(rng.integers(0, 2)), 'iscrowd': int(rng.random() < 0.2)}
        for id in rng.permutation(np.unique(ids[ids > 0]))
    ]
    instances = [(int(rng.integers(0, 2)), np.roll(ids == rng.integers(0, 4), rng.integers(0, 4))) for _ in range(5)]
    found = found_segments(ids, segments, [(label, rle(mask)) for label, mask in instances])
    for place, segment in enumerate(sorted(segments, key=lambda segment: segment['id']), 1):
        target = ids == segment['id']
        ious = [
            (mask & target).sum() / ((mask & (ids > 0)) | target).sum()
            for label, mask in instances
            if label == segment['label']
        ]
        assert found[place] == (not segment['iscrowd'] and max(ious, default=0) > 0.5)
    assert not found[0]


@pytest.fixture
def reordered(tmp_path):
    """A cup in front of a dog, which the fusion has pasted above it: nothing of the cup is left."""
    gt = np.full((12, 24), 1)
    gt[2:10, 4:20] = 2
    pred = gt.copy()
    gt[4:8, 8:12] = 3
    labels = {1: 3, 2: 1, 3: 2}
    segments = [{'id': id, 'label': label, 'iscrowd': 0, 'area': int((gt == id).sum())} for id, label in labels.items()]
    case = Case(gt, segments, pred, [{'id': id, 'label': labels[id]} for id in (1, 2)])
    entries = [
        {'image_id': 1, 'category_id': 4, 'score': 0.9, 'segmentation': rle(pred == 2)},
        {'image_id': 1, 'category_id': 90, 'score': 0.6, 'segmentation': rle(gt == 3)},
    ]
    path = tmp_path / 'instances.json'
    path.write_text(json.dumps(entries))
    return *write_files(tmp_path, [case]), path


@pytest.mark.parametrize(('score_thr', 'cause'), [(0.5, 'hidden'), (0.7, 'missed')])
def test_what_the_order_hides(score_thr, cause, reordered):
    gt_json, gt_dir, *prediction, instances = reordered
    result = score_files(gt_json, gt_dir, [tuple(prediction)], instances=(instances, score_thr))
    assert result['account']['per_class'][90]['points'] == pytest.approx(
        {name: 100.0 * (name == cause) for name in result['account']['All']['points']}
    )
    assert score_files(gt_json, gt_dir, [tuple(prediction)])['account']['All']['fn']['missed'] == 1
    assert result['oracles'][cause][cause] > 100 * result['scores']['All']['pq'] + 30


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda entry: entry.update(image_id=5), 'entry 0 has image_id 5, which the ground truth lacks'),
        (lambda entry: entry.update(category_id=7), 'entry 0 has category_id 7, which the ground truth lacks'),
        (lambda entry: entry.pop('score'), 'entry 0 lacks `score`'),
        (lambda entry: entry.update(segmentation=[[1, 2, 3, 4, 5, 6]]), 'entry 0 has segmentation .*: write dict'),
        (lambda entry: entry['segmentation'].update(size=[24, 12]), r'entry 0 has a mask \(RLE\) of size \[24, 12\]'),
        (lambda entry: entry['segmentation'].update(counts='0'), 'entry 0 has a mask .* do not add up'),
    ],
)
def test_errors(change, words, tmp_path):
    entry = {'image_id': 1, 'category_id': 3, 'score': 1.0, 'segmentation': rle(np.ones((12, 24), bool))}
    path = tmp_path / 'instances.json'
    path.write_text(json.dumps([entry]))
    assert [label for label, _ in read_instances(path, CATEGORIES, IMAGES)[1]] == [0]
    change(entry)
    path.write_text(json.dumps([entry]))
    with pytest.raises(UserError, match=rf'^{path}: {words}'):
        read_instances(path, CATEGORIES, IMAGES)


def test_no_list(tmp_path):
    (tmp_path / 'a.json').write_text('{}')
    with pytest.raises(UserError, match=r'a\.json holds no results: they are a list of objects'):
        read_instances(tmp_path / 'a.json', CATEGORIES, IMAGES)
    (tmp_path / 'a.json').write_text('[3]')
    with pytest.raises(UserError, match='entry 0 is a int: write objects'):
        read_instances(tmp_path / 'a.json', CATEGORIES, IMAGES)
