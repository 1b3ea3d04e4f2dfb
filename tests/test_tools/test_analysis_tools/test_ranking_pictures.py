"""Pictures of detection and ranking scores: which panels, what is in them, and what is refused."""

import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fixtures.tiny_model import OANET, TinyModel, write_tiny_model
from helpers.repo import load_tool

from mmpanoptic.apis import PanopticInferencer
from mmpanoptic.utils import UserError
from mmpanoptic.visualization import PanopticVisualizer

TOOL = load_tool('analysis_tools/ranking_pictures')
TITLES = ['detection scores', 'pasted by detection score', 'ranking scores', 'pasted by ranking score']


@pytest.fixture(scope='module')
def tiny(tmp_path_factory) -> TinyModel:
    return write_tiny_model(tmp_path_factory.mktemp('tiny'), OANET)


def test_a_picture_of_each_image(run: Callable, tiny: TinyModel, titles: list[str]):
    out = run(tiny.images / '07.png', tiny.images / '12.png')
    assert {path.name for path in out.glob('*.png')} == {'07.png', '12.png'}
    assert titles == 2 * TITLES
    picture = cv2.imread(str(out / '07.png'))
    assert picture.shape[1] % 2 == 0 and picture.shape[1] > 2 * 96


def test_orders_and_panels(tiny: TinyModel):
    inferencer = PanopticInferencer(tiny.config, tiny.checkpoint, 'cpu')
    head = inferencer.model.panoptic_fusion_head
    result, evidence, _ = inferencer.observe(str(tiny.images / '07.png'))
    scores = evidence.instances.scores
    assert len(scores) > 1
    (_, by_score, first), (_, by_ranking, second) = TOOL.orders(head, evidence)
    assert torch.equal(first, scores) and torch.equal(second, head.ranking_scores(evidence))
    for order, values in ((by_score, first), (by_ranking, second)):
        assert sorted(order) == [*range(len(scores))]
        assert all(values[a] >= values[b] for a, b in itertools.pairwise(order))

    # Random weights give about one score to all.
    evidence.instances.scores = torch.linspace(0.1, 0.9, len(scores))
    visualizer = PanopticVisualizer(name='test_ranking_pictures')
    visualizer.dataset_meta = inferencer.dataset_meta
    shown = dict(TOOL.panels(visualizer, result.image, head, evidence))
    assert list(shown) == TITLES
    assert len({picture.shape for picture in shown.values()}) == 1
    assert not np.array_equal(shown['detection scores'], shown['ranking scores'])
    assert not np.array_equal(shown['detection scores'], shown['pasted by detection score'])


def test_model_without_ranking(run: Callable, tmp_path: Path):
    other = write_tiny_model(tmp_path)
    with pytest.raises(UserError, match=r'PanopticFPN has no ranking scores to draw.*configs/oanet'):
        run(other.images, config=other.config, checkpoint=other.checkpoint)
    assert not (tmp_path / 'new').exists()
