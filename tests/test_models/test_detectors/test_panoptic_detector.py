"""What all panoptic detectors have in common: evidence, fusion of it, and a prediction that is both."""

import copy

import pytest
import torch
from helpers.models import demo_batch, load_config, on_meta, with_few_rois
from mmengine.runner import set_random_seed

from mmpanoptic.models import PanopticDetector
from mmpanoptic.models.detectors.samples import add_predictions
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import EmbeddingMap, StuffLabels, StuffLogits
from mmpanoptic.utils import UserError

STUFF = {  # of each system
    'panoptic_fpn/panoptic-fpn_r18_fpn_shapes': StuffLogits,
    'oanet/oanet_r18_fpn_shapes': StuffLogits,
    'spatialflow/spatialflow_r18_fpn_shapes': StuffLabels,
    'ciae/ciae_r18_fpn_shapes': EmbeddingMap,
}


@pytest.fixture(scope='module', params=STUFF)
def case(request: pytest.FixtureRequest) -> tuple:
    """A model that finds something and two images, of which one is padded, as it sees them; and its kind of stuff."""
    config = with_few_rois(load_config(request.param))
    config.model.panoptic_fusion_head.update(score_thr=0.0, stuff_area_limit=20)
    test_cfg = config.model.test_cfg
    (test_cfg.rcnn if 'rcnn' in test_cfg else test_cfg).update(score_thr=0.0, max_per_img=6)
    set_random_seed(0)
    model = MODELS.build(config.model).eval()
    return model, model.data_preprocessor(demo_batch(config), training=False), STUFF[request.param]


@pytest.mark.parametrize('rescale', [True, False])
@torch.no_grad()
def test_prediction_is_fused_evidence(case, rescale):
    model, data, _ = case
    assert isinstance(model, PanopticDetector)
    inputs, samples = data['inputs'], data['data_samples']
    evidence = model.evidence(inputs, samples, rescale)
    expected = add_predictions(copy.deepcopy(samples), evidence, model.fuse(evidence))
    found = model.predict(inputs, copy.deepcopy(samples), rescale)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours.pred_instances)
        assert set(ours.pred_instances.keys()) == set(theirs.pred_instances.keys())
        for name, value in ours.pred_instances.items():
            assert torch.equal(value, theirs.pred_instances[name]), name
        assert torch.equal(ours.pred_panoptic_seg.sem_seg, theirs.pred_panoptic_seg.sem_seg)
        assert ours.pred_panoptic_seg.segments_info == theirs.pred_panoptic_seg.segments_info
        assert any(segment['instance'] is not None for segment in ours.pred_panoptic_seg.segments_info)


@pytest.mark.parametrize('rescale', [True, False])
@torch.no_grad()
def test_evidence_has_the_sizes_of_input_and_output(case, rescale):
    """Without what the batch pads."""
    model, data, kind = case
    evidence = model.evidence(data['inputs'], data['data_samples'], rescale)
    for found, sample, panoptic in zip(evidence, data['data_samples'], model.fuse(evidence), strict=True):
        assert found.input_size == sample.img_shape != sample.ori_shape
        height, width = found.output_size
        assert (height, width) == (sample.ori_shape if rescale else sample.img_shape)
        assert found.scale == ((0.5, 0.5) if rescale else (1.0, 1.0))
        assert panoptic.sem_seg.shape == (1, height, width)
        assert type(found.stuff) is kind
        if kind is EmbeddingMap:
            assert found.stuff.stride * found.stuff.embedding.shape[1] == data['inputs'].shape[2]
            assert 'masks' not in found.instances
        else:
            size = (found.stuff.logits if kind is StuffLogits else found.stuff.labels).shape[-2:]
            assert size == found.instances.masks.shape[1:] == (height, width)
        boxes = found.instances.bboxes
        assert boxes[:, 0::2].max() <= width and boxes[:, 1::2].max() <= height
        assert boxes.max() > max(height, width) / 2, 'boxes are in pixels of the output'


@torch.no_grad()
def test_the_map_of_a_cropped_input_is_of_its_size(case):
    """mmdet pastes masks onto the scaled original image, which may be larger than what was fed in."""
    model, data, _ = case
    samples = copy.deepcopy(data['data_samples'])
    for sample in samples:
        height, width = sample.ori_shape
        sample.set_metainfo(dict(ori_shape=(height + 20, width + 30)))
    for sample in model.predict(data['inputs'], samples, rescale=False):
        assert sample.pred_panoptic_seg.sem_seg.shape[1:] == sample.img_shape


@pytest.mark.parametrize('path', STUFF)
def test_thresholds_of_fusion_in_test_cfg_are_refused(path):
    """As mmdet has them: they would have no effect."""
    config = load_config(path)
    config.model.test_cfg.panoptic = dict(score_thr=0.125, mask_overlap=0.5)
    message = r'^test_cfg\.panoptic \(score_thr, mask_overlap\): .* panoptic_fusion_head, .*$'
    with pytest.raises(UserError, match=message):
        on_meta(MODELS.build, config.model)
    config.model.test_cfg.panoptic = {}
    config.model.panoptic_fusion_head.score_thr = 0.125
    assert on_meta(MODELS.build, config.model).panoptic_fusion_head.score_thr == 0.125
