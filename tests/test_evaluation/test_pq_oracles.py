"""Panoptic quality against three independent judges, on random files and on real images."""

import json

import hotcoco.panoptic
import numpy as np
import pytest
import vernier.panoptic
from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import average_pq, pq_compute_single_core
from helpers.pq_cases import random_case, write_files

from mmpanoptic.evaluation.panoptic_files import evaluate_files
from mmpanoptic.formats.panoptic_png import decode_panoptic_png

NUM_CASES = 60


def judge_cityscapes(gt_json, gt_dir, pred_json, pred_dir):
    gt, pred = json.loads(gt_json.read_text()), json.loads(pred_json.read_text())
    predictions = {a['image_id']: a for a in pred['annotations']}
    pairs = [(a, predictions[a['image_id']]) for a in gt['annotations']]
    categories = {c['id']: c for c in gt['categories']}
    stat = pq_compute_single_core(0, pairs, str(gt_dir), str(pred_dir), categories)
    per_class = {c: (stat[c].tp, stat[c].fp, stat[c].fn, stat[c].iou) for c in categories}
    averages = average_pq(stat, categories)
    return per_class, {name: averages[name]['pq'] for name in ('All', 'Things', 'Stuff')}


def judge_hotcoco(gt_json, gt_dir, pred_json, pred_dir):
    result = hotcoco.panoptic.pq_compute(str(gt_json), str(pred_json), str(gt_dir), str(pred_dir))
    per_class = {int(c): (r['tp'], r['fp'], r['fn'], r['iou']) for c, r in result['per_class'].items()}
    return per_class, {name: result[name]['pq'] for name in ('All', 'Things', 'Stuff')}


def judge_vernier(gt_json, gt_dir, pred_json, pred_dir):
    def load(path, folder):
        data = json.loads(path.read_text())
        maps = {
            a['image_id']: decode_panoptic_png((folder / a['file_name']).read_bytes(), 'x').astype(np.uint32)
            for a in data['annotations']
        }
        segments = {str(a['image_id']): a['segments_info'] for a in data['annotations']}
        return maps, json.dumps(segments).encode(), data

    gt_maps, gt_segments, gt = load(gt_json, gt_dir)
    pred_maps, pred_segments, _ = load(pred_json, pred_dir)
    summary = vernier.panoptic.Evaluator(parity_mode='strict').evaluate(
        vernier.panoptic.Dataset.from_arrays(gt_maps, gt_segments, json.dumps(gt['categories']).encode()),
        vernier.panoptic.Predictions.from_arrays(pred_maps, pred_segments),
    )
    per_class = {c['id']: (0, 0, 0, 0.0) for c in gt['categories']}  # it leaves out classes that do not occur
    per_class |= {c: (r.n_tp, r.n_fp, r.n_fn, r.iou_sum) for c, r in summary.per_class().items()}
    return per_class, {'All': summary.pq, 'Things': summary.pq_things, 'Stuff': summary.pq_stuff}


JUDGES = {'cityscapes': judge_cityscapes, 'hotcoco': judge_hotcoco, 'vernier': judge_vernier}


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
        'wrong_area': {'several_crowds': False, 'wrong_area': True},
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


KINDS = ['plain', 'wrong_area', 'several_crowds']
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
