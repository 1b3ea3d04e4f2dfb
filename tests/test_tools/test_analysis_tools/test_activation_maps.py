"""Pictures of activation maps: which panels, what is in them, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fixtures.tiny_model import SPATIALFLOW, TinyModel, write_tiny_model
from helpers.repo import load_tool
from mmengine.config import Config

from mmpanoptic.apis import PanopticInferencer, load_model
from mmpanoptic.datasets.shapes.categories import LABELS, NAMES
from mmpanoptic.results import Instances, PanopticResult, Segment
from mmpanoptic.utils import UserError

TOOL = load_tool('analysis_tools/activation_maps')
STUFF = {name: LABELS[name] for name in ('sky', 'building', 'hedge', 'grass', 'pavement', 'road')}


@pytest.fixture(scope='module')
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    tiny = write_tiny_model(tmp_path_factory.mktemp('spatialflow'), SPATIALFLOW)
    # Of the size at which it is fed in, so that nothing is resized; 12 columns of padding are added.
    image = np.random.default_rng(1).integers(0, 256, (24, 35, 3), np.uint8)
    cv2.imwrite(str(tiny.images / 'large.png'), cv2.resize(image, (276, 192), interpolation=cv2.INTER_CUBIC))
    return tiny


@pytest.fixture(scope='module')
def inferencer(tiny: TinyModel) -> PanopticInferencer:
    return PanopticInferencer(tiny.config, tiny.checkpoint, 'cpu')


def test_first_images_of_the_test_set(run: Callable, tiny_shapes: Path, titles: list[str]):
    options = (f'data_root={tiny_shapes}/', 'ann_file=annotations/panoptic_val.json')
    out = run('--images', '2', '--cfg-options', *(f'test_dataloader.dataset.{option}' for option in options))
    assert sorted(path.name for path in out.glob('*.png')) == ['000001.png', '000002.png']
    assert titles[0] == titles[3] == 'image' and len(titles) == 6
    assert {*titles[1::3]} <= {*NAMES} - {*STUFF} and {*titles[2::3]} <= {*STUFF}
    picture = cv2.imread(str(out / '000001.png'))
    assert picture.shape[1] == 3 * 4 * 128 + 2 * 6, 'three panels of images that are enlarged fourfold'
    assert picture.shape[0] > 4 * 96


def test_asked_images_and_classes(run: Callable, tiny: TinyModel, titles: list[str]):
    out = run(tiny.images / '07.png', tiny.images / '11.jpg', '--classes', 'road', 'tie', 'sky')
    assert sorted(path.name for path in out.glob('*.png')) == ['07.png', '11.png']
    assert titles == 2 * ['image', 'road', 'tie', 'sky']


def test_maps_are_those_that_predictions_come_from(inferencer: PanopticInferencer, tiny: TinyModel):
    labels = list(range(len(NAMES)))
    result, maps = TOOL.activations(inferencer, str(tiny.images / 'large.png'), labels)
    assert not inferencer.model.bbox_head._forward_hooks
    assert list(maps) == labels
    for found in maps.values():
        assert found.shape == (192, 276) and found.dtype == np.float32
        assert 0 < found.min() < found.max() < 1
    # The best detection is the strongest place of all maps of things.
    strongest = {label: maps[label].max() for label in labels if label not in STUFF.values()}
    best = result.instances.scores.argmax()
    assert max(strongest, key=strongest.get) == result.instances.labels[best]
    np.testing.assert_allclose(max(strongest.values()), result.instances.scores[best], rtol=1e-5)
    # Where the panoptic map has stuff, this is the most probable of all stuff.
    stuff = np.stack([maps[label] for label in STUFF.values()])
    assert (stuff.sum(axis=0) < 1).all(), "the rest is the class 'other'"
    labels = result.id_map - 1
    has_stuff = np.isin(labels, [*STUFF.values()])
    assert has_stuff.sum() > 500
    best_stuff = min(STUFF.values()) + stuff.argmax(axis=0)
    np.testing.assert_array_equal(best_stuff[has_stuff], labels[has_stuff])


def test_maps_have_the_original_size(inferencer: PanopticInferencer, tiny: TinyModel):
    result, maps = TOOL.activations(inferencer, str(tiny.images / '07.png'), None)
    assert list(maps) == TOOL.foremost_labels(result) and len(maps) == 2
    assert all(found.shape == (64, 96) for found in maps.values())
    shown = dict(TOOL.panels(result, maps, [*NAMES]))
    assert all(picture.shape == (6 * 64, 6 * 96, 3) and picture.dtype == np.uint8 for picture in shown.values())
    (title, drawn), found = list(shown.items())[1], next(iter(maps.values()))
    assert title == f'{NAMES[next(iter(maps))]}, up to {found.max():.2f}'
    expected = TOOL.draw_heat(shown['image'], found.repeat(6, axis=0).repeat(6, axis=1))
    np.testing.assert_array_equal(drawn, expected)


def test_stuff_head_of_another_system(tiny: TinyModel, tmp_path: Path):
    """OANet's gives logits of stuff right away."""
    config, images = tmp_path / 'other.py', tiny.images / 'large.png'
    config.write_text(
        f'_base_ = {tiny.config!r}\n'
        "model = dict(semantic_head=dict(_delete_=True, type='OANetStuffHead', num_things_classes=7,\n"
        '    num_stuff_classes=6, in_channels=32, inner_channels=32, num_levels=3, norm_cfg=None))\n'
    )
    weights = torch.load(tiny.checkpoint, weights_only=False)
    model, _ = load_model(Config.fromfile(config), device='cpu')
    torch.save(dict(weights, state_dict=model.state_dict()), tmp_path / 'other.pth')
    other = PanopticInferencer(config, tmp_path / 'other.pth', 'cpu')
    _, maps = TOOL.activations(other, str(images), [*STUFF.values()])
    np.testing.assert_allclose(sum(maps.values()), np.ones((192, 276)), rtol=1e-5)


def test_foremost_classes():
    def segment(label: int, area: int, instance: int | None = None) -> Segment:
        return Segment(label + 1, label, '', instance is not None, None, area, (0, 0, 1, 1), instance)

    segments = [segment(0, 9, instance=1), segment(8, 1), segment(7, 3), segment(9, 2)]
    instances = Instances(np.zeros((3, 4)), np.array([2, 0, 5]), np.array([0.3, 0.2, 0.6]))
    image = np.zeros((4, 4, 3), np.uint8)
    assert TOOL.foremost_labels(PanopticResult(None, image, image[..., 0], segments, instances, [])) == [5, 7]
    assert TOOL.foremost_labels(PanopticResult(None, image, image[..., 0], segments[:1], instances[:0], [])) == []


def test_model_without_these_maps(run: Callable, tmp_path: Path):
    other = write_tiny_model(tmp_path)
    with pytest.raises(UserError, match=r'tiny\.py: PanopticFPN has not both .* configs/spatialflow'):
        run(other.images, config=other.config, checkpoint=other.checkpoint)
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--images', '0'], '--images 0: at least one image'),
        (['--classes', 'sky', 'giraffe'], "--classes: 'giraffe' is no class of this model, which has person, tie, "),
    ],
)
def test_arguments_that_make_no_sense(run: Callable, tmp_path: Path, args: list[str], message: str):
    with pytest.raises(UserError, match=message):
        run(*args)
    assert not (tmp_path / 'new').exists()
