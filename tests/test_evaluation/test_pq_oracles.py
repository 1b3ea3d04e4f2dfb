"""Panoptic quality against three independent judges, on random files and on real images."""

import pytest
from helpers.pq_cases import random_case, write_files
from helpers.pq_judges import JUDGES, judge_cityscapes

from mmpanoptic.evaluation.panoptic_files import evaluate_files

NUM_CASES = 60


def assert_agreement(judge, files):
    ours = evaluate_files(*files)
    per_class, averages = JUDGES[judge](*files)
    assert per_class.keys() == ours['per_class'].keys()
    for category_id, (tp, fp, fn, iou_sum) in per_class.items():
        mine = ours['per_class'][category_id]
        assert (mine['tp'], mine['fp'], mine['fn']) == (tp, fp, fn), category_id
        assert mine['iou_sum'] == pytest.approx(iou_sum, rel=1e-12, abs=1e-12), category_id
    for name, pq in averages.items():
        assert ours[name]['pq'] == pytest.approx(pq, rel=0, abs=1e-12), name
    return ours


@pytest.fixture(scope='session')
def random_files(tmp_path_factory):
    """Files of each kind of random images; how often what occurs is checked here."""
    kinds = {
        'plain': {'several_crowds': False},
        'several_crowds': {'several_crowds': True, 'crowd': 0.4},
    }
    files = {}
    for kind, options in kinds.items():
        cases = [random_case(seed, **options) for seed in range(NUM_CASES)]
        assert sum(not case.pred_segments for case in cases) > 2
        assert sum(s['area'] == 1 for case in cases for s in case.gt_segments) > 20
        assert sum(s['iscrowd'] for case in cases for s in case.gt_segments) > 20
        files[kind] = write_files(tmp_path_factory.mktemp(kind), cases)
    return files


KINDS = ['plain', 'several_crowds']
# Of several crowd segments of a class the official tool takes the last one of the list; vernier does not.
UNFIT = {('vernier', 'several_crowds')}


@pytest.mark.parametrize(('judge', 'kind'), [(j, k) for j in JUDGES for k in KINDS if (j, k) not in UNFIT])
def test_random_images(judge, kind, random_files):
    ours = assert_agreement(judge, random_files[kind])
    assert 0.1 < ours['All']['pq'] < 0.9
    assert ours['All']['n'] == 5


def test_cityscapes_sums_in_the_official_order(random_files):
    files = random_files['several_crowds']
    per_class, averages = judge_cityscapes(*files)
    ours = evaluate_files(*files)
    assert {c: (r['tp'], r['fp'], r['fn'], r['iou_sum']) for c, r in ours['per_class'].items()} == per_class
    assert {name: ours[name]['pq'] for name in averages} == averages


@pytest.mark.parametrize('judge', JUDGES)
def test_real_images(judge, shared_data):
    coco = shared_data / 'pq_fixtures' / 'coco'
    ours = assert_agreement(
        judge,
        (coco / 'gt.json', shared_data / 'coco_panoptic_sample' / 'panoptic', coco / 'pred.json', coco / 'pred'),
    )
    assert ours['All']['n'] > 80
