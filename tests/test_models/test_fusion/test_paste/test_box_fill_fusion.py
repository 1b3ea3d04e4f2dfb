"""BoxFillFusion against maps worked out by hand and against the authors' merges."""

import json

import numpy as np
import pytest
import torch
from helpers.evidence import evidence_of, instances_of, no_instances
from helpers.timing import cpu_seconds
from mmengine.structures import InstanceData

from mmpanoptic.models.fusion import BoxFillFusion, HeuristicFusion
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import StuffLabels, StuffLogits

T, S = 2, 2
VOID = T + S


def mask(rows, size=(10, 10)) -> np.ndarray:
    """Set in the first ``rows`` rows."""
    result = np.zeros(size, bool)
    result[:rows] = True
    return result


def semantics(stuff_rows) -> torch.Tensor:
    """Class 1 in the last rows, 'other' elsewhere."""
    result = torch.full((10, 10), S)
    result[10 - stuff_rows :] = 1
    return result


def fuse(instances, labels, **kwargs):
    head = BoxFillFusion(T, S, **{'stuff_area_limit': 0, **kwargs})
    stuff = StuffLabels(labels) if labels.ndim == 2 else StuffLogits(labels, 'stuff+other')
    (result,) = head.predict([evidence_of(instances, stuff)])
    segments = result.metainfo['segments_info']
    panoptic = result.sem_seg[0]
    assert sorted(s['id'] for s in segments) == [i for i in panoptic.unique().tolist() if i != VOID]
    return panoptic, segments


WHOLE = [[0, 0, 10, 10]]


def test_registered_with_thresholds():
    head = MODELS.build(dict(type='BoxFillFusion', box_fill_thr=0.3, overlap_thr=0.37))
    assert (head.box_fill_thr, head.overlap_thr, BoxFillFusion().box_fill_thr) == (0.3, 0.37, 0.5)
    with pytest.raises(TypeError, match='test_cfg'):
        BoxFillFusion(test_cfg=dict(box_fill_thr=0.3))


def test_what_is_left_of_a_box_goes_to_its_instance():
    instances = instances_of([mask(2)], [1], [0.9], boxes=WHOLE)
    panoptic, segments = fuse(instances, semantics(6), stuff_area_limit=100)
    assert panoptic.unique().tolist() == [1001]
    assert [segment['instance'] for segment in segments] == [0]


def test_after_stuff_and_by_share_of_the_box():
    instances = instances_of([mask(2)], [1], [0.9], boxes=WHOLE)
    panoptic, segments = fuse(instances, semantics(6), stuff_area_limit=50)
    assert [(panoptic == value).sum().item() for value in (1001, T + 1, VOID)] == [20, 60, 20]
    assert len(segments) == 2
    panoptic, _ = fuse(instances, semantics(6), stuff_area_limit=50, box_fill_thr=0.2)
    assert [(panoptic == value).sum().item() for value in (1001, T + 1, VOID)] == [40, 60, 0]


def test_half_is_enough():
    instances = instances_of([mask(5)], [0], [0.9], boxes=WHOLE)
    assert (fuse(instances, semantics(0))[0] == 1000).all()
    assert (fuse(instances, semantics(1))[0] == VOID).sum() == 40


@pytest.mark.parametrize('box', [[3, 3, 3, 8], [3.2, 3.1, 3.9, 8], [8, 8, 3, 3], [12, 12, 20, 20]])
def test_box_without_pixels(box):
    panoptic, segments = fuse(instances_of([mask(0)], [0], [0.9], boxes=[box]), semantics(0))
    assert (panoptic == VOID).all() and segments == []


def test_box_beyond_the_border():
    panoptic, _ = fuse(instances_of([mask(0)], [0], [0.9], boxes=[[-5.5, -3.2, 4, 4]]), semantics(0))
    assert (panoptic == 1000).sum() == 16
    assert (panoptic[:4, :4] == 1000).all()


def test_nothing_left_is_no_segment():
    instances = instances_of([mask(10)] * 2, [0, 1], [0.9, 0.8], boxes=WHOLE * 2)
    assert [s['label'] for s in fuse(instances, semantics(0), box_fill_thr=0)[1]] == [0]


def test_dropped_instances_come_back_but_not_those_of_low_score():
    boxes = [[0, 0, 10, 4], [0, 0, 10, 10], [0, 0, 10, 10]]
    instances = instances_of([mask(4), mask(5), mask(10)], [0, 1, 0], [0.9, 0.8, 0.3], boxes=boxes)
    panoptic, segments = fuse(instances, semantics(2), score_thr=0.5)
    # The second is covered by four fifths; 40 of its box's 100 pixels are void.
    assert [s['instance'] for s in segments] == [0, None]
    panoptic, segments = fuse(instances, semantics(1), score_thr=0.5)
    assert [(s['id'], s['instance']) for s in segments] == [(1000, 0), (2001, 1), (3, None)]
    assert (panoptic[4:9] == 2001).all()


def test_boxes_in_order_of_score():
    instances = instances_of([mask(0)] * 2, [0, 1], [0.6, 0.9], boxes=WHOLE * 2)
    assert fuse(instances, semantics(0))[0].unique().tolist() == [1001]


@pytest.mark.parametrize('rows', [0, 10])
def test_of_equal_scores_the_lower_class_then_the_earlier_comes_first(rows):
    """Both when masks are pasted and when boxes are filled."""
    instances = instances_of([mask(rows)] * 3, [1, 0, 0], [0.9] * 3, boxes=WHOLE * 3)
    assert [segment['instance'] for segment in fuse(instances, semantics(0))[1]] == [1]


def test_arguments_stay_and_no_instances_are_fine():
    instances = instances_of([mask(2)], [1], [0.9], boxes=WHOLE)
    before = {name: value.clone() for name, value in instances.items()}
    fuse(instances, semantics(3))
    assert all(torch.equal(before[name], instances[name]) for name in before)
    _, segments = fuse(no_instances((10, 10)), semantics(3))
    assert segments == [{'id': 3, 'label': 3, 'score': None, 'instance': None}]


def test_logits_give_the_same_as_labels():
    instances = instances_of([mask(2)], [1], [0.9], boxes=WHOLE)
    indices = semantics(3)
    logits = torch.nn.functional.one_hot(indices, S + 1).permute(2, 0, 1).float()
    assert torch.equal(fuse(instances, indices)[0], fuse(instances, logits)[0])


def merge_cases(shared_data):
    return json.loads((shared_data / 'golden/spatialflow_merge_cases.json').read_text())


@pytest.mark.parametrize('kind', ['bbox', 'nobbox'])
def test_the_authors_merges(shared_data, kind):
    """The same pixels in the same segments, of the same classes."""
    info, data = merge_cases(shared_data), np.load(shared_data / 'golden/spatialflow_merge_cases.npz')
    stuff_ids = [i for i in info['stuff_category_ids'] if i != 183]
    category_of = [*info['thing_category_ids'], *stuff_ids, 0]
    # Their stuff indices have 'other' in between; 53 is ours.
    index_of = torch.tensor([stuff_ids.index(i) if i in stuff_ids else 53 for i in info['stuff_category_ids']])
    assert len(info['cases']) >= 8
    for case in info['cases']:
        values = {
            name: torch.from_numpy(data[f'{case["key"]}/{name}'].astype(np.int64)) for name in ('labels', 'sem_label')
        }
        params = case['params']
        head = BoxFillFusion(
            score_thr=params['conf'],
            overlap_thr=params['ov'],
            stuff_area_limit=params['area'],
            box_fill_thr=params['thr'] if kind == 'bbox' else 2,  # no box is filled
        )
        instances = InstanceData(
            bboxes=torch.from_numpy(data[f'{case["key"]}/boxes_xyxy']),
            scores=torch.from_numpy(data[f'{case["key"]}/scores']),
            labels=values['labels'],
            masks=torch.from_numpy(data[f'{case["key"]}/masks']),
        )
        panoptic, segments = head.fuse(evidence_of(instances, StuffLabels(index_of[values['sem_label']])))
        label_map = data[f'{case["key"]}/{kind}/label_map']
        theirs = case[kind]['segments']
        assert ((panoptic.numpy() == 133) == (label_map == 0)).all(), case['name']
        # One of ours for one of theirs, of the same class.
        pairs = {(int(a), int(b)) for a, b in zip(panoptic.numpy().ravel(), label_map.ravel(), strict=True) if b}
        assert len(pairs) == len(segments) == len({b for _, b in pairs}), case['name']
        for ours, index in pairs:
            assert category_of[ours % 1000] == theirs[index - 1][0], case['name']


@pytest.mark.slow
@pytest.mark.timing
@pytest.mark.usefixtures('one_thread')
@pytest.mark.parametrize('as_logits', [False, True], ids=['labels', 'logits'])
@pytest.mark.parametrize('kind', ['objects', 'halves'])
def test_time_beside_that_of_the_heuristic(kind, as_logits):
    """Of 100 instances whose masks cover a third of their boxes, where stuff leaves the rest to be filled.

    The network gives labels by default; boxes of most of the image are the hardest case, and no image has them.
    """
    generator = torch.Generator().manual_seed(0)
    height, width, num = 480, 640, 100
    size = torch.tensor([width, height])
    sides = dict(objects=20 + 100 * torch.rand(num, 2, generator=generator), halves=size * 0.6)[kind]
    corners = torch.rand(num, 2, generator=generator) * (size - sides)
    boxes = torch.cat([corners, corners + sides], dim=1)
    masks = torch.zeros(num, height, width, dtype=torch.bool)
    for one, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        one[top:bottom, left : left + (right - left) // 3] = True
    instances = InstanceData(
        bboxes=boxes, labels=torch.arange(num) % 80, scores=torch.rand(num, generator=generator) / 2 + 0.5, masks=masks
    )
    semantic = torch.randn(54, height, width, generator=generator)
    stuff = StuffLogits(semantic, 'stuff+other') if as_logits else StuffLabels(semantic.argmax(0))
    evidence = evidence_of(instances, stuff)
    thresholds = dict(score_thr=0.37, stuff_area_limit=height * width)
    heads = [HeuristicFusion(**thresholds), BoxFillFusion(**thresholds)]
    before, after = (head.fuse(evidence)[0] for head in heads)
    num_filled = (before != after).sum().item()
    assert num_filled > 0.15 * height * width
    times = [[cpu_seconds(head.fuse, evidence) for head in heads] for _ in range(9)]
    plain, filled = (min(column) for column in zip(*times, strict=True))
    print(f'{plain * 1e3:.1f} ms, {filled * 1e3:.1f} ms with {num_filled} pixels filled: {filled / plain:.3f} times')
    assert filled <= 1.25 * plain
