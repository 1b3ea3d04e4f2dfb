"""Gradients of stuff and of instances at the backbone, against leaves and backward."""

import copy
import csv
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.models import build_model, demo_batch, load_config, with_few_rois
from mmengine.config import Config
from mmengine.runner import set_random_seed

from mmpanoptic.engine import configs
from mmpanoptic.engine.hooks import BranchGradientHook, branch_gradients
from mmpanoptic.engine.runner import build_runner
from mmpanoptic.utils import UserError

SYSTEMS = ('oanet/oanet_r18_fpn_shapes', 'panoptic_fpn/panoptic-fpn_r18_fpn_shapes')
SYSTEMS += ('spatialflow/spatialflow_r18_fpn_shapes',)


def config_of(name: str) -> Config:
    return with_few_rois(load_config(name))


def by_hand(model: torch.nn.Module, data_batch: dict) -> list[float]:
    """The last map is a leaf, the branches go backward one after the other."""
    data = model.data_preprocessor(copy.deepcopy(data_batch), training=True)
    *levels, last = (level.detach() for level in model.backbone(data['inputs']))
    last.requires_grad_()
    model.backbone.forward = lambda images: (*levels, last)
    losses = model(**data, mode='loss')
    del model.backbone.forward
    _, values = model.parse_losses(losses)
    stuff = losses.pop('loss_seg')
    losses.pop('loss_ranking', None)
    instance, _ = model.parse_losses(losses)
    assert set(values) - {'loss', 'loss_seg', 'loss_ranking', 'acc', 'conflict_pixels'} == {
        name for name in losses if 'loss' in name
    }
    means = []
    for loss in (stuff, instance):
        last.grad = None
        loss.backward(retain_graph=True)
        means.append(last.grad.abs().mean().item())
    return means


@pytest.mark.parametrize('name', SYSTEMS)
def test_equals_backward_by_hand_and_leaves_no_trace(name):
    config = config_of(name)
    model = build_model(config)
    model.init_weights()
    model.train()
    data_batch = demo_batch(config)
    set_random_seed(3)
    weights = copy.deepcopy(model.state_dict())
    samples = copy.deepcopy(data_batch['data_samples'])
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()

    found = branch_gradients(model, data_batch)

    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training and not model.backbone._forward_hooks
    for before, after in zip(samples, data_batch['data_samples'], strict=True):
        assert before.gt_sem_seg.sem_seg.shape == after.gt_sem_seg.sem_seg.shape
        assert before.gt_instances.masks.masks.shape == after.gt_instances.masks.masks.shape
    assert min(found) > 0
    assert found == pytest.approx(by_hand(model, data_batch), rel=1e-5)


def test_what_does_not_reach_the_backbone_has_no_gradient():
    """With a network of its own, OANet's stuff branch does not pull at the instances' backbone."""
    config = config_of(SYSTEMS[0])
    config.model.share = 'none'
    stuff, instance = branch_gradients(build_model(config).train(), demo_batch(config))
    assert stuff == 0 and instance > 0


def test_predictions_to_train_the_ranking_on_do_not_count():
    """They are made from the features of the same step, without a gradient."""
    config = config_of(SYSTEMS[0])
    data_batch = demo_batch(config)
    expected = branch_gradients(build_model(config).train(), data_batch)
    config.model.panoptic_fusion_head.train_input = 'pred'
    model = build_model(config).train()
    assert branch_gradients(model, data_batch) == pytest.approx(expected)
    assert model.training


def test_names_that_no_loss_has():
    config = config_of(SYSTEMS[1])
    model, data_batch = build_model(config).train(), demo_batch(config)
    with pytest.raises(UserError, match=r'with loss_sem or loss_ce in it: the losses are .*loss_rpn_cls.*, loss_seg'):
        branch_gradients(model, data_batch, stuff=('loss_sem', 'loss_ce'))
    with pytest.raises(UserError, match='with acc in it'):  # logged, but no loss
        branch_gradients(model, data_batch, instance=('acc',))
    assert not model.backbone._forward_hooks


def train(tiny_config: Path, work_dir: Path, *hooks: BranchGradientHook) -> dict[str, torch.Tensor]:
    """Weights after three iterations."""
    config = configs.load_config(str(tiny_config), work_dir=str(work_dir))
    config.launcher = 'none'
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=3)
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.test_cfg = config.test_dataloader = config.test_evaluator = None
    config.default_hooks.checkpoint = None
    config.log_processor.by_epoch = False
    runner = build_runner(config)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner.model.state_dict()


def test_training_goes_on_as_without(tiny_config, tmp_path):
    """To the last bit, buffers included; every second iteration is measured."""
    hook = BranchGradientHook(interval=2)
    measured = train(tiny_config, tmp_path / 'measured', hook)
    plain = train(tiny_config, tmp_path / 'plain')
    assert all(torch.equal(plain[key], value) for key, value in measured.items())
    assert [row[0] for row in hook.rows] == [1, 3]
    assert min(value for row in hook.rows for value in row) > 0
    with open(tmp_path / 'measured' / 'branch_gradients.csv', newline='') as file:
        header, *rows = csv.reader(file)
    assert header == ['iteration', 'stuff', 'instance']
    assert [tuple(map(float, row)) for row in rows] == hook.rows


def test_a_training_that_is_resumed_goes_on_with_its_file(tmp_path):
    def begin(iteration):
        BranchGradientHook().before_train(SimpleNamespace(iter=iteration, work_dir=str(tmp_path)))
        return (tmp_path / 'branch_gradients.csv').read_text().splitlines()

    assert begin(5) == begin(0) == ['iteration,stuff,instance']
    with open(tmp_path / 'branch_gradients.csv', 'a') as file:
        file.write('1,2.0,3.0\n')
    assert begin(5) == ['iteration,stuff,instance', '1,2.0,3.0']
    assert begin(0) == ['iteration,stuff,instance']
