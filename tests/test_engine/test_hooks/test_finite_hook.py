"""The hook that stops a training whose losses or weights are not finite."""

from types import SimpleNamespace

import pytest
import torch
from fixtures.tiny_run import run_tool
from mmdet.structures import DetDataSample
from mmengine.optim import AmpOptimWrapper

from mmpanoptic.engine.checkpoints import first_not_finite
from mmpanoptic.engine.hooks import FiniteLossHook
from mmpanoptic.utils import UserError

NAN, INF = float('nan'), float('inf')


def batch(name='a.png'):
    return dict(inputs=[torch.ones(3, 2, 2)], data_samples=[DetDataSample(metainfo=dict(img_path=name))])


def train(hook, work_dir, losses, wrapper=None):
    """Runs the hook over iterations with these losses, each a dict by name; gives the warnings."""
    warnings = []
    logger = SimpleNamespace(warning=warnings.append)
    runner = SimpleNamespace(iter=0, work_dir=str(work_dir), optim_wrapper=wrapper, logger=logger)
    for index, values in enumerate(losses):
        runner.iter = index
        logged = {name: torch.tensor(value) for name, value in values.items()}
        hook.after_train_iter(runner, index, batch(f'{index}.png'), logged)
    hook.after_train_epoch(runner)
    return warnings


@pytest.mark.parametrize('value', [NAN, INF, -INF])
@pytest.mark.parametrize('place', [0, 1, 2])
def test_a_loss_that_is_not_finite_ends_the_training(tmp_path, value, place):
    losses = [dict(loss=1.0, loss_cls=0.5, acc=NAN) for _ in range(3)]
    losses[place]['loss_cls'] = value
    with pytest.raises(UserError) as ending:
        train(FiniteLossHook(), tmp_path, losses)
    message = str(ending.value)
    assert message.startswith(f'iteration {place + 1}: loss_cls is {value} ({place}.png)')
    file = tmp_path / 'non_finite' / f'iter_{place + 1}_rank_0.pth'
    assert str(file) in message
    kept = torch.load(file, weights_only=False)
    assert kept['data_batch']['data_samples'][0].img_path == f'{place}.png' and 'loss_cls' in kept['losses']


def test_finite_losses_and_other_numbers_pass(tmp_path):
    train(FiniteLossHook(), tmp_path, [dict(loss=1.0, acc=NAN), dict(loss=1e30, acc=1.0)])
    assert not list(tmp_path.iterdir())


def scaling(enabled):
    wrapper = AmpOptimWrapper.__new__(AmpOptimWrapper)
    wrapper.loss_scaler = SimpleNamespace(is_enabled=lambda: enabled)
    return wrapper


def test_a_scaler_may_skip_some_steps(tmp_path):
    bad, good = dict(loss=INF, loss_cls=NAN), dict(loss=1.0)
    warnings = train(FiniteLossHook(max_skipped=2), tmp_path, [bad, bad, good, bad, bad, good], scaling(True))
    assert len(warnings) == 4, 'each names the losses'
    assert warnings[1].startswith('iteration 2: loss is inf, loss_cls is nan (1.png): step skipped (2 in a row')
    with pytest.raises(UserError, match='iteration 4: loss is inf'):
        train(FiniteLossHook(max_skipped=2), tmp_path, [good, bad, bad, bad], scaling(True))


def test_without_a_scaler_no_step_is_skipped(tmp_path):
    """bfloat16: the weights have had the step by now."""
    with pytest.raises(UserError, match='iteration 2: loss is inf'):
        train(FiniteLossHook(), tmp_path, [dict(loss=1.0), dict(loss=INF), dict(loss=1.0)], scaling(False))


def test_losses_are_read_an_iteration_late(tmp_path):
    """What is computed in an iteration is not waited for in it."""
    runner = SimpleNamespace(iter=0, work_dir=str(tmp_path), optim_wrapper=None)
    hook = FiniteLossHook()
    hook.after_train_iter(runner, 0, batch(), dict(loss=torch.tensor(NAN)))
    with pytest.raises(UserError):
        hook.after_train_iter(runner, 1, batch(), dict(loss=torch.tensor(1.0)))


def test_checkpoint_with_a_bad_value_is_not_written(tmp_path):
    runner = SimpleNamespace(iter=6, work_dir=str(tmp_path), optim_wrapper=None)
    bad = dict(state_dict=dict(a=torch.ones(2), b=torch.tensor([1, NAN])), optimizer=dict(state={}))
    with pytest.raises(UserError, match=r'iteration 7: state_dict\.b holds a value that is not finite') as refused:
        FiniteLossHook().before_save_checkpoint(runner, bad)
    assert refused.value.argument == 'allow_nan'
    FiniteLossHook(allow_nan=True).before_save_checkpoint(runner, bad)
    FiniteLossHook().before_save_checkpoint(runner, dict(state_dict=dict(a=torch.ones(2))))


def test_first_not_finite():
    content = dict(a=torch.arange(3), b=[dict(c=torch.ones(2)), dict(d=torch.tensor(INF))], e=NAN)
    assert first_not_finite(content) == 'b.1.d'
    assert first_not_finite(dict(a=torch.ones(0), half=torch.ones(1, dtype=torch.float16))) is None


@pytest.mark.slow
def test_too_high_a_learning_rate_keeps_the_good_checkpoint(tiny_run, tmp_path):
    """Through the tools: one line, no checkpoint lost, and a spoilt one is neither tested nor resumed."""
    options = ['optim_wrapper.optimizer.lr=1e30', 'optim_wrapper.clip_grad=None', 'train_cfg.max_epochs=4']
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    good = work_dir / tiny_run.checkpoint.name
    good.write_bytes(tiny_run.checkpoint.read_bytes())
    args = (tiny_run.config, '--work-dir', work_dir, '--cfg-options', *options, f'load_from={good}')
    ended = run_tool('train.py', *args, cwd=tmp_path)
    assert ended.returncode == 1 and 'Traceback' not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith('error: iteration ')
    assert [path.name for path in work_dir.glob('*.pth')] == [good.name]
    spoilt = torch.load(good, weights_only=False)
    spoilt['state_dict']['backbone.conv1.weight'][0] = NAN
    torch.save(spoilt, tmp_path / 'spoilt.pth')
    tested = run_tool('test.py', tiny_run.config, tmp_path / 'spoilt.pth', '--eval', 'PQ', cwd=tmp_path)
    assert tested.returncode == 1
    assert (
        'backbone.conv1.weight holds a value that is not finite' in tested.stderr and '(--allow-nan)' in tested.stderr
    )
