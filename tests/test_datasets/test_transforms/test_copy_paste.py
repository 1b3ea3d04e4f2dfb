"""Copy-paste: afterwards all annotations are those of one image, the one that is there to see."""

import copy

import numpy as np
import pytest
from helpers.augmented import LOAD, assert_same, reloaded, samples_of, shapes_config
from helpers.panoptic_files import PanopticFiles
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import init_default_scope

from mmpanoptic.datasets.transforms import PanopticCopyPaste
from mmpanoptic.registry import DATASETS
from mmpanoptic.utils import UserError

NUM_THINGS = 7


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpanoptic')


def paste(target: dict, source: dict, seed: int = 0, **options) -> dict:
    np.random.seed(seed)
    return PanopticCopyPaste(**options)(copy.deepcopy(target) | dict(mix_results=[copy.deepcopy(source)]))


def all_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every object that can be is pasted."""
    monkeypatch.setattr(np.random, 'randint', lambda high: high - 1)


@pytest.mark.parametrize('seed', range(8))
def test_annotations_are_what_the_loader_would_have_written(seed, tiny_shapes, tmp_path):
    target, source = samples_of(shapes_config(tiny_shapes), seed, (seed + 3) % 8)
    results = paste(target, source, seed)
    number = len(results['gt_bboxes'])
    assert results['gt_masks'].masks.dtype == results['gt_seg_map'].dtype == np.uint8
    assert results['gt_masks'].masks.any(axis=(1, 2)).all() and number == len(results['gt_masks'])
    assert_same(results, reloaded(results, tmp_path, NUM_THINGS))


def test_pixels_go_with_their_objects(tiny_shapes, monkeypatch):
    target, source = samples_of(shapes_config(tiny_shapes), 0, 1)
    all_of(monkeypatch)
    results = paste(target, source)
    crowd = source['gt_ignore_flags'].astype(bool)
    pasted = source['gt_masks'].masks[~crowd].any(axis=0)
    assert pasted.any()
    for key in ('img', 'gt_seg_map'):
        np.testing.assert_array_equal(results[key][pasted], source[key][pasted])
    np.testing.assert_array_equal(results['img'][~pasted], target['img'][~pasted])
    assert results['img'].dtype == np.uint8
    number = (~crowd).sum()
    np.testing.assert_array_equal(results['gt_masks'].masks[-number:], source['gt_masks'].masks[~crowd])
    assert not results['gt_ignore_flags'][-number:].any()


def test_how_many_are_pasted(tiny_shapes):
    target, source = samples_of(shapes_config(tiny_shapes), 0, 1)
    possible = int((~source['gt_ignore_flags'].astype(bool)).sum())
    for most in (100, 2, 0):
        found = set()
        for seed in range(60):
            results = paste(target, source, seed, max_pasted=most, min_visible=0.0)
            same = (results['gt_masks'].masks[:, None] == source['gt_masks'].masks[None]).all(axis=(2, 3)).any(axis=1)
            found.add(int(same.sum()))
        assert found == set(range(min(possible, most) + 1))


def square(size: tuple[int, int], *boxes: tuple[int, int, int, int, int]) -> dict:
    """An image of stuff 9 with whole rectangles (top, left, bottom, right, label), the later ones in front."""
    semantic = np.full(size, 9, np.uint8)
    masks = np.zeros((len(boxes), *size), np.uint8)
    for mask, (top, left, bottom, right, label) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
        semantic[top:bottom, left:right] = label
    bitmaps = BitmapMasks(masks, *size)
    return dict(
        img=np.random.default_rng(len(boxes)).integers(0, 256, (*size, 3), np.uint8),
        img_path='x.png',
        gt_seg_map=semantic,
        gt_masks=bitmaps,
        gt_bboxes=bitmaps.get_bboxes(HorizontalBoxes),
        gt_bboxes_labels=np.array([box[4] for box in boxes], np.int64),
        gt_ignore_flags=np.zeros(len(boxes), bool),
    )


def test_what_is_hidden_is_dropped_and_void(monkeypatch):
    all_of(monkeypatch)
    # Of the first object 5 of 100 pixels are left, of the second half; the third is out of reach.
    target = square((40, 40), (0, 0, 10, 10, 1), (20, 0, 30, 10, 2), (30, 30, 40, 40, 3))
    source = square((40, 40), (0, 0, 10, 10, 4), (20, 5, 30, 20, 5))
    source['gt_masks'].masks[0, 9, 5:] = 0
    source['gt_seg_map'][9, 5:10] = 9
    results = paste(target, source)
    assert results['gt_bboxes_labels'].tolist() == [2, 3, 4, 5]
    assert results['gt_bboxes'].tensor.tolist() == [[0, 20, 5, 30], [30, 30, 40, 40], [0, 0, 10, 10], [5, 20, 20, 30]]
    assert (results['gt_seg_map'][9, 5:10] == 255).all() and (results['gt_seg_map'] == 255).sum() == 5
    assert not (results['gt_seg_map'] == 1).any()
    results = paste(target, source, min_visible=0.0)
    assert results['gt_bboxes_labels'].tolist() == [1, 2, 3, 4, 5] and not (results['gt_seg_map'] == 255).any()
    source['gt_masks'].masks[0, 9, 5:] = 1
    source['gt_seg_map'][9, 5:10] = 4
    assert paste(target, source, min_visible=0.0)['gt_bboxes_labels'].tolist() == [2, 3, 4, 5]  # nothing is left


def test_masks_that_overlap(monkeypatch):
    """As of an instances JSON: a person (1) and, in front, the tie (2)."""
    all_of(monkeypatch)
    target = square((40, 60), (0, 0, 20, 20, 1), (5, 5, 10, 10, 2))
    source = square((40, 60), (10, 15, 30, 40, 1), (15, 20, 20, 25, 2))
    results = paste(target, source)
    person, tie, pasted_person, pasted_tie = results['gt_masks'].masks.astype(bool)
    assert (person & tie).sum() == 25 and (pasted_person & pasted_tie).sum() == 25
    assert not (person & (pasted_person | pasted_tie)).any()
    assert person.sum() == 400 - 50
    for mask in (tie, pasted_tie):  # in front of their persons
        assert (results['gt_seg_map'][mask] == 2).all()
    hidden = square((40, 60), (0, 0, 20, 20, 1), (0, 0, 18, 20, 2))  # only the feet of the person are seen
    over = square((40, 60), (16, 0, 24, 24, 3))
    assert paste(hidden, over)['gt_bboxes_labels'].tolist() == [2, 3]
    # The tie alone stays behind: where it was seen, the person has no pixels to paste.
    source['gt_ignore_flags'][1] = True
    results = paste(target, source)
    assert results['gt_bboxes_labels'].tolist() == [1, 2, 1]
    assert results['gt_masks'].masks[2].sum() == 500 - 25
    np.testing.assert_array_equal(results['img'][15:20, 20:25], target['img'][15:20, 20:25])


def test_images_of_other_sizes(monkeypatch):
    all_of(monkeypatch)
    target = square((20, 30), (0, 0, 5, 5, 1))
    for size in ((40, 10), (10, 50), (20, 30)):
        source = square(size, (5, 2, 9, 9, 3), (0, size[1] - 4, 8, size[1] - 1, 4))
        results = paste(target, source)
        assert results['img'].shape == (20, 30, 3)
        assert results['gt_masks'].masks.shape[1:] == results['gt_seg_map'].shape == (20, 30)
        expected = [1, 3] if size[1] == 50 else [1, 3, 4]
        assert results['gt_bboxes_labels'].tolist() == expected


def test_nothing_to_paste_or_to_paste_on():
    empty, source = square((20, 20)), square((20, 20), (2, 2, 8, 8, 1))
    for seed in range(4):
        assert len(paste(source, empty, seed)['gt_bboxes']) == 1
        assert len(paste(empty, empty, seed)['gt_bboxes']) == 0
        assert len(paste(empty, source, seed)['gt_masks']) in (0, 1)


def test_instances_alone(tmp_path, monkeypatch):
    """Without a semantic map, masks are pasted as they are."""
    all_of(monkeypatch)
    files = PanopticFiles(tmp_path)
    loads = (LOAD[0], dict(LOAD[1], with_seg=False))
    config = files.config(pipeline=list(loads), inst_ann_file='instances.json')
    target, source = samples_of(config, 0, 1)  # images 30 and 10
    results = paste(target, source, min_visible=0.0)
    assert 'gt_seg_map' not in results and len(results['gt_bboxes']) == 3
    assert (results['gt_masks'].masks[1] & results['gt_masks'].masks[2]).any()


def test_what_it_cannot_do():
    one = square((20, 20), (2, 2, 8, 8, 1))
    with pytest.raises(UserError, match='no other image: put it into the pipeline of a MultiImageMixDataset'):
        PanopticCopyPaste()(dict(one))
    without = {key: value for key, value in one.items() if key != 'gt_masks'}
    for target, source in ((one, without), (without, one)):
        with pytest.raises(UserError, match=r'x\.png: PanopticCopyPaste lacks gt_masks: load'):
            paste(target, source)
    with pytest.raises(UserError, match='with_panoptic=False'):
        paste(one | dict(gt_panoptic_map=np.zeros((20, 20), np.int32)), one)


@pytest.mark.parametrize('overlapping', [False, True])
def test_in_a_dataset(overlapping, tiny_shapes):
    options = dict(inst_ann_file='annotations/instances_train.json') if overlapping else {}
    steps = dict(paste=dict(type='PanopticCopyPaste'), flip=None, pack=dict(type='PackPanopticInputs'))
    mixed = dict(type='MultiImageMixDataset', dataset=shapes_config(tiny_shapes, **options), pipeline=steps)
    dataset = DATASETS.build(mixed)
    assert len(dataset.pipeline) == 2
    assert len(DATASETS.build(dict(type='ClassBalancedDataset', oversample_thr=1e-3, dataset=mixed))) == len(dataset)
    np.random.seed(0)
    more = 0
    for place in range(len(dataset)):
        sample, info = dataset[place]['data_samples'], dataset.get_data_info(place)
        assert sample.img_path == info['img_path']
        instances, semantic = sample.gt_instances, sample.gt_sem_seg.sem_seg[0].numpy()
        more += len(instances) > sum(not one['ignore_flag'] for one in info['instances'])
        masks = instances.masks.masks.astype(bool)
        for mask, label in zip(masks, instances.labels.tolist(), strict=True):
            found = set(semantic[mask].tolist())
            assert label in found if overlapping else found == {label}
        assert (masks.sum(axis=0).max() > 1) <= overlapping
    assert more >= 3
