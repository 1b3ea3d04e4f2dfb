"""The numbers of a report: those of the scores, counted again in other ways."""

import json
from collections import Counter

import numpy as np
import pytest
from helpers.pq_cases import CATEGORIES, random_case, write_files

from mmpanoptic.evaluation.file_scores import Bootstrap, score_files
from mmpanoptic.evaluation.panoptic_files import evaluate_files
from mmpanoptic.report import choose_images, contents_of
from mmpanoptic.report.contents import OCCLUSION, SIZES, quality, rows_by_image

NUMBER = 30


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp('report'), [random_case(seed) for seed in range(NUMBER)])


@pytest.fixture(scope='module')
def made(files):
    """Scores, the ground truth, and the contents of a report of predictions against the ground truth itself."""
    gt = json.loads(files[0].read_text())
    result = score_files(files[0], files[1], [files[2:], files[:2]], Bootstrap(50), segments=True)
    return result, gt, contents_of(result, rows_by_image(result), gt, str(files[0]), ['mine', 'perfect'])


def test_scores_are_the_official_ones(made, files):
    _, _, contents = made
    for run, predictions in zip(contents['runs'], (files[2:], files[:2]), strict=True):
        scores = evaluate_files(*files[:2], *predictions)
        for group in ('All', 'Things', 'Stuff'):
            for key in ('pq', 'sq', 'rq'):
                assert run['scores'][group][key] == 100 * scores[group][key]
            assert sum(run['points'][group].values()) == pytest.approx(100 - run['scores'][group]['pq'], abs=1e-9)
            low, high = run['scores'][group]['interval']
            assert 0 <= low <= high <= 100
        for category, values in zip(CATEGORIES, run['classes'], strict=True):
            of_class = scores['per_class'][category['id']]
            assert values['pq'] == 100 * of_class['pq'] and values['fn'] == of_class['fn']
    assert contents['difference']['All']['pq']['interval'][1] < 0 and contents['names'] == ['mine', 'perfect']
    json.dumps(contents, allow_nan=False)


def test_points_of_images_add_up(made):
    _, gt, contents = made
    for place, run in enumerate(contents['runs']):
        lost = [entry for image in contents['images'] for entry in image['lost'][place]]
        assert sum(points for *_, points in lost) == pytest.approx(100 - run['scores']['All']['pq'], abs=1e-3)
        number = Counter()
        for _, cause, count, _ in lost:
            number[cause] += count
        for cause in run['fn']:
            assert number[cause] == run['fn'][cause] + run['fp'][cause]
    assert [image['name'] for image in contents['images']] == [image['file_name'] for image in gt['images']]


def test_the_matrix_has_every_segment_once(made):
    _, _, contents = made
    for run in contents['runs']:
        table = np.array(run['confusion'])
        tp, fp, fn = (np.array([values[key] for values in run['classes']]) for key in ('tp', 'fp', 'fn'))
        np.testing.assert_array_equal(table[:-1].sum(axis=1), tp + fn)
        np.testing.assert_array_equal(table[:, :-1].sum(axis=0), tp + fp)
        np.testing.assert_array_equal(np.diag(table)[:-1], tp)
        wrong = sum(run['fn'][cause] for cause in run['fn'] if ' as ' in cause)
        assert table[:-1, :-1].sum() - tp.sum() == wrong and table[-1, -1] == 0
    assert wrong == 0 and np.array(contents['runs'][0]['confusion'])[:-1, :-1].sum() > tp.sum() / 4


def test_bins(made, files, tmp_path):
    _, gt, contents = made
    run, perfect = contents['runs']
    counted = sum(values['tp'] + values['fn'] for values in run['classes'])
    assert sum(one['number'] for one in run['sizes']) == counted
    small = sum(s['area'] < SIZES[0][0] and not s['iscrowd'] for a in gt['annotations'] for s in a['segments_info'])
    assert run['sizes'][0]['number'] == small
    things = {c['id'] for c in CATEGORIES if c['isthing']}
    assert sum(one['number'] for one in run['occlusion']) == sum(
        s['category_id'] in things and not s['iscrowd'] for a in gt['annotations'] for s in a['segments_info']
    )
    for bins in (perfect['sizes'], perfect['occlusion']):
        assert all((one['found'], one['iou']) == ((100, 100) if one['number'] else (None, None)) for one in bins)
    # Images of one bin, scored by themselves.
    few = {a['image_id'] for a in gt['annotations'] if 1 <= len(a['segments_info']) < 6}
    subset = gt | dict(
        images=[image for image in gt['images'] if image['id'] in few],
        annotations=[annotation for annotation in gt['annotations'] if annotation['image_id'] in few],
    )
    (tmp_path / 'few.json').write_text(json.dumps(subset))
    alone = evaluate_files(tmp_path / 'few.json', *files[1:])['All']['pq']
    assert run['crowdedness'][0]['number'] == len(few) > 3
    assert run['crowdedness'][0]['pq'] == pytest.approx(100 * alone)


def test_boxes_that_lie_in_others():
    """A cup in front of a quarter of a cat, and a dog by itself; nothing is predicted."""
    boxes = [(3, [0, 0, 20, 20]), (90, [10, 10, 10, 10]), (4, [50, 0, 9, 9]), (7, [0, 0, 60, 60])]
    segments = [dict(id=i, category_id=c, bbox=box, area=9, iscrowd=0) for i, (c, box) in enumerate(boxes, 1)]
    gt = dict(
        images=[dict(id=1, file_name='x.jpg', height=60, width=60)],
        annotations=[dict(image_id=1, file_name='x.png', segments_info=segments)],
        categories=[{k: v for k, v in c.items() if k != 'label'} for c in CATEGORIES],
    )
    rows = [
        dict(
            image_id=1,
            kind='missed',
            category_id=s['category_id'],
            gt_id=s['id'],
            pred_id=None,
            iou=None,
            cause='missed',
            points=1.0,
        )
        for s in segments
    ]
    values = dict(pq=0.0, sq=0.0, rq=0.0, n=4, tp=0, fp=0, fn=1)
    account = dict(points={}, fn={}, fp={})
    result = dict(
        segments=rows,
        notes=[],
        scores=dict.fromkeys(('All', 'Things', 'Stuff'), values) | {'per_class': {c['id']: values for c in CATEGORIES}},
        account=dict.fromkeys(('All', 'Things', 'Stuff'), account)
        | {'per_class': {c['id']: account for c in CATEGORIES}},
    )
    found = contents_of(result, rows_by_image(result), gt, 'gt.json', ['none'])['runs'][0]['occlusion']
    assert [one['name'] for one in found] == [name for _, name in OCCLUSION]
    assert [one['number'] for one in found] == [1, 0, 1, 1]  # the dog, the cat (0.25), the cup (1.0)


def test_quality_of_an_image():
    assert quality([]) is None
    match, missed, extra = dict(kind='match', iou=0.8), dict(kind='missed', iou=None), dict(kind='extra', iou=None)
    assert quality([match]) == 80 and quality([missed, extra]) == 0 and quality([match, missed, extra]) == 40


def test_images_that_are_shown(made):
    images = made[2]['images']
    known = [place for place, image in enumerate(images) if image['quality'][0] is not None]
    for number in (0, 1, 7, 12, len(images) + 5):
        chosen = choose_images(images, number)
        assert len(chosen) == min(number, len(known)) and list(chosen) == sorted(chosen)
    chosen = choose_images(images, 10)
    values = [images[place]['quality'][0] for place in known]
    for reason, extreme in (('worst', min(values)), ('best', max(values))):
        called = [place for place, reasons in chosen.items() if reason in reasons]
        assert 1 <= len(called) <= 2 and any(images[place]['quality'][0] == extreme for place in called)
    assert any('changed most' in reasons for reasons in chosen.values())
    alone = [image | dict(quality=image['quality'][:1]) for image in images]
    assert not any('changed most' in reasons for reasons in choose_images(alone, 10).values())
    assert choose_images([], 5) == {}
