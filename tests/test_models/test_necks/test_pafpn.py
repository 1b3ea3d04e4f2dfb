"""PAFPN against maps worked out by hand, mmdet's neck, and the authors' module."""

import numpy as np
import pytest
import torch
from mmdet.models import necks as mmdet_necks
from torch import nn

from mmpanoptic.models import PAFPN
from mmpanoptic.registry import MODELS

SIZES = ((16, 24), (8, 12), (4, 6), (2, 3))
CHANNELS = [2, 3, 4, 5]


def backbone_levels(channels=CHANNELS, sizes=SIZES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, c, *size, generator=generator) for c, size in zip(channels, sizes, strict=True)]


def neck(**kwargs):
    torch.manual_seed(1)
    model = PAFPN(in_channels=CHANNELS, out_channels=4, num_outs=5, **kwargs)
    model.init_weights()
    return model


def fpn_outputs(model, inputs):
    """P levels: what goes into the bottom-up path."""
    seen = []
    hooks = [conv.register_forward_hook(lambda _, __, out: seen.append(out)) for conv in model.fpn_convs]
    outs = model(inputs)
    for hook in hooks:
        hook.remove()
    return seen[:4], outs


def zero(*modules):
    for module in modules:
        for parameter in module.parameters():
            nn.init.zeros_(parameter)


def make_identity(conv):
    zero(conv)
    nn.init.dirac_(conv.conv.weight)


def chain_with_ones(chain):
    """N3 is 1 everywhere; the convolutions to N4 keep their input."""
    model = neck(chain=chain)
    zero(model.downsample_convs, model.pafpn_convs)
    nn.init.ones_(model.pafpn_convs[0].conv.bias)
    make_identity(model.downsample_convs[1])
    make_identity(model.pafpn_convs[1])
    return fpn_outputs(model, backbone_levels())


def test_each_level_starts_from_the_one_below_after_its_convolution():
    (_, _, p4, _), (_, n3, n4, *_) = chain_with_ones('post')
    assert torch.equal(n3, torch.ones_like(n3))
    torch.testing.assert_close(n4, torch.relu(1 + p4))


def test_mmdet_chain_starts_from_the_sum():
    (_, p3, p4, _), (_, n3, n4, *_) = chain_with_ones('pre')
    assert torch.equal(n3, torch.ones_like(n3))
    torch.testing.assert_close(n4, torch.relu(torch.relu(p3[..., ::2, ::2]) + p4))


def test_first_level_is_the_fpn_output_itself():
    pyramid, outs = fpn_outputs(neck(), backbone_levels())
    assert outs[0] is pyramid[0]


def test_relu_is_after_the_six_convolutions_and_nowhere_else():
    model = neck()
    sums = []
    for conv in model.pafpn_convs:
        conv.register_forward_pre_hook(lambda _, args: sums.append(args[0]))
    down = []
    for conv in model.downsample_convs:
        conv.register_forward_hook(lambda _, __, out: down.append(out))
    pyramid, outs = fpn_outputs(model, backbone_levels())
    assert all(level.min() < 0 for level in [*pyramid, *sums])
    assert all(level.min() == 0 and level.max() > 0 for level in [*down, *outs[1:4]])


def test_extra_level_is_pooled_from_the_last_augmented_one():
    model, inputs = neck(), backbone_levels()
    before = model(inputs)
    nn.init.constant_(model.pafpn_convs[2].conv.bias, 3.0)
    after = model(inputs)
    assert torch.equal(after[4], after[3][..., ::2, ::2])
    assert not torch.equal(after[4], before[4])
    assert all(torch.equal(a, b) for a, b in zip(after[:3], before[:3], strict=True))


EXTRA_LEVELS = {
    'pooled': dict(num_outs=6),
    'on_input': dict(num_outs=6, add_extra_convs='on_input', relu_before_extra_convs=True),
    'on_lateral': dict(num_outs=5, add_extra_convs='on_lateral'),
    'on_output': dict(num_outs=5, add_extra_convs='on_output', norm_cfg=dict(type='BN')),
    'from C3': dict(num_outs=5, start_level=1, add_extra_convs='on_output', relu_before_extra_convs=True),
    'without C5': dict(num_outs=3, end_level=2),
    'activated': dict(num_outs=5, act_cfg=dict(type='ReLU')),
}


@pytest.mark.parametrize('kwargs', EXTRA_LEVELS.values(), ids=EXTRA_LEVELS)
@pytest.mark.parametrize('sizes', [SIZES, ((13, 25), (7, 13), (4, 7), (2, 4))], ids=['even', 'odd'])
def test_computes_what_mmdet_computes_with_its_weights(kwargs, sizes):
    torch.manual_seed(0)
    reference = mmdet_necks.PAFPN(in_channels=CHANNELS, out_channels=4, **kwargs)
    model = PAFPN(in_channels=CHANNELS, out_channels=4, chain='pre', bottom_up_act_cfg=kwargs.get('act_cfg'), **kwargs)
    model.load_state_dict(reference.state_dict())
    inputs = backbone_levels(sizes=sizes)
    for ours, theirs in zip(model(inputs), reference(inputs), strict=True):
        torch.testing.assert_close(ours, theirs)
    # Norms have seen the same inputs equally often.
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)


def test_upsampling_by_a_factor():
    model = neck(upsample_cfg=dict(mode='nearest', scale_factor=2))
    by_size = neck()
    for ours, theirs in zip(model(backbone_levels()), by_size(backbone_levels()), strict=True):
        assert torch.equal(ours, theirs)


def test_is_the_one_that_configs_get_and_refuses_other_chains():
    cfg = dict(type='PAFPN', in_channels=CHANNELS, out_channels=4, num_outs=5)
    with MODELS.switch_scope_and_registry('mmpanoptic') as registry:
        assert type(registry.build(cfg)) is PAFPN
    with pytest.raises(ValueError, match="chain 'both' is none of post, pre"):
        neck(chain='both')
    with pytest.raises(ValueError, match='3 feature levels for 4'):
        neck()(backbone_levels()[:3])


def test_initial_weights_are_caffe2_xavier():
    model = PAFPN(in_channels=[256, 512], out_channels=64, num_outs=2)
    model.init_weights()
    for conv in (*model.lateral_convs, *model.fpn_convs, *model.downsample_convs, *model.pafpn_convs):
        limit = (3 / conv.conv.weight[0].numel()) ** 0.5
        assert 0.97 * limit < conv.conv.weight.abs().max() <= limit
        assert not conv.conv.bias.any()


def released_name(name):
    """Our parameter name to that of the authors' module."""
    kind, i, part = name.split('.', 2)
    i = int(i)
    layer = {'conv': 0, 'gn': 1}[part.split('.')[0]]
    parameter = part.split('.')[1]
    if kind == 'lateral_convs':  # theirs are numbered coarse to fine
        prefix = 'conv_top' if i == 3 else f'topdown_lateral_modules.{2 - i}.conv_lateral'
    elif kind == 'fpn_convs':
        prefix = f'posthoc_modules.{3 - i}'
    else:
        prefix = f'panet_buttomup_conv{1 if kind == "downsample_convs" else 2}_modules.{i}'
    return f'{prefix}.{layer}.{parameter}'


def test_authors_module(shared_data):
    golden = np.load(shared_data / 'golden' / 'panet_fpn_bpa_gn.npz')
    model = PAFPN(
        in_channels=[32, 64, 128, 256],
        out_channels=64,
        num_outs=5,
        norm_cfg=dict(type='GN', num_groups=32),
        bottom_up_bias=True,
    )
    names = {name: released_name(name) for name in model.state_dict()}
    assert {f'sd/{name}' for name in names.values()} == {key for key in golden if key.startswith('sd/')}
    model.load_state_dict({ours: torch.from_numpy(golden[f'sd/{theirs}']) for ours, theirs in names.items()})
    with torch.no_grad():
        pyramid, outs = fpn_outputs(model, [torch.from_numpy(golden[f'in/C{i}']) for i in (2, 3, 4, 5)])
    expected = ['out/4_N2', 'out/3_N3', 'out/2_N4', 'out/1_N5', 'out/0_P6']
    for out, key in zip(outs, expected, strict=True):
        np.testing.assert_allclose(out, golden[key], atol=2e-5, rtol=0)
    for level, out in enumerate(pyramid, start=2):
        np.testing.assert_allclose(out, golden[f'tap/mid_P{level}'], atol=2e-5, rtol=0)
