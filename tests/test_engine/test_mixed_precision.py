"""Mixed precision in training: which type, and what is left of a scaler."""

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmpanoptic.engine.precision import choose_precision
from mmpanoptic.registry import OPTIM_WRAPPERS
from mmpanoptic.utils import UserError


def config_of(**wrapper):
    return Config(dict(optim_wrapper=wrapper))


def wrapper_of(**options):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, OPTIM_WRAPPERS.build(dict(type='mmpanoptic.AmpOptimWrapper', optimizer=optimizer, **options))


@pytest.fixture(params=[False, True], ids=['cpu', 'gpu'])
def has_gpu(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: request.param)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: True)
    return request.param


def test_type_where_none_is_said(has_gpu, capsys):
    config = config_of(clip_grad=dict(max_norm=1))
    choose_precision(config, 'auto')
    dtype = 'float16' if has_gpu else 'bfloat16'
    assert config.optim_wrapper == dict(
        clip_grad=dict(max_norm=1), type='AmpOptimWrapper', loss_scale='dynamic', dtype=dtype
    )
    assert ('mixed precision is bfloat16' in capsys.readouterr().out) == (not has_gpu)


@pytest.mark.parametrize('by_option', [True, False])
def test_type_that_is_said(has_gpu, by_option):
    for dtype in ('float16', 'bfloat16'):
        config = config_of() if by_option else config_of(type='AmpOptimWrapper', dtype=dtype)
        amp = dtype if by_option else None
        if dtype == 'float16' and not has_gpu:
            way_out = 'take --amp bfloat16' if by_option else 'take --cfg-options optim_wrapper.dtype=bfloat16'
            with pytest.raises(UserError, match=way_out):
                choose_precision(config, amp)
        else:
            choose_precision(config, amp)
            assert config.optim_wrapper.dtype == dtype


def test_a_config_can_leave_it_to_the_device(has_gpu):
    config = config_of(type='AmpOptimWrapper', dtype='auto')
    choose_precision(config, None)
    expected = dict(type='AmpOptimWrapper', dtype='float16') if has_gpu else dict(type='OptimWrapper')
    assert config.optim_wrapper == expected
    config = config_of(type='AmpOptimWrapper', dtype='auto')
    choose_precision(config, 'auto')
    assert config.optim_wrapper.dtype == ('float16' if has_gpu else 'bfloat16')


def test_option_goes_before_config():
    config = config_of(type='AmpOptimWrapper', dtype='float16', loss_scale=512.0)
    choose_precision(config, 'bfloat16')
    assert config.optim_wrapper == dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=512.0)
    config = config_of(type='OptimWrapper', dtype='float16', loss_scale=512.0)  # switched off by an option
    choose_precision(config, None)
    assert config.optim_wrapper == dict(type='OptimWrapper')


def test_unknown_type():
    with pytest.raises(UserError, match='float64'):
        choose_precision(config_of(type='AmpOptimWrapper', dtype='float64'), None)


def test_gpu_without_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: False)
    with pytest.raises(UserError, match='no bfloat16'):
        choose_precision(config_of(), 'bfloat16')


@pytest.mark.skipif(torch.cuda.is_available(), reason='of a machine without a GPU')
def test_a_step_on_a_cpu():
    model, wrapper = wrapper_of(clip_grad=dict(max_norm=1.0), loss_scale=512.0)
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        loss = model(torch.ones(1, 2))
    assert loss.dtype == torch.bfloat16 and not wrapper.loss_scaler.is_enabled()
    wrapper.update_params(loss.float().mean())
    step = (model.weight - before).norm()
    assert 0 < step <= 0.1, 'neither scaled nor skipped'
    with pytest.raises(ValueError, match="'float16' needs a GPU"):
        wrapper_of(dtype='float16')


@pytest.mark.skipif(torch.cuda.is_available(), reason='of a machine without a GPU')
def test_states_go_from_type_to_type():
    """A scaler's state is kept by what has one, and left out by what has none."""
    _, bfloat16 = wrapper_of()
    state = bfloat16.state_dict()
    assert state['loss_scaler'] == {}
    bfloat16.load_state_dict(state)
    scale = torch.amp.GradScaler('cpu', init_scale=1024.0)
    scale.scale(torch.ones(()))  # its scale exists once it is used
    bfloat16.load_state_dict(bfloat16.state_dict() | dict(loss_scaler=scale.state_dict()))

    _, float16 = wrapper_of()
    float16.loss_scaler = torch.amp.GradScaler('cpu', init_scale=64.0)  # as on a GPU
    float16.load_state_dict(bfloat16.state_dict())
    assert float16.loss_scaler.get_scale() == 64
    float16.load_state_dict(float16.state_dict() | dict(loss_scaler=scale.state_dict()))
    assert float16.loss_scaler.get_scale() == 1024
