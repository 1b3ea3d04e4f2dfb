"""Adaptive feature pooling: extractor, fusion, box head, and the count of where features come from."""

import numpy as np
import pytest
import torch
from mmcv.ops import RoIAlign
from torch import nn

from mmpanoptic.models import AdaptivePooling, AdaptivePoolingBBoxHead, AllLevelRoIExtractor, FCModule
from mmpanoptic.models.layers import assigned_levels, count_sources

STRIDES = [4, 8]
NORMS = {'none': None, 'GN': dict(type='GN', num_groups=4), 'BN': dict(type='BN'), 'SyncBN': dict(type='SyncBN')}
HEADS = {'2fc': dict(), '4conv1fc': dict(num_shared_convs=4, num_shared_fcs=1)}


def extractor(**kwargs):
    layer = dict(type='RoIAlign', output_size=(3, 2), sampling_ratio=2, **kwargs)
    return AllLevelRoIExtractor(roi_layer=layer, out_channels=3, featmap_strides=STRIDES)


def box_head(kind='2fc', norm=None, **kwargs):
    torch.manual_seed(0)
    norms = dict(fc_norm_cfg=norm) if kind == '2fc' else dict(norm_cfg=norm)
    sizes = dict(in_channels=4, roi_feat_size=3, conv_out_channels=8, fc_out_channels=16, num_classes=2)
    return AdaptivePoolingBBoxHead(**{**HEADS[kind], **sizes, **norms, **kwargs})


def roi_features(num_rois=5, levels=4, channels=4, size=3):
    generator = torch.Generator().manual_seed(num_rois)
    return torch.randn(num_rois, levels, channels, size, size, generator=generator)


def feature_maps():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 64 // s, 96 // s, generator=generator).requires_grad_() for s in STRIDES]


ROIS = torch.tensor([[0, 3.0, 5.0, 40.0, 60.0], [1, 0.0, 0.0, 96.0, 64.0], [1, 10.0, 10.0, 12.0, 15.0]])


@pytest.mark.parametrize('aligned', [True, False])
def test_every_roi_is_pooled_from_every_level(aligned):
    feats = feature_maps()
    pooled = extractor(aligned=aligned)(feats, ROIS)
    assert pooled.shape == (3, 2, 3, 3, 2)
    for level, (feat, stride) in enumerate(zip(feats, STRIDES, strict=True)):
        expected = RoIAlign((3, 2), 1 / stride, 2, aligned=aligned)(feat, ROIS)
        torch.testing.assert_close(pooled[:, level], expected)
        assert pooled[:, level].is_contiguous()


def test_one_operator_call_a_level():
    model, calls = extractor(), []
    for layer in model.roi_layers:
        layer.register_forward_pre_hook(lambda _, args: calls.append(len(args[1])))
    model(feature_maps(), ROIS)
    assert calls == [3, 3]


def test_scaled_rois():
    scaled = ROIS.clone()
    scaled[:, 1:] = torch.tensor([[-15.5, -22.5, 58.5, 87.5], [-48, -32, 144, 96], [9, 7.5, 13, 17.5]])
    feats = feature_maps()
    torch.testing.assert_close(extractor()(feats, ROIS, roi_scale_factor=2), extractor()(feats, scaled))


def test_no_rois():
    feats = feature_maps()
    pooled = extractor()(feats, ROIS[:0])
    assert pooled.shape == (0, 2, 3, 3, 2)
    pooled.sum().backward()
    assert all(torch.equal(feat.grad, torch.zeros_like(feat)) for feat in feats)


def test_as_many_levels_as_strides():
    with pytest.raises(ValueError, match='zip'):
        extractor()(feature_maps()[:1], ROIS)


def pooling_of_weights(*weights, fuse='max'):
    """Levels that multiply by a weight, then ReLU."""
    pooling = AdaptivePooling(FCModule(1, 1), num_levels=len(weights), fuse=fuse)
    for layer, weight in zip(pooling.layers, weights, strict=True):
        nn.init.constant_(layer.fc.weight, weight)
    return pooling


def test_fusion_comes_after_the_relu():
    x = torch.ones(1, 2, 1, 1, 1)
    assert pooling_of_weights(1.0, -1.0, fuse='sum')(x).item() == 1
    assert pooling_of_weights(2.0, 3.0, fuse='sum')(x).item() == 5
    assert pooling_of_weights(2.0, 3.0, fuse='max')(x).item() == 3


def test_fusion_before_the_layer():
    x = torch.tensor([1.0, -3.0]).reshape(1, 2, 1, 1, 1)
    for fuse, expected in (('max', 2.0), ('sum', 0.0)):
        pooling = AdaptivePooling(FCModule(1, 1), num_levels=2, fuse=fuse, fuse_stage='pre')
        assert len(pooling.layers) == 1
        nn.init.constant_(pooling.layers[0].fc.weight, 2.0)
        assert pooling(x).item() == expected


def test_shared_first_layer():
    pooling = AdaptivePooling(FCModule(1, 1), num_levels=2, share_first=True)
    nn.init.constant_(pooling.layers[0].fc.weight, 2.0)
    assert len(pooling.layers) == 1
    assert pooling(torch.tensor([-1.0, 3.0]).reshape(1, 2, 1, 1, 1)).item() == 6


@pytest.mark.parametrize('kind', HEADS)
def test_levels_start_from_different_weights(kind):
    for model in (box_head(kind), box_head(kind)):
        model.init_weights()
        weights = [next(layer.parameters()) for layer in model.pooling.layers]
        assert len({weight.data_ptr() for weight in weights}) == 4
        assert not any(torch.equal(weights[0], other) for other in weights[1:])


@pytest.mark.parametrize('kind', HEADS)
def test_silent_levels_leave_the_path_of_the_other(kind):
    model, x = box_head(kind), roi_features()
    for layer in model.pooling.layers[1:]:
        weight, bias = layer.parameters()
        nn.init.zeros_(weight)
        nn.init.constant_(bias, -100.0)
    only = model.pooling.layers[0](x[:, 0])
    assert torch.equal(model.pooling(x), only)
    alone = box_head(kind, num_levels=1)
    alone.load_state_dict(
        {k: v for k, v in model.state_dict().items() if 'pooling.layers' not in k or 'layers.0.' in k}
    )
    for ours, expected in zip(model(x), alone(x[:, 0]), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize('fuse', ['max', 'sum'])
@pytest.mark.parametrize('kind', HEADS)
def test_each_level_has_its_own_weights(kind, fuse):
    model, x = box_head(kind, fuse=fuse), roi_features()
    expected = model.pooling(x)
    order = [2, 0, 3, 1]
    assert not torch.allclose(model.pooling(x[:, order]), expected)
    model.pooling.layers = nn.ModuleList(model.pooling.layers[i] for i in order)
    torch.testing.assert_close(model.pooling(x[:, order]), expected)


@pytest.mark.parametrize('kind', HEADS)
def test_max_and_sum_differ_and_reach_every_level(kind):
    outputs = []
    for fuse in ('max', 'sum'):
        model = box_head(kind, fuse=fuse)
        logits, deltas = model(roi_features(16))
        assert logits.shape == (16, 3) and deltas.shape == (16, 8)
        outputs.append(logits)
        (logits.square().sum() + deltas.square().sum()).backward()
        assert all(
            layer.get_parameter(name).grad.any()
            for layer in model.pooling.layers
            for name, _ in layer.named_parameters()
        )
    assert not torch.allclose(*outputs)


@pytest.mark.parametrize('num_rois', [0, 1, 2])
@pytest.mark.parametrize('norm', NORMS.values(), ids=NORMS)
@pytest.mark.parametrize('kind', HEADS)
def test_any_number_of_rois_trains(kind, norm, num_rois):
    model = box_head(kind, norm).train()
    logits, deltas = model(roi_features(num_rois))
    (logits.square().sum() + deltas.square().sum()).backward()
    assert logits.shape == (num_rois, 3)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert num_rois > 0 or not parameter.grad.any(), name
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize('norm', ['BN', 'SyncBN'])
def test_single_roi_is_normed_by_running_statistics(norm):
    layer = FCModule(3, 2, NORMS[norm])
    nn.init.constant_(layer.bn.running_mean, 0.5)
    nn.init.constant_(layer.bn.running_var, 4.0)
    x = torch.tensor([[1.0, -2.0, 0.5]])
    expected = torch.relu((layer.fc(x) - 0.5) / (4.0 + 1e-5) ** 0.5)
    torch.testing.assert_close(layer.train()(x), expected)
    assert layer.bn.num_batches_tracked == 0
    layer(x.repeat(2, 1))
    assert layer.bn.num_batches_tracked == 1


def test_initial_weights():
    torch.manual_seed(0)
    heads = [
        AdaptivePoolingBBoxHead(in_channels=32, roi_feat_size=3, conv_out_channels=64, fc_out_channels=256, **kwargs)
        for kwargs in (dict(fc_norm_cfg=NORMS['GN']), dict(**HEADS['4conv1fc'], norm_cfg=NORMS['GN']))
    ]
    for model in heads:
        model.init_weights()
        for fc in (module.fc for module in model.modules() if isinstance(module, FCModule)):
            limit = (3 / fc.in_features) ** 0.5
            assert 0.97 * limit < fc.weight.abs().max() <= limit
            assert not fc.bias.any()
        assert model.fc_cls.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert model.fc_reg.weight.std().item() == pytest.approx(0.001, rel=0.05)
        assert not model.fc_cls.bias.any() and not model.fc_reg.bias.any()
    convs = [module for module in heads[1].modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) == 4 + 3
    for conv in convs:
        assert conv.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)


def test_refusals():
    for kwargs, message in (
        (dict(fuse='mean'), "fuse 'mean' is none of max, sum"),
        (dict(fuse_stage='mid'), "fuse_stage 'mid' is none of post, pre"),
        (dict(with_avg_pool=True), 'with_avg_pool needs shared convolutions'),
    ):
        with pytest.raises(ValueError, match=message):
            box_head(**kwargs)
    for shape in ((5, 3, 4, 3, 3), (5, 4, 3, 3), (5, 36)):
        with pytest.raises(ValueError, match=r'it takes \(R, 4, C, h, w\) from AllLevelRoIExtractor'):
            box_head()(torch.zeros(shape))


def test_authors_box_head(shared_data):
    golden = np.load(shared_data / 'golden' / 'panet_box_head_2fc.npz')
    model = AdaptivePoolingBBoxHead(
        in_channels=64, fc_out_channels=128, num_classes=80, fc_norm_cfg=dict(type='GN', num_groups=32)
    ).eval()
    state = {}
    for ours, theirs in [*((f'pooling.layers.{i}', f'fc1.{i}') for i in range(4)), ('shared_fcs.0', 'fc2')]:
        for parameter in ('weight', 'bias'):
            state[f'{ours}.fc.{parameter}'] = golden[f'sd/Box_Head.{theirs}.0.{parameter}']
            state[f'{ours}.gn.{parameter}'] = golden[f'sd/Box_Head.{theirs}.1.{parameter}']
    for parameter in ('weight', 'bias'):
        state[f'fc_cls.{parameter}'] = np.roll(golden[f'sd/Box_Outs.cls_score.{parameter}'], -1, axis=0)
        state[f'fc_reg.{parameter}'] = golden[f'sd/Box_Outs.bbox_pred.{parameter}'][4:]
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    x = torch.stack([torch.from_numpy(golden[f'in/pooled_level{level}']) for level in (2, 3, 4, 5)], dim=1)
    close = dict(atol=2e-5, rtol=0)
    with torch.no_grad():
        for level, features in enumerate(model.pooling.fusion_inputs(x), start=2):
            np.testing.assert_allclose(features, golden[f'tap/level{level}'], **close)
        fused = model.pooling(x)
        np.testing.assert_allclose(fused, golden['tap/fused_max'], **close)
        np.testing.assert_allclose(model.shared_fcs[0](fused), golden['out/feat'], **close)
        logits, deltas = model(x)
    np.testing.assert_allclose(logits, np.roll(golden['out/cls_logits'], -1, axis=1), **close)
    np.testing.assert_allclose(deltas, golden['out/bbox_pred'][:, 4:], **close)


def test_assigned_levels():
    sides = torch.tensor([0.0, 10, 111.9, 112, 223.9, 224, 448, 2000])
    rois = torch.stack([torch.zeros(8), torch.full((8,), 7.0), torch.full((8,), 9.0), 7 + sides, 9 + sides], dim=1)
    assert assigned_levels(rois).tolist() == [0, 0, 0, 1, 1, 2, 3, 3]
    assert assigned_levels(rois, num_levels=2).tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert assigned_levels(torch.tensor([[0.0, 0, 0, 28, 448]]), finest_scale=28).tolist() == [2]
    assert assigned_levels(rois[:0]).shape == (0,)


def test_sources_are_counted_by_assigned_level():
    features = torch.tensor(
        [  # elements:  1 from level 0, 1 from level 1, a tie
            [[3.0, 1.0, 0.0], [2.0, 5.0, 0.0], [0.0, 0.0, 0.0]],
            [[0.0, 1.0, 4.0], [2.0, 5.0, 4.0], [0.0, 6.0, 0.0]],
            [[0.0, 0.0, 1.0], [2.0, 5.0, 0.0], [0.0, 0.0, 0.0]],
        ]
    )
    counts = count_sources(features, torch.tensor([0, 2, 0]))
    assert counts.tolist() == [[2, 3, 0], [0, 0, 0], [0, 1, 1]]
    assert torch.equal(count_sources(features[..., None, None], torch.tensor([0, 2, 0])), counts)
    assert not count_sources(features[:0], torch.zeros(0, dtype=torch.long)).any()
