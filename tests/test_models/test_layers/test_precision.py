"""What is in float32 under autocast, of our own parts and of mmdet's and mmcv's that configs name."""

from collections import namedtuple

import pytest
import torch
from helpers.models import build_model, demo_batch, load_config, with_few_rois
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmdet.models import roi_heads
from mmengine.registry import init_default_scope
from torch import nn

from mmpanoptic.models import AllLevelRoIExtractor
from mmpanoptic.models.layers.precision import full, in_full_precision
from mmpanoptic.registry import MODELS

HALVES = [torch.float16, torch.bfloat16]
ROI_ALIGN = dict(type='RoIAlign', output_size=3, sampling_ratio=2)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpanoptic')


def test_full():
    pair = namedtuple('pair', 'a b')
    half, double = torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float64)
    found = full(pair([half, None], (double, 3)))
    assert isinstance(found, pair) and found.a[0].dtype == torch.float32 and found.b[0] is double
    assert found.a[1] is None and found.b[1] == 3


def test_in_full_precision():
    weight = torch.ones(2, 2)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.mm(weight, weight).dtype == torch.bfloat16
        assert in_full_precision(torch.mm, weight.bfloat16(), weight).dtype == torch.float32
        assert torch.mm(weight, weight).dtype == torch.bfloat16


@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('kind', ['SingleRoIExtractor', 'AllLevelRoIExtractor'])
def test_rois_are_where_they_are(kind, dtype):
    """At x = 1300.5 a ramp has the same values as in float32; half precision would be off by half a pixel or more."""
    config = dict(type=kind, roi_layer=ROI_ALIGN, out_channels=1, featmap_strides=[4, 8])
    extractor = MODELS.build(config)
    assert isinstance(extractor, (roi_heads.SingleRoIExtractor, AllLevelRoIExtractor))
    rois = torch.tensor([[0, 1297.5, 3.5, 1303.5, 9.5], [0, 1100.5, 0.5, 1330.5, 20.5]])
    feats = [(torch.arange(width) % 16.0).expand(1, 1, 8, width).to(dtype) for width in (334, 167)]
    expected = extractor([feat.float() for feat in feats], rois)
    found = extractor(feats, rois)
    assert found.dtype == dtype
    assert torch.equal(found, expected.to(dtype))


@pytest.mark.parametrize('dtype', HALVES)
def test_group_norm_gives_back_what_it_got(dtype):
    """Its sums are float32's: a mean of 300 leaves no fraction in half precision."""
    name, norm = build_norm_layer(dict(type='GN', num_groups=2), 4)
    assert name == 'gn' and isinstance(norm, nn.GroupNorm)
    x = (300 + torch.arange(64.0)).reshape(1, 4, 4, 4).to(dtype)
    reference = nn.GroupNorm(2, 4)
    assert torch.equal(norm(x.float()), reference(x.float()))
    with torch.autocast('cpu', torch.bfloat16):
        found = norm(x)
    assert found.dtype == dtype and torch.equal(found, reference(x.float()).to(dtype))


@pytest.mark.parametrize('kind', ['DCN', 'DCNv2'])
def test_deformable_convolutions_are_in_float32(kind):
    torch.manual_seed(0)
    conv = build_conv_layer(dict(type=kind), 4, 3, 3, padding=1, bias=False)
    nn.init.normal_(conv.conv_offset.weight)
    x = torch.randn(1, 4, 9, 9).bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        found = conv(x)
    assert found.dtype == torch.bfloat16 and torch.equal(found, conv(x.float()).bfloat16())


LOSSES = [
    (dict(type='FocalLoss', use_sigmoid=True), (4000, 8), lambda n: torch.zeros(n, dtype=torch.long)),
    (dict(type='CrossEntropyLoss', use_sigmoid=True), (4000,), lambda n: torch.zeros(n, dtype=torch.long)),
    (dict(type='CrossEntropyLoss'), (4000, 8), lambda n: torch.zeros(n, dtype=torch.long)),
    (dict(type='L1Loss'), (4000, 4), lambda n: torch.zeros(n, 4)),
    (dict(type='SmoothL1Loss'), (4000, 4), lambda n: torch.zeros(n, 4)),
]


@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize(('config', 'shape', 'target'), LOSSES, ids=['focal', 'sigmoid', 'softmax', 'l1', 'smooth_l1'])
def test_losses_do_not_overflow(config, shape, target, dtype):
    """Their sum is beyond 65504, where float16 ends."""
    torch.manual_seed(0)
    pred = 60 + torch.rand(shape)
    if config['type'] == 'CrossEntropyLoss' and len(shape) == 2:
        pred[:, 0] = -60
    pred = pred.to(dtype).requires_grad_()
    loss = MODELS.build(config)
    with torch.autocast('cpu', torch.bfloat16):
        found = loss(pred, target(len(pred)), avg_factor=1)
    expected = loss(pred.float(), target(len(pred)), avg_factor=1)
    assert found.dtype == torch.float32 and expected > 65504
    assert torch.equal(found, expected)
    found.backward()
    assert pred.grad.dtype == dtype


SYSTEMS = [
    'panoptic_fpn/panoptic-fpn_r18_fpn_shapes',
    'panet/panet_r18_fpn_shapes',
    'oanet/oanet_r18_fpn_shapes',
    'spatialflow/spatialflow_r18_fpn_shapes',
    'ciae/ciae_r18_fpn_shapes',
]


@pytest.mark.parametrize('name', SYSTEMS)
def test_a_step_in_bfloat16_is_close_to_one_in_float32(name):
    """On a CPU. Predictions are float32, whatever the network computes in."""
    config = with_few_rois(load_config(name))
    losses = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = build_model(config).train()
        torch.manual_seed(0)
        data = model.data_preprocessor(demo_batch(config), training=True)
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss, losses[dtype] = model.parse_losses(model(**data, mode='loss'))
        assert loss.dtype == torch.float32
        loss.backward()
        assert all(p.grad.isfinite().all() and p.grad.dtype == p.dtype for p in model.parameters())
    # What is computed for sampled RoIs differs: which are sampled depends on the last bit of an overlap.
    exact = {n: float(v) for n, v in losses[torch.float32].items() if n in ('loss_rpn_cls', 'loss_seg', 'loss_iae')}
    assert exact or 'spatialflow' in name
    for loss_name, value in exact.items():
        assert float(losses[torch.bfloat16][loss_name]) == pytest.approx(value, rel=0.02), loss_name
    assert float(losses[torch.bfloat16]['loss']) == pytest.approx(float(losses[torch.float32]['loss']), rel=0.25)
    model.eval()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        for sample in model.predict(data['inputs'], data['data_samples']):
            assert sample.pred_instances.bboxes.dtype == sample.pred_instances.scores.dtype == torch.float32
