"""Mask head with fully-connected fusion."""

import pytest
import torch
from mmdet.models import FCNMaskHead
from torch import nn

from mmpanoptic.models import FCFusionMaskHead

NORMS = {'none': None, 'GN': dict(type='GN', num_groups=4), 'BN': dict(type='BN'), 'SyncBN': dict(type='SyncBN')}


def head(**kwargs):
    torch.manual_seed(0)
    sizes = dict(in_channels=4, conv_out_channels=8, num_classes=3, roi_feat_size=6, num_levels=2)
    model = FCFusionMaskHead(**{**sizes, **kwargs})
    model.init_weights()
    return model


def roi_features(num_rois=3, levels=2):
    return torch.randn(num_rois, levels, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def without_branch(model, **kwargs):
    """The same head with the same weights but for the branch."""
    main = head(fc_fusion=None, **kwargs)
    own = set(main.state_dict())
    assert own == {name for name in model.state_dict() if not name.startswith(('fc_convs', 'mask_fc'))}
    main.load_state_dict({name: value for name, value in model.state_dict().items() if name in own})
    return main


@pytest.mark.parametrize('fc_fusion', ['sum', 'product', 'max'])
def test_one_map_is_fused_with_all_classes(fc_fusion):
    model, x = head(fc_fusion=fc_fusion), roi_features()
    nn.init.normal_(model.mask_fc.weight)
    taps = []
    model.convs[2].register_forward_hook(lambda _, __, out: taps.append(out))
    fused = model(x)
    logits = without_branch(model)(x)
    branch = model.fc_logits(taps[0])
    assert branch.shape == (3, 1, 12, 12) and (branch < 0).any()
    expected = dict(sum=logits + branch, product=logits * branch, max=torch.maximum(logits, branch))
    torch.testing.assert_close(fused, expected[fc_fusion])
    if fc_fusion == 'sum':
        difference = fused - logits
        torch.testing.assert_close(difference, difference[:, :1].expand_as(difference))


@pytest.mark.parametrize(('fc_from', 'index'), [('conv2', 1), ('conv3', 2), ('conv4', 3)])
def test_branch_starts_behind_the_named_convolution(fc_from, index):
    model = head(fc_from=fc_from)
    outputs, inputs = {}, []
    for i, conv in enumerate(model.convs):
        conv.register_forward_hook(lambda _, __, out, i=i: outputs.update({i: out}))
    model.fc_convs[0].register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    model(roi_features())
    assert [i for i, out in outputs.items() if out is inputs[0]] == [index]


def test_default_is_the_papers():
    model = FCFusionMaskHead(norm_cfg=dict(type='GN', num_groups=32))
    assert (model.fc_source, model.fc_fusion, model.fc_relu) == (2, 'sum', False)
    assert model.mask_fc.weight.shape == (784, 25088)
    assert [conv.conv.weight.shape[:2] for conv in model.fc_convs] == [(256, 256), (128, 256)]
    assert model.fc_convs[1].gn.num_groups == 32
    branch = [p.numel() for name, p in model.named_parameters() if name.startswith(('fc_convs', 'mask_fc'))]
    assert sum(branch) == 20_555_280


def test_branch_is_laid_out_row_by_row():
    model = head()
    nn.init.zeros_(model.mask_fc.weight)
    with torch.no_grad():
        model.mask_fc.bias.copy_(torch.arange(144.0))
    branch = model.fc_logits(torch.zeros(2, 8, 6, 6))
    assert torch.equal(branch, torch.arange(144.0).reshape(1, 1, 12, 12).expand(2, -1, -1, -1))


def test_relu_on_the_branch_only_raises_logits():
    model, x = head(fc_relu=True), roi_features()
    nn.init.normal_(model.mask_fc.weight)
    difference = model(x) - without_branch(model)(x)
    assert difference.min() > -1e-5 and difference.max() > 0.1
    assert (difference.abs() < 1e-5).any()


@pytest.mark.parametrize('kwargs', [dict(num_levels=1), dict(fuse_stage='pre'), dict(share_first=True)])
def test_one_layer_without_branch_is_mmdets_head(kwargs):
    model = head(fc_fusion=None, **kwargs)
    reference = FCNMaskHead(in_channels=4, conv_out_channels=8, num_classes=3)
    reference.load_state_dict({k.replace('convs.0.layers.0', 'convs.0'): v for k, v in model.state_dict().items()})
    x = roi_features(levels=model.convs[0].num_levels)
    if 'share_first' in kwargs:
        x = x[:, :1].expand(-1, 2, -1, -1, -1)  # the same from each level
    torch.testing.assert_close(model(x), reference(x.amax(1)))
    if model.convs[0].num_levels == 1:
        torch.testing.assert_close(model(x[:, 0]), reference(x[:, 0]))


@pytest.mark.parametrize('num_rois', [0, 1])
@pytest.mark.parametrize('norm', NORMS.values(), ids=NORMS)
def test_any_number_of_rois_trains(norm, num_rois):
    model = head(norm_cfg=norm).train()
    logits = model(roi_features(num_rois))
    assert logits.shape == (num_rois, 3, 12, 12)
    logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert num_rois > 0 or not parameter.grad.any(), name
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_other_sizes():
    assert head(roi_feat_size=(6, 4))(roi_features()[..., :4]).shape == (3, 3, 12, 8)
    assert head(upsample_cfg=dict(type=None))(roi_features()).shape == (3, 3, 6, 6)
    assert head(class_agnostic=True)(roi_features()).shape == (3, 1, 12, 12)


def test_initial_weights():
    torch.manual_seed(0)
    model = FCFusionMaskHead(in_channels=64, conv_out_channels=64, norm_cfg=NORMS['GN'])
    model.init_weights()
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) == 4 + 3 + 2 + 1
    for conv in convs:
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert model.mask_fc.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not model.mask_fc.bias.any()
    assert not torch.equal(*(model.convs[0].layers[i].conv.weight for i in (0, 1)))


def test_refusals():
    with pytest.raises(ValueError, match="fc_fusion 'mean' is none of sum, product, max, None"):
        head(fc_fusion='mean')
    with pytest.raises(ValueError, match="fc_from 'conv5' is none of conv1, conv2, conv3, conv4"):
        head(fc_from='conv5')
