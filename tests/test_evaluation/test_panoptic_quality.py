"""Panoptic quality: the official results to the last bit, each rule by itself, errors, and the cost."""

import json
import pickle

import numpy as np
import pytest
from helpers.pq_cases import CATEGORIES, Case, random_case, reference_matches, write_files
from helpers.timing import cpu_seconds
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpanoptic.evaluation.panoptic_files import evaluate_files
from mmpanoptic.evaluation.panoptic_quality import accumulate, average, match_segments, per_class
from mmpanoptic.evaluation.tables import ClassScores, class_table
from mmpanoptic.utils import DatasetError, UserError

SEEDS = st.integers(0, 2**32 - 1)


def seg(id, label=0, area=None, iscrowd=0):
    return {'id': id, 'label': label} | ({} if area is None else {'area': area, 'iscrowd': iscrowd})


def row(*runs):
    """A map of one row from (id, length) pairs."""
    return np.concatenate([np.full(length, id, np.int32) for id, length in runs])[None]


@pytest.mark.parametrize('name', ['random_a', 'random_b', 'coco'])
def test_official_results_to_the_last_bit(name, shared_data):
    folder = shared_data / 'pq_fixtures' / name
    gt_dir = shared_data / 'coco_panoptic_sample' / 'panoptic' if name == 'coco' else folder / 'gt'
    result = evaluate_files(folder / 'gt.json', gt_dir, folder / 'pred.json', folder / 'pred')
    expected = json.loads((folder / 'expected.json').read_text())
    bits = {
        str(c): {'iou_sum': r['iou_sum'].hex(), 'tp': r['tp'], 'fp': r['fp'], 'fn': r['fn']}
        for c, r in result['per_class'].items()
    }
    assert bits == expected['per_category']
    for group, values in expected['average'].items():
        assert {k: v if k == 'n' else v.hex() for k, v in result[group].items()} == values


@pytest.mark.parametrize('options', [{}, {'crowd': 0.5}, {'size': (4, 4)}], ids=str)
def test_reference_on_random_images(options):
    for seed in range(150):
        case = random_case(seed, **options)
        matches = match_segments(*case)
        assert (matches.tp, sorted(matches.fp), sorted(matches.fn)) == reference_matches(case), seed


def test_reference_on_noise():
    rng = np.random.default_rng(0)
    gt, pred = rng.integers(0, 6, (2, 40, 50))
    pred = np.where(rng.random(gt.shape) < 0.7, gt, pred)
    gt_segments = [seg(i, i % 3, int((gt == i).sum())) for i in range(1, 6)]
    case = Case(gt, gt_segments, pred, [seg(i, i % 3) for i in range(1, 6)])
    matches = match_segments(*case)
    assert len(matches.tp) > 2
    assert (matches.tp, sorted(matches.fp), sorted(matches.fn)) == reference_matches(case)


def test_thousands_of_segments():
    ids = np.arange(1, 10001).reshape(100, 100)
    matches = match_segments(ids, [seg(i, 0, 1) for i in range(1, 10001)], ids, [seg(i) for i in range(1, 10001)])
    assert matches == ([(0, 1.0)] * 10000, [], [])


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_ground_truth_as_prediction_scores_one(seed):
    case = random_case(seed, crowd=0.0)
    prediction = [seg(s['id'], s['label']) for s in case.gt_segments]
    stat = accumulate([match_segments(case.gt_ids, case.gt_segments, case.gt_ids, prediction)], 6)
    present = {s['label'] for s in case.gt_segments}
    assert all(per_class(stat, CATEGORIES)[c['id']]['pq'] == float(c['label'] in present) for c in CATEGORIES)
    assert average(stat, CATEGORIES)['n'] == len(present)


@given(SEEDS, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_predicted_ids_do_not_matter(seed, random):
    case = random_case(seed)
    ids = [s['id'] for s in case.pred_segments]
    new_id = dict(zip(ids, random.sample(range(1, 2**24), len(ids)), strict=True)) | {0: 0}
    renamed = np.vectorize(new_id.__getitem__, otypes=[np.int64])(case.pred_map)
    segments = [seg(new_id[s['id']], s['label']) for s in case.pred_segments]
    random.shuffle(segments)
    one, two = match_segments(*case), match_segments(case.gt_ids, case.gt_segments, renamed, segments)
    assert one.tp == two.tp
    assert (sorted(one.fp), sorted(one.fn)) == (sorted(two.fp), sorted(two.fn))


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_every_segment_is_found_or_missed(seed):
    case = random_case(seed)
    matches = match_segments(*case)
    wanted = sorted(s['label'] for s in case.gt_segments if not s['iscrowd'])
    assert sorted([label for label, _ in matches.tp] + matches.fn) == wanted
    assert len(matches.tp) + len(matches.fp) <= len(case.pred_segments)


@given(SEEDS, st.sampled_from([np.int16, np.int32, np.uint32, np.int64, np.uint64]))
@settings(max_examples=40, deadline=None)
def test_values_in_memory_and_ids_in_files_score_the_same(seed, dtype):
    case = random_case(seed)
    values = {s['id']: s['label'] + 1000 * k for k, s in enumerate(case.pred_segments, 1)} | {0: 6}
    in_memory = np.vectorize(values.__getitem__, otypes=[dtype])(case.pred_map)
    segments = [seg(values[s['id']], s['label']) for s in case.pred_segments]
    one, two = match_segments(*case), match_segments(case.gt_ids, case.gt_segments, in_memory, segments, void=6)
    assert (one.tp, sorted(one.fp), one.fn) == (two.tp, sorted(two.fp), two.fn)


def test_id_zero_is_a_segment_where_void_is_another():
    gt, pred = row((5, 4), (0, 2)), row((0, 4), (1, 2))
    assert match_segments(gt, [seg(5, 0, 4)], pred, [seg(0)], void=1).tp == [(0, 1.0)]


@pytest.mark.parametrize(('common', 'matched'), [(4, []), (5, [(0, 5 / 9)])])
def test_iou_has_to_exceed_one_half(common, matched):
    # a ground truth of 6 pixels and a prediction of 6 or 8, of which 4 or 5 in common: an IoU of 4 / 8 or 5 / 9
    gt, pred = row((1, 6), (9, 14)), row((8, 6 - common), (2, {4: 6, 5: 8}[common]), (8, 14))[:, :20]
    assert match_segments(gt, [seg(1, 0, 6), seg(9, 1, 14)], pred, [seg(2), seg(8, 2)]).tp == matched


def test_matching_needs_the_same_class():
    assert match_segments(row((1, 4)), [seg(1, 0, 4)], row((1, 4)), [seg(1, 1)]) == ([], [1], [0])


def test_void_is_taken_out_of_the_union():
    assert match_segments(row((1, 4), (0, 40)), [seg(1, 0, 4)], row((1, 44)), [seg(1)]).tp == [(0, 1.0)]


@pytest.mark.parametrize('area', [8, 12, 5, 3, 2, 4.5, float('nan'), float('inf')])
@pytest.mark.parametrize('iscrowd', [0, 1])
def test_another_area_than_that_of_the_map_is_refused(area, iscrowd):
    """Halved, it would give an IoU of 2; tripled, a segment would be missed."""
    gt, pred = row((1, 4), (0, 4)), row((1, 4), (0, 4))
    message = f'ground truth of a: segment id 1 has area {area} in the JSON and 4 pixels in the map: write'
    with pytest.raises(DatasetError, match=message):
        match_segments(gt, [seg(1, 0, area, iscrowd)], pred, [seg(1)], name='a')
    assert match_segments(gt, [seg(1, 0, 4.0)], pred, [seg(1)]).tp == [(0, 1.0)]


@pytest.mark.parametrize(('on_void', 'fp'), [(5, [0]), (6, [])])
def test_prediction_is_ignored_if_more_than_half_is_void(on_void, fp):
    gt, pred = row((1, 10 - on_void), (0, on_void)), row((3, 10))
    assert match_segments(gt, [seg(1, 1, 10 - on_void)], pred, [seg(3)]).fp == fp


def test_crowd_excuses_its_own_class_only_and_is_never_matched():
    gt, pred = row((1, 10)), row((3, 10))
    assert match_segments(gt, [seg(1, 0, 10, 1)], pred, [seg(3, 0)]) == ([], [], [])
    assert match_segments(gt, [seg(1, 0, 10, 1)], pred, [seg(3, 1)]) == ([], [1], [])


def test_void_and_crowd_add_up():
    gt, pred = row((1, 3), (0, 3), (2, 4)), row((3, 10))
    assert match_segments(gt, [seg(1, 0, 3, 1), seg(2, 1, 4)], pred, [seg(3, 0)]).fp == []


@pytest.mark.parametrize(('order', 'fp'), [((1, 2), [0]), ((2, 1), [])])
def test_last_listed_crowd_of_a_class_counts(order, fp):
    gt, pred = row((1, 10), (2, 5), (9, 3)), row((3, 10), (0, 8))
    crowds = {1: seg(1, 0, 10, 1), 2: seg(2, 0, 5, 1)}
    assert match_segments(gt, [*(crowds[i] for i in order), seg(9, 1, 3)], pred, [seg(3)]).fp == fp


def test_segments_without_pixels_are_refused():
    with pytest.raises(DatasetError, match='segment id 1 has area 4 in the JSON and 0 pixels in the map'):
        match_segments(row((0, 4)), [seg(1, 2, 4)], row((0, 4)), [])


def test_nothing_anywhere():
    assert match_segments(row((0, 4)), [], row((133, 4)), [], void=133) == ([], [], [])
    stat = accumulate([], 6)
    assert average(stat, CATEGORIES) == {'pq': 0.0, 'sq': 0.0, 'rq': 0.0, 'n': 0}
    assert per_class(stat, CATEGORIES)[7]['sq'] == 0.0


def test_matches_order_is_by_ground_truth_id():
    gt = row((9, 2), (4, 2), (6, 2))
    segments = [seg(9, 0, 2), seg(4, 1, 2), seg(6, 2, 2)]
    matches = match_segments(gt, segments, gt, [seg(9, 0), seg(4, 1), seg(6, 2)])
    assert [label for label, _ in matches.tp] == [1, 2, 0]
    assert pickle.loads(pickle.dumps(matches)) == matches


def test_sum_runs_one_by_one_in_the_given_order():
    images = [match_segments(row((1, a)), [seg(1, 0, a)], row((1, 10), (0, a - 10)), [seg(1)]) for a in (10, 13, 17)]
    ious = [image.tp[0][1] for image in images]
    forth, back = (accumulate(order, 1).iou_sum[0] for order in (images, images[::-1]))
    assert forth == (ious[0] + ious[1]) + ious[2]
    assert back == (ious[2] + ious[1]) + ious[0]


def test_averages_by_kind():
    matches = match_segments(row((1, 2), (2, 2)), [seg(1, 0, 2), seg(2, 3, 2)], row((1, 4)), [seg(1, 3)])
    stat = accumulate([matches], 6)  # label 0, a thing, is missed; so is label 3, stuff, with one false positive
    assert average(stat, CATEGORIES, isthing=True) == {'pq': 0.0, 'sq': 0.0, 'rq': 0.0, 'n': 1}
    assert average(stat, CATEGORIES)['n'] == 2
    assert list(per_class(stat, CATEGORIES)) == [c['id'] for c in CATEGORIES]


GT, PRED = row((1, 4), (0, 2)), row((5, 4), (0, 2))


@pytest.mark.parametrize(
    ('args', 'error', 'words'),
    [
        ((GT, [], PRED, [seg(5)]), DatasetError, 'ground truth of a.png holds segment id 1 '),
        ((GT, [seg(1, 0, 4)], PRED, []), UserError, 'prediction for a.png holds segment id 5 '),
        ((GT, [seg(1, 0, 4)], PRED, [seg(5), seg(6)]), UserError, 'lists segment id 6 that its map lacks'),
        ((GT, [seg(1, 0, 4), seg(1, 0, 4)], PRED, [seg(5)]), DatasetError, 'segment id 1 twice'),
        ((GT, [seg(1, 0, 4)], PRED, [seg(5), seg(5, 1)]), UserError, 'segment id 5 twice'),
        ((GT, [seg(0, 0, 4), seg(1, 0, 4)], PRED, [seg(5)]), DatasetError, '0 is void'),
        ((GT, [seg(1, 0, 4)], PRED, [seg(0), seg(5)]), UserError, '0 is void'),
        ((GT, [seg(1, 0, 4), seg(2**24, 0, 1)], PRED, [seg(5)]), DatasetError, 'id 16777216'),
        ((GT, [seg(1, 0, 4)], PRED, [seg(5), seg(-3)]), UserError, 'id -3'),
        ((GT + 2**24, [seg(1, 0, 4)], PRED, [seg(5)]), DatasetError, f'id {2**24 + 1} '),
        ((GT, [seg(1, 0, 4)], PRED - 1, [seg(4)]), UserError, 'id -1 '),
        ((GT, [seg(1, 0, 4)], PRED, [seg(5)], 133), UserError, 'id 0 that its segments_info lacks'),
        ((GT, [seg(1, 0, 4)], PRED[:, :5], [seg(5)]), UserError, r'\(1, 5\) .* \(1, 6\)'),
        ((GT, [seg(1, 0, 0)], PRED, [seg(5)]), DatasetError, 'segment id 1 has area 0'),
    ],
)
def test_errors_name_image_id_and_remedy(args, error, words):
    with pytest.raises(UserError, match=words) as caught:
        match_segments(*args, name='a.png')
    assert type(caught.value) is error
    assert 'a.png' in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('label', [-1, 6])
def test_label_outside_the_class_list(label):
    with pytest.raises(UserError, match=f'label {label}'):
        accumulate([match_segments(row((1, 1)), [seg(1, label, 1)], row((0, 1)), [])], 6)


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path, [random_case(seed) for seed in (1, 2, 3)])


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_missing_prediction(files):
    edit(files[2], lambda data: data['annotations'].pop())
    with pytest.raises(UserError, match=r'pred\.json has no prediction for image 1'):
        evaluate_files(*files)


def test_two_predictions_for_an_image(files):
    edit(files[2], lambda data: data['annotations'].append(data['annotations'][0]))
    with pytest.raises(UserError, match='two predictions for image 3'):
        evaluate_files(*files)


def test_prediction_for_another_image_is_ignored(files):
    before = evaluate_files(*files)
    extra = {'image_id': 99, 'file_name': 'none.png', 'segments_info': []}
    edit(files[2], lambda data: data['annotations'].append(extra))
    assert evaluate_files(*files) == before


def test_unknown_predicted_category(files):
    edit(files[2], lambda data: data['annotations'][0]['segments_info'][0].update(category_id=12345))
    with pytest.raises(UserError, match=r'pred\.json: 0003\.png: segment \d+ has category_id 12345'):
        evaluate_files(*files)


def test_ids_that_disagree_name_the_files(files):
    edit(files[0], lambda data: data['annotations'][0]['segments_info'].pop())
    with pytest.raises(DatasetError, match=r'gt/0001\.png.* holds segment id \d+ that its segments_info lacks'):
        evaluate_files(*files)


def test_missing_prediction_png(files):
    (files[3] / '0002.png').unlink()
    with pytest.raises(UserError, match=r"pred/0002\.png' cannot be read"):
        evaluate_files(*files)


FIRST = ('annotations', 0)
SEGMENT = (*FIRST, 'segments_info', 0)


@pytest.mark.parametrize(
    ('where', 'value', 'words'),
    [
        (('annotations',), {}, 'lists no annotations'),
        (('annotations',), 'x', '`annotations` is no list of objects'),
        (FIRST, 3, '`annotations` is no list of objects'),
        ((*FIRST, 'image_id'), [1], r'image \[1\] has image_id \[1\]: write int or str'),
        ((*FIRST, 'file_name'), None, 'image 3 has file_name None: write str'),
        ((*FIRST, 'file_name'), 's3://a/b.png', r"b\.png' cannot be read .*: .*pred\.json names it"),
        ((*FIRST, 'file_name'), 'a\0b', 'cannot be read .*null'),
        ((*FIRST, 'segments_info'), {}, 'image 3 has segments_info {}: write list'),
        (SEGMENT, 3, r'0003\.png: segments_info holds 3: write objects'),
        ((*SEGMENT, 'id'), 3.7, r'segment 3\.7 has id 3\.7: write int'),
        ((*SEGMENT, 'id'), True, 'segment True has id True: write int'),
        ((*SEGMENT, 'id'), -3, r'lists segment id -3: ids lie between 0 and'),
        ((*SEGMENT, 'category_id'), [7], r'has category_id \[7\]: write int or str'),
    ],
)
def test_predictions_of_wrong_types_are_one_line(where, value, words, files):
    def change(data):
        for key in where[:-1]:
            data = data[key]
        data[where[-1]] = value

    edit(files[2], change)
    with pytest.raises(UserError, match=words) as info:
        evaluate_files(*files)
    assert '\n' not in str(info.value)


def test_names_of_classes_are_no_markup():
    names = ['[/b]', '[red]', ':cat:', '[link=x]y']
    table = class_table([ClassScores({'IoU': dict.fromkeys(names, 1.0)}, {'IoU': 1.0})])
    assert all(f' {name} ' in table for name in names)


@pytest.mark.timing
@pytest.mark.usefixtures('one_thread')
@pytest.mark.parametrize('dtype', [np.int32, np.int64])
def test_cost_against_the_official_way_of_counting(dtype):
    gt, pred = (voronoi(seed) for seed in (0, 1))
    ids = np.random.default_rng(2).choice(2**24 - 1, 20, replace=False) + 1
    gt_ids, pred_map = ids[gt].astype(np.int32), (pred % 7 + 1000 * (pred + 1)).astype(dtype)
    gt_segments = [seg(int(ids[k]), k % 7, int((gt == k).sum())) for k in range(20)]
    pred_segments = [seg(k % 7 + 1000 * (k + 1), k % 7) for k in range(20)]

    def ours():
        match_segments(gt_ids, gt_segments, pred_map, pred_segments, void=133)

    def official_counting():
        np.unique(gt_ids.astype(np.uint64) * 256**3 + pred_map.astype(np.uint64), return_counts=True)
        np.unique(pred_map, return_counts=True)

    ours()
    ratio = min(fastest(ours) / fastest(official_counting) for _ in range(3))
    print(f'{ratio:.3f} of the time of the official way')
    assert ratio <= 0.3


def fastest(function):
    return min(cpu_seconds(function) for _ in range(25))


def voronoi(seed, num=20, height=480, width=640):
    """A map of ``num`` regions around random points."""
    y, x = np.mgrid[:height, :width]
    points = np.random.default_rng(seed).random((num, 2)) * (height, width)
    return np.argmin([(y - a) ** 2 + (x - b) ** 2 for a, b in points], axis=0)
