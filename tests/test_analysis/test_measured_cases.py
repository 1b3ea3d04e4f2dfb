"""Cases that are measured in turns, and samples to train on."""

import pytest
import torch
from helpers.models import build_model, load_config, with_few_rois
from mmengine.registry import DefaultScope
from torch import nn

from mmpanoptic.analysis.benchmark import Case, measure, training_samples, training_step
from mmpanoptic.analysis.dispatch import DispatchCounter
from mmpanoptic.analysis.rivals import load_rival


def test_cases_are_run_in_turns():
    runs = []

    def case(name, batch_size, what='inference', compiled=False):
        def run(index):
            runs.append((name, index))
            torch.ones(2).nonzero()
            return dict(total=batch_size * [1000, 3, 1, 2][index])

        return Case(what, name, 'float32', compiled, batch_size, run)

    rows = measure([case('a', 1), case('b', 4), case('c', 4, 'training'), case('d', 1, compiled=True)], 3, warmup=1)
    assert runs[:8] == [(name, index) for index in (0, 1) for name in 'abcd']
    assert [row['milliseconds']['total'] for row in rows] == [
        dict(median=2, min=1),
        dict(median=2, min=1),  # of an image
        dict(median=8, min=4),  # of a step
        dict(median=2, min=1),
    ]
    assert [row['waits'] for row in rows] == [1, 0.25, 0.25, None]
    assert runs[16:] == [(name, 0) for name in 'abc'], 'counted once more; what is compiled cannot be'
    assert rows[1] | dict(milliseconds=0, resident=0, launches=0) == dict(
        what='inference', model='b', precision='float32', compiled=False, batch_size=4, milliseconds=0,
        peak_device=0.0, resident=0, launches=0, waits=0.25, transfers=0,
    )  # fmt: skip


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_step_of_training_leaves_the_weights(dtype):
    config = with_few_rois(load_config('oanet/oanet_r18_fpn_shapes'))
    model = build_model(config)
    before = {name: value.clone() for name, value in model.named_parameters()}
    samples = training_samples(2, (96, 128), 7, 6, objects=5)
    run = training_step(model, samples, dtype)
    with DispatchCounter() as counter:
        assert run(0)['total'] > 0
    assert counter.operators['aten::convolution_backward'] > 20
    assert (counter.operators['aten::_foreach_add_.List'] or counter.operators['aten::add_.Tensor']) > 0
    assert run(1)['total'] > 0
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_training_samples():
    (sample, other) = training_samples(2, (90, 120), 7, 3, objects=5)
    assert not torch.equal(sample['inputs'], other['inputs'])
    labels = sample['data_samples'].gt_sem_seg.sem_seg
    assert set(labels.unique().tolist()) == {0, 1, 2, 3, 4, 7, 8, 9}
    instances = sample['data_samples'].gt_instances
    assert len(instances) == 5 and instances.masks.masks.shape == (5, 90, 120)


def test_a_rival_is_all_its_own():
    model, config = load_rival('mmdet', 'cpu')
    assert {type(module).__module__.split('.')[0] for module in model.modules()} == {
        'mmdet',
        'mmengine',
        'mmcv',
        'torch',
    }
    assert config.model.panoptic_fusion_head.num_things_classes == 80 and not model.training
    assert DefaultScope.get_current_instance().scope_name == 'mmpanoptic'


def test_dispatch_counter():
    weight = nn.Parameter(torch.ones(2, 2))
    x = torch.ones(2, 2)
    with DispatchCounter() as counter, torch.autocast('cpu', torch.bfloat16):
        y = x @ weight
        y.t().reshape(4)  # a view, then a copy
    assert counter.operators['aten::mm'] == 1
    assert (counter.casts, counter.waits, counter.transfers) == (2, 0, 0)
    # two casts, the product and the copy are launched
    assert counter.launches == 4 and counter.operators['aten::t'] == 1 and counter.views >= 2
    with DispatchCounter() as counter:
        x[x > 0] = 2
        x[x > 0].sum().item()
        x[torch.tensor([0])]
        x.nonzero()
        torch.unique(x)
        torch.bincount(torch.arange(3))
    assert counter.waits == 6
    with DispatchCounter() as counter:
        x.to('meta')
        torch.empty(2, 2, device='meta').copy_(x)
        x.double()
    assert (counter.transfers, counter.casts) == (2, 1)
    assert counter.launches == counter.operators.total() - counter.views
