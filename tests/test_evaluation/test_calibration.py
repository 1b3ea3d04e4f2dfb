"""Calibration of scores, by hand, and the tool on files."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.repo import load_tool, run_main

from mmpanoptic.evaluation.calibration import rated_segments, reliability
from mmpanoptic.evaluation.segment_counts import count_segments, join_counts
from mmpanoptic.structures import id_to_rgb
from mmpanoptic.utils import UserError

CATEGORIES = [dict(id=1, name='nut', isthing=1), dict(id=5, name='sky', isthing=0)]


def test_reliability_by_hand():
    found = reliability([0.1, 0.12, 0.95, 1.0, 0.5], [0, 1, 1, 1, 0.25], bins=10)
    assert found.count.tolist() == [0, 2, 0, 0, 0, 1, 0, 0, 0, 2]
    assert found.score[[1, 5, 9]] == pytest.approx([0.11, 0.5, 0.975])
    assert found.share[[1, 5, 9]] == pytest.approx([0.5, 0.25, 1.0]) and np.isnan(found.share[0])
    assert found.error == pytest.approx((2 * 0.39 + 0.25 + 2 * 0.025) / 5)
    assert np.isnan(reliability([], []).error)


def test_scores_that_are_probabilities_have_no_error():
    rng = np.random.default_rng(0)
    scores = rng.random(200_000)
    assert reliability(scores, rng.random(len(scores)) < scores).error < 0.01
    assert reliability(scores, rng.random(len(scores)) < scores**2).error == pytest.approx(1 / 6, abs=0.01)


def maps() -> tuple[np.ndarray, np.ndarray]:
    """Ground truth: nut 1 on the left, sky 2, void on the right. Predicted: 3 is right, 4 half, 9 is on void."""
    truth, predicted = np.zeros((4, 10), np.int32), np.zeros((4, 10), np.int32)
    truth[:, :4], truth[:, 4:8] = 1, 2
    predicted[:, :4], predicted[:, 4:6], predicted[:, 6:8], predicted[:, 8:] = 3, 4, 6, 9
    return truth, predicted


TRUTH = [dict(id=1, label=0, area=16, iscrowd=0), dict(id=2, label=1, area=16, iscrowd=0)]
PREDICTED = [dict(id=3, label=0), dict(id=4, label=1), dict(id=6, label=0), dict(id=9, label=0)]
SCORES = {3: 0.75, 4: 0.5, 6: 0.25, 9: 0.125}


def test_segments_are_rated():
    truth, predicted = maps()
    counts = join_counts([count_segments(truth, TRUTH, predicted, PREDICTED)] * 2)
    scores = {('b', one): score for one, score in SCORES.items()}
    rated = rated_segments(counts, scores | {('a', 3): 1.0}, ['a', 'b'])
    assert rated.score.tolist() == [1.0, 0.75, 0.5, 0.25]  # 9 is excused: it lies on void
    assert rated.label.tolist() == [0, 0, 1, 0] and rated.matched.tolist() == [True, True, False, False]
    assert rated.purity.tolist() == [1, 1, 1, 0]


def test_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    tool = load_tool('analysis_tools/calibration')
    category_of = {0: 1, 1: 5}
    for name, ids, segments in zip(('gt', 'pred'), maps(), (TRUTH, PREDICTED), strict=True):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / '1.png'), id_to_rgb(ids)[..., ::-1])
        infos = [
            dict(id=s['id'], category_id=category_of[s['label']], area=s.get('area', 8), bbox=[0, 0, 4, 4], iscrowd=0)
            | (dict(score=SCORES[s['id']]) if name == 'pred' else {})
            for s in segments
        ]
        content = dict(images=[dict(id=1, file_name='1.jpg', height=4, width=10)], categories=CATEGORIES)
        content['annotations'] = [dict(image_id=1, file_name='1.png', segments_info=infos)]
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
    paths = [tmp_path / name for name in ('gt.json', 'gt', 'pred.json', 'pred')]
    run_main(tool, monkeypatch, *paths)
    printed = capsys.readouterr().out
    rows = {line.split('│')[1].strip(): line.split('│')[2:-1] for line in printed.splitlines() if line.count('│') == 8}
    assert [cell.strip() for cell in rows['nut']] == ['2', '50.0', '50.0', '50.0', '25.0', '25.0']
    assert [cell.strip() for cell in rows['sky']] == ['1', '50.0', '0.0', '100.0', '50.0', '50.0']
    content = json.loads((tmp_path / 'pred.json').read_text())
    for segment in content['annotations'][0]['segments_info']:
        del segment['score']
    (tmp_path / 'pred.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match=r'pred\.json: no segment has a score: write predictions by mmpanoptic predict'):
        run_main(tool, monkeypatch, *paths)
    with pytest.raises(UserError, match='--bins 0'):
        run_main(tool, monkeypatch, *paths, '--bins', '0')
