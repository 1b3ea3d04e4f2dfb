"""Options of speed change no result beyond rounding, and no name of a weight."""

from types import SimpleNamespace

import pytest
import torch
from helpers.models import build_model, demo_batch, load_config, with_few_rois
from mmengine.model import BaseTTAModel

from mmpanoptic.engine.hooks import SpeedHook


class Wrapped(BaseTTAModel):
    """What a runner may have around a model."""

    def __init__(self, module):
        torch.nn.Module.__init__(self)
        self.module = module

    def merge_preds(self, data_samples_list):
        raise NotImplementedError


@pytest.fixture
def precision():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_nothing_is_on_by_default():
    model = torch.nn.Conv2d(2, 2, 3)
    before = torch.get_float32_matmul_precision()
    SpeedHook().prepare(model)
    assert model.weight.is_contiguous() and torch.get_float32_matmul_precision() == before
    assert model._compiled_call_impl is None


def test_tf32(precision):
    SpeedHook(tf32=True).prepare(torch.nn.Conv2d(2, 2, 3))
    assert torch.get_float32_matmul_precision() == 'high'


@pytest.mark.parametrize('options', [dict(channels_last=True), dict(compile=dict(backend='eager'))], ids=str)
def test_same_losses(options):
    config = with_few_rois(load_config('ciae/ciae_r18_fpn_shapes'))
    data = demo_batch(config)
    losses = []
    for hook in (SpeedHook(), SpeedHook(**options)):
        model = build_model(config).train()
        names = list(model.state_dict())
        hook.before_run(SimpleNamespace(model=Wrapped(model)))
        assert list(model.state_dict()) == names
        inputs = model.data_preprocessor(data, training=True)
        losses.append(model.parse_losses(model(**inputs, mode='loss'))[0])
        losses[-1].backward()
    if 'channels_last' in options:
        assert model.backbone.layer4[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    else:
        assert model.backbone._compiled_call_impl is not None and model.neck._compiled_call_impl is not None
    torch.testing.assert_close(losses[1], losses[0])
