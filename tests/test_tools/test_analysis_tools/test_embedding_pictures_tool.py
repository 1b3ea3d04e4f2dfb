"""Pictures of embeddings: which panels, what is in them, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fixtures.tiny_model import CIAE, TinyModel, write_tiny_model
from helpers.repo import load_tool

from mmpanoptic.analysis.embedding_pictures import query_of, unit_embeddings
from mmpanoptic.apis import PanopticInferencer
from mmpanoptic.drawing import draw
from mmpanoptic.utils import UserError
from mmpanoptic.visualization import PanopticVisualizer

TOOL = load_tool('analysis_tools/embedding_pictures')


@pytest.fixture(scope='module')
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_tiny_model(tmp_path_factory.mktemp('ciae'), CIAE)


def test_first_images_of_the_test_set(run: Callable, tiny_shapes: Path, titles: list[str]):
    options = (f'data_root={tiny_shapes}/', 'ann_file=annotations/panoptic_val.json')
    out = run('--images', '2', '--cfg-options', *(f'test_dataloader.dataset.{option}' for option in options))
    assert sorted(path.name for path in out.glob('*.png')) == ['000001.png', '000002.png']
    assert titles == 2 * ['instances and their points', 'embedding', 'prediction', 'ground truth']
    picture = cv2.imread(str(out / '000001.png'))
    assert picture.shape[1] == 2 * 4 * 128 + 6, 'two panels of images that are enlarged fourfold'
    assert picture.shape[0] > 2 * 4 * 96


def test_images_without_ground_truth(run: Callable, tiny: TinyModel, titles: list[str]):
    out = run(tiny.images / '07.png', tiny.images / '11.jpg')
    assert sorted(path.name for path in out.glob('*.png')) == ['07.png', '11.png']
    assert titles == 2 * ['instances and their points', 'embedding', 'prediction']


def test_panels_show_what_was_predicted(tiny: TinyModel):
    inferencer = PanopticInferencer(tiny.config, tiny.checkpoint, 'cpu')
    result, evidence, _ = inferencer.observe(str(tiny.images / '07.png'))
    assert any(segment.isthing for segment in result.segments)
    visualizer = PanopticVisualizer(name='test_embedding_pictures')
    visualizer.dataset_meta = inferencer.dataset_meta
    shown = dict(TOOL.panels(visualizer, result, evidence, None))
    np.testing.assert_array_equal(shown['prediction'], result.draw())
    embedding = shown['embedding']
    assert embedding.shape == shown['prediction'].shape == shown['instances and their points'].shape
    pixels = embedding[::6, ::6]
    np.testing.assert_array_equal(embedding, pixels.repeat(6, 0).repeat(6, 1))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100

    # The point of the first instance has the colour of its segment.
    first = next(i for i, segment in enumerate(result.segments) if segment.isthing)
    x, y = evidence.instances.points[result.segments[first].instance].tolist()
    labels = [segment.label for segment in result.segments]
    color = draw.segment_colors(labels, inferencer.dataset_meta['palette'])[first]
    drawn = shown['instances and their points'][6 * y : 6 * y + 6, 6 * x : 6 * x + 6].reshape(-1, 3)
    assert (drawn == color).all(1).any()

    stuff = [segment for segment in result.segments if not segment.isthing]
    shown = TOOL.panels(visualizer, replace(result, segments=stuff), evidence, None)
    assert len(dict(shown)) == 3, 'an image without things'


def test_similarities_to_queries(run: Callable, tiny: TinyModel, titles: list[str]):
    """A pixel of a segment is at least as similar to its own query as to that of any other stuff."""
    out = run(tiny.images / '07.png', '--queries')
    assert sorted(str(path.relative_to(out)) for path in out.rglob('*.png')) == ['07.png', 'queries/07.png']
    inferencer = PanopticInferencer(tiny.config, tiny.checkpoint, 'cpu')
    result, evidence, _ = inferencer.observe(str(tiny.images / '07.png'))
    number = inferencer.model.num_things_classes
    assert titles[3:] == ['image', *(f'{s.name} {100 * s.similarity:.0f}' for s in result.segments)]
    embeddings = unit_embeddings(evidence)
    shown = {s.id: torch.einsum('d,dhw->hw', query_of(s, evidence, number), embeddings) for s in result.segments}
    stuff = [segment for segment in result.segments if not segment.isthing]
    assert stuff and len(stuff) < len(result.segments)
    for segment in result.segments:
        inside = torch.from_numpy(result.id_map == segment.id)
        assert shown[segment.id][inside].mean() == pytest.approx(segment.similarity, abs=0.01)  # which is of samples
        for other in stuff:
            assert (shown[segment.id][inside] >= shown[other.id][inside] - 1e-5).all()
    visualizer = PanopticVisualizer(name='test_queries')
    first, *panels = TOOL.query_panels(visualizer, result, evidence, number)
    assert {picture.shape for _, picture in panels} == {first[1].shape} and len(panels) == len(result.segments)

    semantic = replace(evidence, stuff=replace(evidence.stuff, semantic=evidence.stuff.embedding[:1]))
    assert all((query_of(s, semantic, number) is None) == (not s.isthing) for s in result.segments)


def test_model_without_embeddings(run: Callable, tmp_path: Path):
    other = write_tiny_model(tmp_path)
    with pytest.raises(UserError, match=r'PanopticFPN has no pixel embeddings to draw.*configs/ciae'):
        run(other.images, config=other.config, checkpoint=other.checkpoint)
    assert not (tmp_path / 'new').exists()


def test_number_that_makes_no_sense(run: Callable):
    with pytest.raises(UserError, match='--images 0'):
        run('--images', '0')


def test_oracle_has_no_ground_truth_here(run: Callable, tiny: TinyModel):
    with pytest.raises(UserError, match=r'07\.png: the oracle needs ground truth'):
        run(tiny.images / '07.png', '--cfg-options', 'model.oracle=True')
