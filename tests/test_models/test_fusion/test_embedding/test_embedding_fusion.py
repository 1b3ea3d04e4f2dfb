"""EmbeddingFusion against maps worked out by hand and against the plain computation on every pixel, and its speed."""

import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.evidence import evidence_of
from helpers.repo import ROOT
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmengine.structures import InstanceData

from mmpanoptic.models.fusion import EmbeddingFusion, HeuristicFusion
from mmpanoptic.models.fusion.embedding.best_queries import best_queries, pixel_windows
from mmpanoptic.models.fusion.embedding.query_map import Axis
from mmpanoptic.registry import DATASETS, MODELS
from mmpanoptic.structures import EmbeddingMap, StuffLogits, rgb_to_id

T, S = 3, 2  # things 0..2, stuff 3..4
VOID = T + S


def instances_of(boxes, labels, scores, embeddings):
    return InstanceData(
        bboxes=torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
        scores=torch.tensor(scores, dtype=torch.float32),
        embeddings=torch.as_tensor(embeddings, dtype=torch.float32),
    )


def fuse(instances, maps, things=T, **kwargs):
    head = EmbeddingFusion(things, len(maps.stuff_queries), **{'stuff_area_limit': 0, **kwargs})
    evidence = evidence_of(instances, maps)
    (result,) = head.predict([evidence])
    assert result.sem_seg.dtype == torch.int32
    assert result.sem_seg.shape == (1, *evidence.output_size)
    panoptic, segments = result.sem_seg[0], result.metainfo['segments_info']
    assert sorted(s['id'] for s in segments) == [i for i in panoptic.unique().tolist() if i != head.num_classes]
    for segment in segments:
        assert segment['id'] % 1000 == segment['label']
        assert (segment['instance'] is None) == (segment['label'] >= things) and 0 <= segment['score'] <= 1
    return panoptic, segments


def per_pixel(names, dims=8):
    """Map of one row and of stride 1 that is the unit vector with that number at each pixel."""
    embedding = torch.eye(dims)[torch.tensor([names])].permute(2, 0, 1)
    return EmbeddingMap(embedding, torch.eye(dims)[:S], stride=1)


def plain(embedding, queries, boxes, size, scale=(1.0, 1.0), stride=4, box_scale=1.0):
    """Cosines of shape (Q, H, W) in float64, -inf outside the boxes of the last queries."""

    def read(maps, dim, pixels, step):
        length = maps.shape[dim]
        at = ((torch.arange(pixels).double() + 0.5) * step / stride - 0.5).clamp(0, length - 1)
        weight = (at - at.floor()).reshape((-1, 1) if dim == 1 else (-1,))
        low = at.long()
        return (
            maps.index_select(dim, low) * (1 - weight)
            + maps.index_select(dim, (low + 1).clamp(max=length - 1)) * weight
        )

    maps = read(read(embedding.double(), 1, size[0], scale[1]), 2, size[1], scale[0])
    scores = torch.einsum('qd,dhw->qhw', queries.double(), F.normalize(maps, dim=0))
    if box_scale is None:
        return scores
    centres, halves = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * box_scale
    left, top = (centres - halves).T[:, :, None]
    right, bottom = (centres + halves).T[:, :, None]
    x, y = torch.arange(size[1]) + 0.5, torch.arange(size[0]) + 0.5
    inside = ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None]
    scores[len(scores) - len(boxes) :][~inside] = -torch.inf
    return scores


def assert_same_as_plain(found, scores):
    """Equal to the best of the plain scores, except where another is as good but for rounding."""
    none = len(scores)
    best, expected = scores.max(dim=0)
    expected[best == -torch.inf] = none
    indices = found.render(torch.arange(none + 1))
    assert torch.equal(found.counts(), torch.bincount(indices.flatten(), minlength=none + 1))
    wrong = indices != expected
    scores = torch.cat([scores, torch.full_like(scores[:1], -torch.inf)])
    assert (best[wrong] - scores.gather(0, indices[None])[0][wrong] < 1e-6).all()
    assert wrong.float().mean() < 1e-3


def random_boxes(num, size, generator):
    height, width = size
    corners = torch.rand(2, num, 2, generator=generator) * torch.tensor([width, height]) * 1.2 - 2
    return torch.cat([corners.amin(dim=0), corners.amax(dim=0)], dim=1)


def test_registered_with_the_defaults():
    head = MODELS.build({'type': 'EmbeddingFusion', 'num_things_classes': T, 'num_stuff_classes': S})
    assert type(head) is EmbeddingFusion
    assert head.loss() == {}
    assert (head.score_thr, head.box_scale, head.category_from) == (0.25, 1.0, 'detector')
    assert (head.stuff_area_limit, head.stuff_area_mode) == (4096, 'segment')


def test_map_by_hand():
    # Stuff is 0 and 1, the instances are 2 and 3; the last pixels look like 3, but its box ends before them.
    maps = per_pixel([0, 0, 2, 2, 1, 3, 3, 3, 3])
    instances = instances_of([[1, 0, 5, 1], [4, 0, 7, 1]], [2, 0], [0.3, 0.9], torch.eye(8)[2:4])
    panoptic, segments = fuse(instances, maps)
    assert panoptic.tolist() == [[3, 3, 1002, 1002, 4, 2000, 2000, 3, 3]]
    assert segments == [
        {'id': 1002, 'label': 2, 'score': pytest.approx(0.3), 'instance': 0, 'similarity': 1.0},
        {'id': 2000, 'label': 0, 'score': pytest.approx(0.9), 'instance': 1, 'similarity': 1.0},
        {'id': 3, 'label': 3, 'score': 0.5, 'instance': None, 'similarity': 0.5},  # two of four pixels are like it
        {'id': 4, 'label': 4, 'score': 1.0, 'instance': None, 'similarity': 1.0},
    ]


def test_far_from_all_stuff_and_outside_every_box_is_stuff():
    # The pixel's cosines with stuff are -.8 and -.6: a similarity of 0 for the instance would win.
    embedding = torch.tensor([-0.8, -0.6, 0.0])[:, None, None].expand(3, 2, 2) * 7
    maps = EmbeddingMap(embedding, torch.eye(3)[:2])
    instances = instances_of([[0, 0, 4, 4]], [1], [0.9], [[0, 0, 1]])
    panoptic, _ = fuse(instances, maps)
    assert (panoptic[:4, :4] == 1001).all()
    panoptic[:4, :4] = 4
    assert (panoptic == 4).all()


def test_pixel_centres_in_boxes():
    boxes = torch.tensor([[0.5, 0.51, 2.5, 2.51], [-3, -3, 99, 99], [2, 2, 2, 5], [1.6, 0, 2.4, 1], [50, 50, 60, 60]])
    windows = pixel_windows(boxes, (10, 20))
    assert windows[:2].tolist() == [[0, 1, 2, 3], [0, 0, 20, 10]]
    assert all(right <= left or bottom <= top for left, top, right, bottom in windows[2:].tolist())
    assert pixel_windows(torch.tensor([[4.0, 4, 8, 6]]), (10, 20), 2.0).tolist() == [[2, 3, 10, 7]]
    assert pixel_windows(boxes[:1], (10, 20), None).tolist() == [[0, 0, 20, 10]]
    assert pixel_windows(boxes[:0], (10, 20)).shape == (0, 4)


def test_box_scale():
    maps = per_pixel([2] * 10)
    instances = instances_of([[4, 0, 6, 1]], [0], [0.9], torch.eye(8)[2:3])
    for box_scale, pixels in ((1.0, 2), (2.0, 4), (None, 10)):
        assert (fuse(instances, maps, box_scale=box_scale)[0] == 1000).sum() == pixels


def test_ties_go_to_stuff_then_to_the_lower_index():
    maps = per_pixel([0, 0, 2, 2])
    equal = instances_of([[0, 0, 4, 1]] * 3, [0, 1, 2], [0.9] * 3, torch.eye(8)[[0, 2, 2]])
    panoptic, segments = fuse(equal, maps)
    assert panoptic.tolist() == [[3, 3, 1001, 1001]]
    assert [s['instance'] for s in segments] == [1, None]  # what got nothing makes no segment and has no number


@pytest.mark.parametrize('case', ['bare', 'none', 'unsure'])
def test_no_instances(case):
    maps = per_pixel([0, 1, 2, 1])
    instances = {
        'bare': InstanceData(),
        'none': instances_of([], [], [], torch.zeros(0, 8)),
        'unsure': instances_of([[0, 0, 4, 1]] * 2, [0, 0], [0.2499, 0.1], torch.eye(8)[2:4]),
    }[case]
    assert fuse(instances, maps)[0].tolist() == [[3, 4, 3, 4]]


def test_score_equal_to_the_threshold_is_kept():
    maps = per_pixel([2, 3])
    instances = instances_of([[0, 0, 2, 1]] * 2, [0, 1], [0.37, 0.3699], torch.eye(8)[2:4])
    assert [s['instance'] for s in fuse(instances, maps, score_thr=0.37)[1]] == [0, None]


def test_no_stuff_pixel_and_no_stuff_class():
    maps = per_pixel([2, 2, 2])
    instances = instances_of([[0, 0, 3, 1]], [0], [0.9], torch.eye(8)[2:3])
    assert fuse(instances, maps)[0].tolist() == [[1000] * 3]
    maps = EmbeddingMap(maps.embedding, maps.stuff_queries[:0], stride=1)
    instances.bboxes[0, 2] = 2
    assert fuse(instances, maps)[0].tolist() == [[1000, 1000, T]]
    assert fuse(InstanceData(), maps)[0].tolist() == [[T] * 3]


def test_small_stuff_is_void():
    names = torch.zeros(6, 12, dtype=torch.long)
    names[:2, :2] = 1  # 4 pixels and, apart from them, 3
    names[5, 5:8] = 1
    names[:, 8] = 2
    maps = EmbeddingMap(torch.eye(3)[names].permute(2, 0, 1), torch.eye(3)[:2], stride=1)
    instances = instances_of([[8, 0, 9, 6]], [1], [0.9], torch.eye(3)[2:])
    for limit, mode, ones in ((7, 'segment', 7), (8, 'segment', 0), (4, 'component', 4), (5, 'component', 0)):
        panoptic, segments = fuse(instances, maps, stuff_area_limit=limit, stuff_area_mode=mode)
        assert (panoptic == 4).sum() == ones
        assert (panoptic == VOID).sum() == 7 - ones
        assert [s['label'] for s in segments] == [1, 3, 4][: 3 if ones else 2]
    # The instance cuts class 0 into 41 pixels and 18 of the 59.
    panoptic, _ = fuse(instances, maps, stuff_area_limit=20, stuff_area_mode='component')
    assert (panoptic == 3).sum() == 41 and (panoptic[:, 9:] == VOID).all()


def test_class_from_the_embedding():
    instances = instances_of([[0, 0, 2, 1]], [0], [0.9], torch.eye(8)[2:3])
    things = F.normalize(torch.tensor([[0, 1, 0.1], [1, 0, 0.9], [1, 1, 0.0]]), dim=1)
    things = F.pad(things, (0, 5))
    assert EmbeddingFusion(T, S).labels(instances, things).tolist() == [0]
    head = EmbeddingFusion(T, S, category_from='embedding')
    assert head.labels(instances, things).tolist() == [1]
    for queries in (None, things[:2]):
        with pytest.raises(ValueError, match="category_from='embedding' needs queries of all 3 thing classes"):
            head.labels(instances, queries)


def test_semantic_branch_decides_what_is_stuff():
    # Embeddings say instance, stuff 0, instance (outside its box), instance; logits: 'thing' but for the last.
    maps = per_pixel([2, 0, 2, 2, 2])
    semantic = F.one_hot(torch.tensor([[S, S, S, 1, 0]]), S + 1).permute(2, 0, 1).float()
    maps = EmbeddingMap(maps.embedding, maps.stuff_queries, stride=1, semantic=semantic)
    instances = instances_of([[0, 0, 2, 1], [3, 0, 5, 1]], [1, 2], [0.9, 0.8], torch.eye(8)[2:4])
    panoptic, segments = fuse(instances, maps)
    assert panoptic.tolist() == [[1001, 1001, VOID, 4, 3]]
    assert [s['instance'] for s in segments] == [0, None, None]
    assert fuse(InstanceData(), maps)[0].tolist() == [[VOID, VOID, VOID, 4, 3]]
    assert fuse(instances, maps, stuff_area_limit=2, stuff_area_mode='component')[0].tolist() == [
        [1001] * 2 + [VOID] * 3
    ]


def test_bad_input():
    maps = per_pixel([0, 1])
    with pytest.raises(ValueError, match='2 stuff queries for 4 stuff classes'):
        EmbeddingFusion(T, 4).fuse(evidence_of(InstanceData(), maps))
    with pytest.raises(ValueError, match=r'embeddings of shape \(1, 7\) for 8 dimensions'):
        fuse(instances_of([[0, 0, 1, 1]], [0], [0.9], torch.eye(7)[:1]), maps)
    with pytest.raises(ValueError, match=r'stuff queries of shape \(2, 7\) for 8 dimensions'):
        EmbeddingMap(maps.embedding, maps.stuff_queries[:, 1:])
    with pytest.raises(ValueError, match=r'semantic logits of shape \(3, 9, 9\) for an embedding map of size \[1, 2\]'):
        EmbeddingMap(maps.embedding, maps.stuff_queries, semantic=torch.zeros(3, 9, 9))
    with pytest.raises(ValueError, match="category_from 'box' is none of detector, embedding"):
        EmbeddingFusion(T, S, category_from='box')
    with pytest.raises(ValueError, match="stuff_area_mode 'pixel' is none of segment, component"):
        EmbeddingFusion(T, S, stuff_area_mode='pixel')
    with pytest.raises(TypeError, match='test_cfg'):
        EmbeddingFusion(T, S, test_cfg=ConfigDict(score_thr=0.5))


def test_pixels_read_the_map_as_upsampling_does():
    maps = torch.randn(1, 1, 5, 7)
    expected = F.interpolate(maps, scale_factor=4, mode='bilinear', align_corners=False)[0, 0, :18, :25]
    rows, columns = Axis.of(18, 1.0, 4, 5), Axis.of(25, 1.0, 4, 7)
    for axis, dim in ((rows, 2), (columns, 3)):
        shape = (-1, 1) if dim == 2 else (-1,)
        maps = torch.lerp(
            maps.index_select(dim, axis.cell), maps.index_select(dim, axis.cell + 1), axis.weight.reshape(shape)
        )
    torch.testing.assert_close(maps[0, 0], expected)


@pytest.mark.parametrize('rough', [False, True])
@pytest.mark.parametrize('seed', range(40))
def test_same_as_plain_computation(seed, rough):
    """Maps, sizes and scales at random: the input shrunk or enlarged, cells of many pixels, of one, of none."""
    generator = torch.Generator().manual_seed(seed)

    def number(low, high):
        return int(torch.randint(low, high, (1,), generator=generator))

    dims, height, width, stuff = number(2, 9), number(1, 20), number(1, 20), number(0, 6)
    num = number(1, 8)
    embedding = torch.randn(1, dims, *((height, width) if rough else (3, 3)), generator=generator)
    embedding = F.interpolate(embedding, (height, width), mode='bilinear', align_corners=True)[0]
    embedding *= torch.rand(height, width, generator=generator) + 0.1  # lengths vary, which must not matter
    queries = F.normalize(torch.randn(stuff + num, dims, generator=generator), dim=1)
    scale = (1.0, 1.0) if seed % 3 == 0 else tuple((torch.rand(2, generator=generator) * 6 + 0.2).tolist())
    size = tuple(max(1, int(n * 4 / s) - number(0, 4)) for n, s in ((height, scale[1]), (width, scale[0])))
    boxes = random_boxes(num, size, generator)
    box_scale, piece = (1.0, 1.5, None)[number(0, 3)], (None, 7, 100)[number(0, 3)]
    found = best_queries(embedding, queries, pixel_windows(boxes, size, box_scale), size, scale, 4, piece)
    assert_same_as_plain(found, plain(embedding, queries, boxes, size, scale, 4, box_scale))


@pytest.mark.parametrize('seed', range(60))
def test_ties_of_any_queries_go_to_the_lowest_index(seed):
    """Small integers and scales of powers of two, so that all arithmetic is exact; a third of the queries occurs twice.

    One location that is detected as two classes gives equal queries with equal boxes.
    """
    generator = torch.Generator().manual_seed(seed)

    def integers(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    dims, stuff, num = 3, 3, 6
    height, width = integers(2, 9, 2).tolist()
    embedding = integers(-2, 3, dims, height, width).float()
    queries = integers(-1, 2, stuff + num, dims).float()
    queries[-1], queries[-2] = queries[stuff], queries[0]
    scale = tuple((2.0 ** integers(-1, 2, 2)).tolist())
    size = int(height * 4 / scale[1]), int(width * 4 / scale[0])
    boxes = random_boxes(num, size, generator)
    boxes[-1] = boxes[0]
    windows = pixel_windows(boxes, size)
    found = best_queries(embedding, queries, windows, size, scale, 4, (None, 7)[seed % 2])

    rows, columns = Axis.of(size[0], scale[1], 4, height), Axis.of(size[1], scale[0], 4, width)
    maps = embedding.double()
    for axis, dim in ((rows, 1), (columns, 2)):
        weight = axis.weight.double().reshape((-1, 1) if dim == 1 else (-1,))
        maps = maps.index_select(dim, axis.cell) * (1 - weight) + maps.index_select(dim, axis.cell + 1) * weight
    scores = torch.einsum('qd,dhw->qhw', queries.double(), maps)
    y, x = torch.arange(size[0])[:, None], torch.arange(size[1])
    for score, (left, top, right, bottom) in zip(scores[stuff:], windows.tolist(), strict=True):
        score[~((x >= left) & (x < right) & (y >= top) & (y < bottom))] = -torch.inf
    np.testing.assert_array_equal(found.render(torch.arange(stuff + num + 1)), scores.numpy().argmax(axis=0))


@pytest.mark.parametrize('shift', [0, 9])
@pytest.mark.parametrize('seed', range(12))
def test_of_equal_queries_the_first_wins_whatever_the_rounding(seed, shift):
    """With several threads, a product of matrices rounds equal rows in different ways."""
    generator = torch.Generator().manual_seed(seed)
    num, stuff, (height, width) = 1 + seed % 6, 6, (48, 72)
    embedding = F.interpolate(torch.randn(1, 32, 12, 18, generator=generator), size=(height, width), mode='bilinear')[0]
    x, y = (torch.randint(4, side - 4, (num,), generator=generator) for side in (width, height))
    queries = F.normalize(embedding[:, y, x].T, dim=1)
    everywhere = F.normalize(torch.randn(stuff, 32, generator=generator), dim=1)
    half = torch.randint(8, 40, (num, 1), generator=generator)
    boxes = torch.cat([4 * torch.stack([x, y], dim=1) - half, 4 * torch.stack([x, y], dim=1) + half], dim=1)
    windows = pixel_windows(torch.cat([boxes, boxes + shift]), (192, 288))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = best_queries(embedding, torch.cat([everywhere, queries, queries]), windows, (192, 288))
    finally:
        torch.set_num_threads(threads)
    best = found.render(torch.arange(stuff + 2 * num + 1))
    assert ((best >= stuff) & (best < stuff + num)).any()
    for repeat, (left, top, right, bottom) in enumerate(windows[:num].tolist(), stuff + num):
        assert not (best[top:bottom, left:right] == repeat).any()
    assert shift == 0 or (best >= stuff + num)[best < stuff + 2 * num].any() or num == 1


def test_equal_queries_in_other_windows_are_both_kept():
    embedding = per_pixel([4, 4, 4, 4, 0, 0]).embedding
    queries = torch.eye(8)[[0, 1, 4, 4]]
    windows = torch.tensor([[0, 0, 2, 1], [2, 0, 4, 1]])
    found = best_queries(embedding, queries, windows, (1, 6), stride=1)
    assert found.render(torch.arange(5)).tolist() == [[2, 2, 3, 3, 0, 0]]


def test_scores_without_queries():
    logits = torch.randn(6, 9, 11)
    found = best_queries(logits, None, torch.zeros(0, 4, dtype=torch.int64), (36, 44))
    upsampled = F.interpolate(logits[None], scale_factor=4, mode='bilinear')[0]
    assert (found.render(torch.arange(7)) == upsampled.argmax(dim=0)).float().mean() > 0.999


@pytest.mark.parametrize('mode', ['segment', 'component'])
def test_inputs_are_unchanged(mode):
    maps = EmbeddingMap(torch.randn(8, 6, 6), torch.eye(8)[:S], semantic=torch.randn(S + 1, 6, 6))
    instances = instances_of(random_boxes(4, (24, 24), torch.Generator().manual_seed(1)), [0, 1, 2, 0], [0.5] * 4,
                             torch.eye(8)[2:6])  # fmt: skip
    before, maps_before = instances.clone(), [t.clone() for t in (maps.embedding, maps.stuff_queries, maps.semantic)]
    for given in (maps, EmbeddingMap(maps.embedding, maps.stuff_queries)):
        fuse(instances, given, stuff_area_limit=9, stuff_area_mode=mode)
    assert all(torch.equal(instances[key], before[key]) for key in before.keys())  # noqa: SIM118
    now = (maps.embedding, maps.stuff_queries, maps.semantic)
    assert all(torch.equal(a, b) for a, b in zip(now, maps_before, strict=True))


def test_several_images_of_different_sizes():
    head = EmbeddingFusion(T, S, stuff_area_limit=0)
    results = head.predict([evidence_of(InstanceData(), per_pixel(names)) for names in ([0, 1], [1, 1, 0])])
    assert [r.sem_seg.tolist() for r in results] == [[[[3, 4]]], [[[4, 4, 3]]]]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_not_used(dtype):
    """Also where validation runs under autocast; float16 could not hold what stands for 'not in the box' either."""
    generator = torch.Generator().manual_seed(0)
    embedding = F.interpolate(torch.randn(1, 8, 5, 5, generator=generator), (20, 20), mode='bilinear')[0]
    queries = F.normalize(torch.randn(12, 8, generator=generator), dim=1)
    maps = EmbeddingMap(100 * embedding, queries[:9])
    instances = instances_of([[0, 0, 60, 60], [10, 10, 70, 70], [5, 40, 60, 79]], [0] * 3, [0.9] * 3, queries[9:])
    expected, segments = fuse(instances, maps)
    assert expected.unique().numel() > 4
    alike = F.normalize(queries[:1] + 1e-4 * torch.randn(T, 8, generator=generator), dim=1)
    head, many = EmbeddingFusion(T, S, category_from='embedding'), InstanceData(embeddings=queries)
    labels = head.labels(many, alike)
    with torch.autocast('cpu', dtype=dtype):
        found, its_segments = fuse(instances, maps)
        assert torch.equal(head.labels(many, alike), labels)
    assert torch.equal(found, expected)
    assert its_segments == segments


def sample_annotations(shared_data):
    """Annotations of the COCO sample, whether a category is a thing, and a function that reads an image's ids."""
    folder = shared_data / 'coco_panoptic_sample'
    panoptic = json.loads((folder / 'panoptic.json').read_text())
    is_thing = {category['id']: bool(category['isthing']) for category in panoptic['categories']}

    def read(annotation):
        path = str(folder / 'panoptic' / annotation['file_name'])
        return rgb_to_id(np.ascontiguousarray(cv2.imread(path)[..., ::-1]))

    return panoptic['annotations'], is_thing, read


def test_ground_truth_comes_back(shared_data):
    """One unit vector a segment: the map is the ground truth itself, so PQ is 1."""
    annotations, is_thing, read = sample_annotations(shared_data)
    seen = 0
    for annotation in annotations:
        segments = annotation['segments_info']
        if any(s['iscrowd'] for s in segments):
            continue
        ids = read(annotation)[::2, ::2]  # as in the file, but smaller
        stuff = [s['id'] for s in segments if not is_thing[s['category_id']]]
        things = [s['id'] for s in segments if is_thing[s['category_id']] and (ids == s['id']).any()]
        names = [*stuff, *things, 0]  # void is one more stuff class here
        index = np.zeros(ids.shape, np.int64)
        boxes = []
        for i, name in enumerate(names):
            index[ids == name] = i
            if name in things:
                ys, xs = np.nonzero(ids == name)
                boxes.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        unit = torch.eye(len(names))
        embedding = unit[torch.from_numpy(index)].permute(2, 0, 1)
        maps = EmbeddingMap(embedding, torch.cat([unit[: len(stuff)], unit[-1:]]), stride=1)
        num = len(things)
        instances = instances_of(boxes, [0] * num, [1] * num, unit[len(stuff) : len(stuff) + num])
        panoptic, _ = fuse(instances, maps, things=1)
        values = [*range(1, len(stuff) + 1), *(1000 * k for k in range(1, num + 1)), len(stuff) + 1]
        np.testing.assert_array_equal(panoptic.numpy(), np.array(values)[index])
        seen += 1
        if seen == 8:
            break
    assert seen == 8


def street_of_the_sample(shared_data, noise, blur, num=100, size=(800, 1333), grid=(200, 336), stuff=53, seed=0):
    """Stuff of an image of the sample under 100 of the sample's instances, scaled, the largest at the back.

    A segment has a random unit vector; ``noise`` is added at each point of the grid in each dimension, and the map is
    smoothed with a Gaussian of ``blur`` points. An instance's query is read inside it. Returns evidence and the number
    of the segment at each point.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    annotations, is_thing, read = sample_annotations(shared_data)
    things = [
        (a, s) for a in annotations for s in a['segments_info'] if is_thing[s['category_id']] and not s['iscrowd']
    ]
    things = sorted((things[i] for i in rng.permutation(len(things))[:num]), key=lambda thing: -thing[1]['area'])

    def on_grid(ids):
        y, x = (
            ((4 * np.arange(cells) + 2) * old // new).clip(max=old - 1)
            for cells, old, new in zip(grid, ids.shape, size, strict=True)
        )
        return ids[y[:, None], x]

    back = max(annotations, key=lambda a: sum(not is_thing[s['category_id']] for s in a['segments_info']))
    ids, names, boxes = on_grid(read(back)), np.zeros(grid, np.int64), []
    for i, segment in enumerate(back['segments_info']):
        names[ids == segment['id']] = i % stuff
    for i, (annotation, segment) in enumerate(things, stuff):
        ids = read(annotation)
        names[on_grid(ids) == segment['id']] = i
        x, y, width, height = segment['bbox']
        scale = np.array([size[1] / ids.shape[1], size[0] / ids.shape[0]] * 2)
        boxes.append((np.array([x, y, x + width, y + height]) * scale).tolist())
    unit = F.normalize(torch.randn(stuff + num, 32, generator=generator), dim=1)
    embedding = unit[torch.from_numpy(names)].permute(2, 0, 1)
    embedding = embedding + noise * torch.randn(embedding.shape, generator=generator)
    if blur:
        embedding = torch.from_numpy(np.stack([cv2.GaussianBlur(e, (0, 0), blur) for e in embedding.numpy()]))
    queries = unit[stuff:].clone()
    for i, query in enumerate(queries, stuff):
        ys, xs = np.nonzero(names == i)
        if len(ys):
            query[:] = F.normalize(embedding[:, ys[len(ys) // 2], xs[len(xs) // 2]], dim=0)
    scores = torch.linspace(0.99, 0.3, num).tolist()
    instances = instances_of(boxes, rng.integers(0, 80, num).tolist(), scores, queries)
    evidence = evidence_of(instances, EmbeddingMap(embedding.contiguous(), unit[:stuff]), output_size=size)
    return evidence, names


def trained_model(shared_data, steps=120):
    """A small CIAE after so many steps on one image of the sample: it knows little, but tells apart what is in it."""
    config = Config.fromfile(ROOT / 'configs/ciae/ciae_r50_fpn_90k_coco.py')
    init_default_scope(config.default_scope)
    norm_cfg = dict(type='GN', num_groups=8, requires_grad=True)
    config.merge_from_dict(
        dict(
            model=dict(
                backbone=dict(
                    depth=18, base_channels=32, stem_channels=32, frozen_stages=-1, norm_eval=False, init_cfg=None
                ),
                neck=dict(in_channels=[32, 64, 128, 256], out_channels=32),
                bbox_head=dict(in_channels=32, feat_channels=32, norm_cfg=norm_cfg),
                semantic_head=dict(in_channels=32, inner_channels=64, momentum=0.9, norm_cfg=norm_cfg),
            )
        )
    )
    pipeline = config.train_dataloader.dataset.pipeline
    pipeline.resize.update(scale=(320, 192), keep_ratio=False)
    sample = shared_data / 'coco_panoptic_sample'
    dataset = DATASETS.build(
        dict(
            type='CocoPanopticDataset',
            ann_file=str(sample / 'panoptic.json'),
            data_prefix=dict(img=str(sample / 'images'), seg=str(sample / 'panoptic')),
            indices=1,
            pipeline=pipeline,
        )
    )
    set_random_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(steps):
        data = pseudo_collate([dataset[0]])
        total, values = model.parse_losses(model(**model.data_preprocessor(data, True), mode='loss'))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    print({name: round(value.item(), 2) for name, value in values.items()})
    return model.eval(), sample / 'images' / Path(dataset.get_data_info(0)['img_path']).name


@pytest.fixture(scope='module')
@torch.no_grad()
def trained_scene(shared_data, size=(800, 1333)):
    """The map that a trained network makes of an image of the sample, and detections with the street's boxes on it."""
    with torch.enable_grad():
        model, image = trained_model(shared_data)
    boxes = street_of_the_sample(shared_data, 0.3, 1.0)[0].instances.bboxes
    pixels = torch.from_numpy(cv2.resize(cv2.imread(str(image)), size[::-1])).permute(2, 0, 1)
    sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    data = model.data_preprocessor(dict(inputs=[pixels], data_samples=[sample]))
    embedding = model(data['inputs'], mode='tensor')[-1][0]
    unit = F.normalize(embedding.flatten(1), dim=0)
    assert (unit.T @ F.normalize(unit.mean(dim=1), dim=0)).mean() < 0.95  # not all the same
    points = (boxes[:, :2] + boxes[:, 2:]).div(2).long()
    queries = model.semantic_head.queries(embedding, points)
    scores = torch.linspace(0.99, 0.3, len(boxes)).tolist()
    instances = instances_of(boxes.tolist(), [i % 80 for i in range(len(boxes))], scores, queries)
    return evidence_of(instances, EmbeddingMap(embedding, model.semantic_head.stuff_queries), output_size=size)


@pytest.mark.slow
@pytest.mark.parametrize('scale', [(1.0, 1.0), (1.6, 1.7)])
@pytest.mark.parametrize(('noise', 'blur'), [(0.1, 1.0), (0.3, 0.0)])
def test_same_as_plain_computation_at_full_size(shared_data, noise, blur, scale):
    evidence, _ = street_of_the_sample(shared_data, noise, blur)
    instances, maps = evidence.instances, evidence.stuff
    boxes = instances.bboxes / torch.tensor([*scale, *scale])
    queries = torch.cat([maps.stuff_queries, instances.embeddings])
    size = tuple(int(n / s) for n, s in zip(evidence.output_size, scale[::-1], strict=True))
    found = best_queries(maps.embedding, queries, pixel_windows(boxes, size), size, scale)
    assert_same_as_plain(found, plain(maps.embedding, queries, boxes, size, scale))


def paste(instances, logits, head, size):
    """mmdet's own masks of detections at the size of the image."""
    meta = {'scale_factor': (1.0, 1.0), 'ori_shape': size, 'img_shape': size}
    pasted = InstanceData(bboxes=instances.bboxes.clone(), labels=instances.labels, scores=instances.scores)
    pasted.masks = head._predict_by_feat_single(
        logits, pasted.bboxes, pasted.labels, meta, ConfigDict(mask_thr_binary=0.5), rescale=True
    )
    return pasted


def upsample(logits, size):
    return F.interpolate(logits[None], scale_factor=4, mode='bilinear')[0, :, : size[0], : size[1]]


@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.parametrize('threads', [1, 0], ids=['one_thread', 'all_threads'])
def test_at_least_as_fast_as_pasting_upsampling_and_merging(shared_data, trained_scene, threads):
    """From the network's outputs to the map, 100 detections and 53 stuff classes at 800 x 1333."""
    kinds = {'smooth': (0.0, 1.0), 'noisy': (0.3, 1.0), 'rough': (0.3, 0.0)}
    scenes = {kind: street_of_the_sample(shared_data, *how) for kind, how in kinds.items()}
    (noisy, names), instances = scenes['noisy'], scenes['noisy'][0].instances
    scenes = {kind: evidence for kind, (evidence, _) in scenes.items()} | dict(trained=trained_scene)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(len(instances), 1, 5, 5, generator=generator) + 0.5
    mask_logits = F.interpolate(coarse, (28, 28), mode='bicubic')
    semantic = F.one_hot(torch.from_numpy(names).clamp(max=53), 54).permute(2, 0, 1).float()
    semantic += 0.1 * torch.randn(semantic.shape, generator=generator)
    mask_head = FCNMaskHead(num_convs=0, in_channels=1, conv_out_channels=1, class_agnostic=True)
    theirs = HeuristicFusionHead(80, 53, test_cfg=ConfigDict(mask_overlap=0.5, stuff_area_limit=4096))
    heuristic, ours = HeuristicFusion(80, 53, score_thr=0.0), EmbeddingFusion(80, 53)
    times = {}

    def timed(name, function, *args):
        start = time.perf_counter()
        result = function(*args)
        times[name] = min(times.get(name, np.inf), 1e3 * (time.perf_counter() - start))
        return result

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        for _ in range(4):  # in turns, so that a busy moment of the machine does not meet one of them only
            for kind, evidence in scenes.items():
                timed(kind, ours.predict, [evidence])
            pasted = timed('paste', paste, instances, mask_logits, mask_head, noisy.output_size)
            logits = timed('upsample', upsample, semantic, noisy.output_size)
            timed('mmdet', theirs.predict, [pasted], [logits])
            timed('HeuristicFusion', heuristic.predict, [evidence_of(pasted, StuffLogits(logits, 'stuff+other'))])
    finally:
        torch.set_num_threads(before)
    for kind, evidence in scenes.items():
        queries = torch.cat([evidence.stuff.stuff_queries, evidence.instances.embeddings])
        windows = pixel_windows(evidence.instances.bboxes, evidence.output_size)
        found = best_queries(evidence.stuff.embedding, queries, windows, evidence.output_size)
        print(f'{kind}: {len(found.listed) / found.cells.numel():.1%} of the cells undecided')
    whole = times['paste'] + times['upsample'] + times['mmdet']
    print(', '.join(f'{name} {ms:.0f} ms' for name, ms in times.items()))
    for kind in scenes:
        print(f'{kind}: {times[kind] / whole:.3f} of paste + upsample + mmdet, '
              f'{times[kind] / times["HeuristicFusion"]:.2f} of HeuristicFusion alone')  # fmt: skip
        assert times[kind] <= whole


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_cuda_gives_the_same_map(shared_data):
    evidence, _ = street_of_the_sample(shared_data, 0.1, 1.0)
    head = EmbeddingFusion(80, 53)
    expected, _ = head.fuse(evidence)
    maps = EmbeddingMap(evidence.stuff.embedding.cuda(), evidence.stuff.stuff_queries.cuda())
    (result,) = head.predict([evidence_of(evidence.instances.to('cuda'), maps, output_size=evidence.output_size)])
    assert result.sem_seg.device.type == 'cuda'
    assert (result.sem_seg[0].cpu() == expected).float().mean() > 0.9999
