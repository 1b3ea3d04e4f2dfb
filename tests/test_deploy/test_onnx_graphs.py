"""ONNX files against the models that they are of."""

from pathlib import Path

import numpy as np
import pytest
from helpers.deployed import Deployed, blots, deploy
from mmengine.config import Config

from mmpanoptic.models.fusion.confidence import SAMPLES
from mmpanoptic.utils import UserError

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

# Upright and larger than the network's input, broad and smaller, and of its very size.
SIZES = ((131, 60), (51, 90), (96, 144))


def no_change(config: Config) -> None:
    pass


def lower(config: Config) -> None:
    config.model.panoptic_fusion_head.score_thr = 0.02
    config.model.test_cfg.score_thr = 0.01


def finer_ranks(config: Config) -> None:
    config.model.panoptic_fusion_head.update(stride=3, score_region='conflict', conflict='instance')


def by_score_in_classes(config: Config) -> None:
    config.model.panoptic_fusion_head.within_class = 'score'


def specific(config: Config) -> None:
    lower(config)
    config.model.semantic_head.thing_categories = 'spec'
    config.model.panoptic_fusion_head.update(category_from='embedding', box_scale=1.2)


def deformable(config: Config) -> None:
    config.model.bbox_head.update(deformable=('stuff', 'thing'), norm_cfg=None)


MODELS = {
    'panoptic-fpn': ('panoptic_fpn/panoptic-fpn_r18_fpn_shapes', no_change),
    'oanet': ('oanet/oanet_r18_fpn_shapes', no_change),
    'oanet of a coarser grid': ('oanet/oanet_r18_fpn_shapes', finer_ranks),
    'oanet with scores within classes': ('oanet/oanet_r18_fpn_shapes', by_score_in_classes),
    'spatialflow': ('spatialflow/spatialflow_r18_fpn_shapes', no_change),
    'spatialflow with deformable layers': ('spatialflow/spatialflow_r18_fpn_shapes', deformable),
    'ciae': ('ciae/ciae_r18_fpn_shapes', lower),
    'ciae by classes of its embeddings': ('ciae/ciae_r18_fpn_shapes', specific),
    'ciae with a semantic branch': ('ciae/ablations/shapes_semseg', lower),
}


@pytest.fixture(scope='module', params=MODELS)
def deployed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    name, change = MODELS[request.param]
    return deploy(name, tmp_path_factory.mktemp('onnx') / 'model.onnx', change)


def test_a_file_gives_what_its_model_gives(deployed: Deployed):
    session, things = deployed.session(), 0
    for size in SIZES:
        image = blots(*size)
        result = session(image)
        expected, segments = deployed.eager(image)
        assert result.id_map.shape == size
        assert result.id_map.dtype == np.int32
        assert np.mean(result.id_map == expected) >= 0.999
        assert [(one.id, one.label) for one in result.segments] == [(one['id'] + 1, one['label']) for one in segments]
        is_same = np.array_equal(result.id_map, expected)  # else other pixels may stand for stuff
        for one, info in zip(result.segments, segments, strict=True):
            assert one.score == pytest.approx(info['score'], abs=1e-4 if one.isthing or is_same else 0.02)
        things += sum(one.isthing for one in result.segments)
    assert things >= len(SIZES)  # else there was nothing to be wrong about


def test_confidence_of_stuff_is_the_model_s(deployed: Deployed):
    """Of the file's own map, so that equal pixels are judged; some of the segments are judged by a part of them."""
    session, areas, scores = deployed.session(), [], []
    for size in (*SIZES, (200, 260)):
        image = blots(*size)
        result = session(image)
        expected = deployed.stuff_scores(image, result.id_map)
        stuff = [one for one in result.segments if not one.isthing]
        assert {one.label: one.score for one in stuff} == pytest.approx(expected, abs=2e-5)
        areas += [one.area for one in stuff]
        scores += expected.values()
    assert min(areas) < SAMPLES < max(areas)
    assert np.ptp(scores) > 0.01


def test_areas_and_boxes_are_those_of_the_map(deployed: Deployed):
    result = deployed.session()(blots(70, 181))
    assert {one.id for one in result.segments} == set(np.unique(result.id_map)) - {0}
    for one in result.segments:
        rows, columns = np.nonzero(result.id_map == one.id)
        assert one.area == len(rows)
        corner = columns.min(), rows.min()
        assert one.bbox == (*corner, columns.max() - corner[0] + 1, rows.max() - corner[1] + 1)
        assert one.instance == (one.id // 1000 - 1 if one.isthing else None)


@pytest.mark.parametrize('model', ['oanet/oanet', 'ciae/ciae'])
@pytest.mark.parametrize('things, stuff', [(False, True), (True, False), (False, False)])
def test_an_image_without_things_or_stuff(model: str, things: bool, stuff: bool, tmp_path: Path):
    def limit(config: Config) -> None:
        lower(config)
        if not things:
            config.model.panoptic_fusion_head.score_thr = 2.0
        if not stuff:
            config.model.panoptic_fusion_head.stuff_area_limit = 10**6

    deployed = deploy(f'{model}_r18_fpn_shapes', tmp_path / 'model.onnx', limit)
    image = blots(60, 80)
    result = deployed.session()(image)
    expected, _ = deployed.eager(image)
    kinds = {one.isthing for one in result.segments}
    assert (True in kinds, False in kinds) == (things, stuff)
    assert np.mean(result.id_map == expected) >= 0.999


def test_a_file_for_one_size(tmp_path: Path):
    deployed = deploy('panoptic_fpn/panoptic-fpn_r18_fpn_shapes', tmp_path / 'model.onnx', size=(70, 181))
    image = blots(70, 181)
    expected, _ = deployed.eager(image)
    assert np.mean(deployed.session()(image).id_map == expected) >= 0.999
    with pytest.raises(UserError, match=r'model\.onnx takes images of 70x181 .* not of 71x181: .*--size dynamic'):
        deployed.session()(blots(71, 181))
