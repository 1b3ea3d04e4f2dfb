"""CIAE's category memory: which rows change, how fast, and that all processes agree."""

import pytest
import torch
import torch.nn.functional as F
from helpers.ranks import run_one_and_two
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner

from mmpanoptic.models import CategoryMemory, CIAELoss
from mmpanoptic.models.layers import scheduled_momentum
from mmpanoptic.models.losses import EmbeddingTargets


@pytest.fixture
def hub(monkeypatch) -> MessageHub:
    """What a runner would fill, empty."""
    hub = MessageHub('none')
    monkeypatch.setattr(MessageHub, 'get_current_instance', lambda: hub)
    return hub


def sums_of(rows: dict[int, list[float]], num_categories: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    sums, present = torch.zeros(num_categories, 3), torch.zeros(num_categories, dtype=torch.bool)
    for row, value in rows.items():
        sums[row], present[row] = torch.tensor(value), True
    return sums, present


def test_schedule():
    assert scheduled_momentum(0.9999, 0, 90000) == 0.9999
    assert scheduled_momentum(0.9999, 45000, 90000) == pytest.approx(0.9999875, abs=1e-12)
    assert scheduled_momentum(0.9999, 90000, 90000) == 1
    assert scheduled_momentum(0.9999, 180000, 90000) == 1
    assert scheduled_momentum(0.0, 45000, 90000) == pytest.approx(1 - 0.125)


def test_momentum_follows_the_runner(hub):
    assert CategoryMemory(2, 3).current_momentum() == 0.9999
    hub.update_info('iter', 30)
    assert CategoryMemory(2, 3).current_momentum() == 0.9999, 'nobody knows how long training lasts'
    assert CategoryMemory(2, 3, max_iters=60).current_momentum() == pytest.approx(0.9999875, abs=1e-12)
    hub.update_info('max_iters', 30)
    assert CategoryMemory(2, 3, max_iters=60).current_momentum() == 1


class Remembering(BaseModel):
    """A model that is a memory of three classes, notes its momentum in each step, and can be stopped in one."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.layer, self.memory = torch.nn.Linear(1, 1), CategoryMemory(3, 4, momentum=0.9)
        self.stop_at, self.seen = stop_at, []

    def forward(self, inputs, data_samples=None, mode='loss') -> dict[str, torch.Tensor]:
        self.seen.append(self.memory.current_momentum())
        if len(self.seen) == self.stop_at:
            raise KeyboardInterrupt
        self.memory.update(torch.eye(3, 4), torch.tensor([True, True, False]))
        return dict(loss=self.layer.weight.sum())


@pytest.mark.parametrize('loop', [dict(by_epoch=True, max_epochs=2), dict(by_epoch=False, max_iters=6)])
def test_schedule_of_a_training_that_is_resumed(loop, tmp_path, monkeypatch):
    """Six iterations, t = 0 to 5 of T = 6, however they are counted; the rows come back with the checkpoint."""

    monkeypatch.setattr(MessageHub, '_instance_dict', MessageHub._instance_dict.copy())  # other tests have no runner

    def run(name: str, stop_at: int | None = None, **kwargs) -> Remembering:
        torch.manual_seed(len(name))
        model = Remembering(stop_at)
        checkpoint = dict(type='CheckpointHook', interval=1 if loop['by_epoch'] else 3, by_epoch=loop['by_epoch'])
        Runner(
            model,
            str(tmp_path),
            train_dataloader=dict(
                batch_size=1,
                dataset=[dict(inputs=torch.zeros(1))] * 3,
                sampler=dict(type='DefaultSampler' if loop['by_epoch'] else 'InfiniteSampler', shuffle=False),
            ),
            train_cfg=loop,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(checkpoint=checkpoint, logger=None),
            default_scope='mmpanoptic',
            experiment_name=f'{tmp_path.name}_{name}',
            **kwargs,
        ).train()
        return model

    expected = [scheduled_momentum(0.9, t, 6) for t in range(6)]
    with pytest.raises(KeyboardInterrupt):
        run('stopped', stop_at=5)
    resumed = run('resumed', resume=True)
    assert resumed.seen == pytest.approx(expected[3:], abs=1e-12)
    (half,) = tmp_path.glob('epoch_1.pth' if loop['by_epoch'] else 'iter_3.pth')
    rows = torch.load(half, weights_only=False)['state_dict']['memory.embeddings']
    assert torch.equal(resumed.memory.embeddings[2], rows[2]), 'a class that never occurs stays as it was saved'
    for momentum in expected[3:]:
        rows[:2] = F.normalize(momentum * rows[:2] + (1 - momentum) * torch.eye(3, 4)[:2], dim=1)
    assert torch.allclose(resumed.memory.embeddings, rows, atol=1e-6)
    straight = run('straight')
    assert straight.seen == pytest.approx(expected, abs=1e-12)


def test_a_random_start_is_forgotten_at_the_rate_of_the_equation(hub):
    """tan(θ/2) = exp(-(1 - m) T / 4) for a start that is orthogonal to a fixed mean, here with T = 3000, m = .997."""
    memory = CategoryMemory(1, 2, momentum=0.997).double()
    memory.embeddings.copy_(torch.tensor([[0.0, 1.0]]))
    iterations = 3000
    hub.update_info('max_iters', iterations)
    sums, present = torch.tensor([[4.0, 0.0]], dtype=torch.float64), torch.tensor([True])
    for iteration in range(iterations):
        hub.update_info('iter', iteration)
        memory.update(sums, present)
    half = torch.tensor(-0.003 * iterations / 4).exp().atan()
    assert memory.embeddings[0, 1].item() == pytest.approx((2 * half).sin().item(), rel=0.01)


def test_only_what_is_present_changes(hub):
    memory = CategoryMemory(9, 3, momentum=0.9)
    before = memory.embeddings.clone()
    memory.update(*sums_of({7: [0.0, 8.0, -6.0]}))
    changed = (memory.embeddings != before).any(1)
    assert changed.nonzero().flatten().tolist() == [7]
    by_hand = 0.9 * before[7] + 0.1 * torch.tensor([0.0, 0.8, -0.6])
    assert torch.allclose(memory.embeddings[7], by_hand / by_hand.norm(), atol=1e-6)
    memory.update(*sums_of({c: [c + 1.0, -2.0, 0.5] for c in range(9)}))
    assert torch.allclose(memory.embeddings.norm(dim=1), torch.ones(9), atol=1e-6)


def test_starts_random_and_of_length_one():
    memory = CategoryMemory(54, 32)
    assert torch.allclose(memory.embeddings.norm(dim=1), torch.ones(54), atol=1e-6)
    assert (memory.embeddings @ memory.embeddings.T - torch.eye(54)).abs().max() < 0.9


def test_no_parameter_but_saved():
    memory = CategoryMemory(5, 4)
    assert not list(memory.parameters())
    assert not memory.embeddings.requires_grad
    assert list(memory.state_dict()) == ['embeddings']
    other = CategoryMemory(5, 4)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.embeddings, memory.embeddings)


def test_no_gradient_enters(hub):
    memory = CategoryMemory(9, 3)
    sums, present = sums_of({1: [1.0, 2.0, 3.0]})
    memory.update(sums.requires_grad_(), present)
    assert memory.embeddings.grad_fn is None
    assert not memory.embeddings.requires_grad


def test_frozen_in_evaluation(hub):
    memory = CategoryMemory(9, 3, momentum=0.5).eval()
    before = memory.embeddings.clone()
    memory.update(*sums_of({c: [1.0, 1.0, 1.0] for c in range(9)}))
    assert torch.equal(memory.embeddings, before)


@pytest.mark.parametrize('bad', [[1.0, float('nan'), 0.0], [1.0, float('inf'), 0.0], [0.0, 0.0, 0.0]])
def test_means_without_a_direction_are_left_out(hub, bad):
    memory = CategoryMemory(9, 3, momentum=0.0)
    before = memory.embeddings.clone()
    memory.update(*sums_of({3: bad, 4: [1.0, 0.0, 0.0]}))
    assert torch.equal(memory.embeddings[3], before[3])
    assert not torch.equal(memory.embeddings[4], before[4])


def test_one_step_of_the_loss_with_a_single_class(hub):
    """Pixels of class 7 and void alone: row 7 moves towards their mean, no other row moves."""
    memory = CategoryMemory(9, 3, momentum=0.5)
    before = memory.embeddings.clone()
    categories = torch.full((8, 8), 7)
    categories[4:] = -1
    raw = torch.randn(1, 3, 2, 2, requires_grad=True)
    targets = EmbeddingTargets(categories, torch.full((8, 8), -1), torch.zeros(0, 4))
    losses = CIAELoss()(raw, [targets], memory, 8)
    sum(losses.values()).backward()
    assert (memory.embeddings != before).any(1).nonzero().flatten().tolist() == [7]
    large = F.interpolate(raw.detach(), scale_factor=4, mode='bilinear', align_corners=False)[0, :, :4]
    mean = F.normalize(large.sum((1, 2)), dim=0)
    assert torch.allclose(memory.embeddings[7], F.normalize((before[7] + mean) / 2, dim=0), atol=1e-6)
    assert raw.grad.abs().sum() > 0


STEP = """
import torch
from helpers.ranks import join, leave
from mmengine import dist
from mmpanoptic.models import CategoryMemory, CIAELoss
from mmpanoptic.models.losses import EmbeddingTargets

rank, world_size = join()
torch.manual_seed(0)
memory = CategoryMemory(7, 4, momentum=0.5)
inputs = torch.randn(2, 4, 6, 8)
conv = torch.nn.Conv2d(4, 4, 1)
targets = []
for index in range(2):
    categories = torch.randint(0, 3, (24, 32)) + 3 * index  # classes that one process alone sees, and 3 of both
    categories[index * 10 :, 20:] = -1  # as many void pixels as the other has not
    instances = torch.full((24, 32), -1)
    boxes = torch.zeros(0, 4)
    if index == 0:
        instances[2:9, 3:12], categories[2:9, 3:12] = 0, 6
        boxes = torch.tensor([[3.0, 2.0, 12.0, 9.0]])
    categories[20:, :5] = 2
    targets.append(EmbeddingTargets(categories, instances, boxes))
share = slice(None) if world_size == 1 else slice(rank, rank + 1)
losses = CIAELoss()(conv(inputs[share]), targets[share], memory, 6)
sum(losses.values()).backward()
for parameter in conv.parameters():
    dist.all_reduce(parameter.grad, 'mean')  # as DistributedDataParallel does
result = dict(rows=memory.embeddings, weight=conv.weight.grad, bias=conv.bias.grad)
for name, value in losses.items():
    result[name] = value.detach()
    dist.all_reduce(result[name], 'mean')
leave(result)
"""


@pytest.mark.slow
def test_two_processes_are_one_on_the_joined_batch(tmp_path):
    """Rows, losses and averaged gradients; the images have unequal numbers of pixels that count."""
    one, two = run_one_and_two(tmp_path, '-c', STEP)
    for its in two:
        assert torch.allclose(its['rows'], one['rows'], atol=1e-6, rtol=0)
        for name in ('weight', 'bias', 'loss_cae', 'loss_iae'):
            assert torch.allclose(its[name], one[name], atol=1e-6, rtol=1e-5), name
    assert one['weight'].abs().max() > 1e-3


SEEDS = """
import torch
from helpers.ranks import join, leave
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner, set_random_seed
from mmpanoptic.models import CategoryMemory
from mmpanoptic.registry import HOOKS

class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.memory = torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(2), CategoryMemory(3, 4)

    def forward(self, present=True):
        self.memory.update(torch.eye(3, 4), torch.tensor([True, present, False]))
        return self.layer.weight.sum()

rank, world_size = join()
result = {}
for name in ('bare', 'wrapped', 'hook'):
    set_random_seed(5, diff_rank_seed=True)
    model = Model()
    result[f'{name} at first'] = model.memory.embeddings.clone()
    wrapped = model
    if name == 'wrapped' and world_size > 1:
        wrapped = torch.nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    if name == 'hook':
        hook = HOOKS.build(dict(type='SyncBuffersHook'))
        model.norm.running_mean.fill_(rank)
        runner = type('Runner', (), dict(model=model))
        hook.after_train_epoch(runner)
        hook.before_val_epoch(runner)
        result['statistics'] = model.norm.running_mean.clone()
    else:
        wrapped()
    result[name] = model.memory.embeddings.clone()
leave(result)
"""


@pytest.mark.slow
def test_seeds_that_differ_between_processes(tmp_path):
    """As with randomness.diff_rank_seed: the rows are those of one process, with a wrapper that synchronizes and
    without, and they are never averaged."""
    one, two = run_one_and_two(tmp_path, '-c', SEEDS)
    assert not torch.equal(two[0]['bare at first'], two[1]['bare at first'])
    for name in ('bare', 'wrapped'):
        assert torch.equal(two[0][name], two[1][name])
        assert torch.equal(two[0][name][2], one['bare at first'][2]), 'a class that was not seen'
        assert torch.allclose(two[0][name], one[name], atol=1e-6, rtol=0)
    assert torch.equal(two[1]['hook'], two[1]['hook at first'])
    assert [its['statistics'].tolist() for its in two] == [[0.5, 0.5]] * 2
