"""An interrupted training ends as an uninterrupted one, to the last bit."""

import gc
import logging
import os
import resource
import signal
import warnings
from pathlib import Path

import pytest
import torch
from helpers.toy_training import KINDS, NUM, PER_EPOCH, toy_runner, weights
from mmengine.hooks import Hook
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from mmpanoptic.engine.checkpoint_files import latest_checkpoint
from mmpanoptic.engine.devices import Stopped
from mmpanoptic.engine.hooks import CheckpointHook, StopHook
from mmpanoptic.engine.terminal import LogFile
from mmpanoptic.utils import UserError
from mmpanoptic.visualization import PanopticVisualizer


class FullDisk(Hook):
    """From an iteration on, no file may grow beyond 100 bytes."""

    def __init__(self, at):
        self.at = at

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == self.at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


class Kill(Hook):
    """Send a signal to this process before an iteration, counted from 0, or in a validation."""

    def __init__(self, at=None, in_validation=None):
        self.at, self.in_validation = at, in_validation

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == self.at:
            os.kill(os.getpid(), signal.SIGTERM)

    def before_val_iter(self, runner, *args, **kwargs):
        if runner.iter == self.in_validation:
            os.kill(os.getpid(), signal.SIGTERM)


def run(work_dir, resume=None, **options):
    """Train, interrupted where ``options`` say; the runner, or None if it was interrupted."""
    kill = {key: options.pop(key) for key in ('at', 'in_validation') if key in options}
    full_at = options.pop('full_at', None)
    runner = toy_runner(work_dir, resume, **options)
    runner.register_hook(Kill(**kill), priority='VERY_HIGH')
    if full_at is not None:
        runner.register_hook(FullDisk(full_at))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGXFSZ)}
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            if not kill:
                runner.train()
                return runner
            with pytest.raises(Stopped) as stopped:
                runner.train()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            # At the end of a process they go by themselves. (isinstance would ask proxies what they stand for.)
            for found in gc.get_objects():
                if issubclass(type(found), _MultiProcessingDataLoaderIter):
                    found._shutdown_workers()
    assert stopped.value.code == 128 + signal.SIGTERM
    return None


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('at', [0, PER_EPOCH - 1, PER_EPOCH + 3])
def test_interrupted_equals_uninterrupted(kind, at, tmp_path):
    straight = run(tmp_path / 'straight', **KINDS[kind])
    run(tmp_path / 'cut', at=at, **KINDS[kind])
    checkpoint = latest_checkpoint(str(tmp_path / 'cut'))
    assert checkpoint is not None
    resumed = run(tmp_path / 'cut', resume=checkpoint, **KINDS[kind])
    assert resumed.iter == straight.iter == 3 * PER_EPOCH
    assert torch.equal(weights(resumed), weights(straight))


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_from_a_regular_checkpoint(kind, tmp_path):
    """Also of a run whose best checkpoint is saved again after the validation."""
    options = KINDS[kind] | dict(save_best='n', rule='greater')
    straight = run(tmp_path / 'straight', **options)
    other = run(tmp_path / 'a', interval=2 if KINDS[kind].get('by_epoch', True) else 8, **options)
    assert torch.equal(weights(other), weights(straight))
    run(tmp_path / 'a', at=12, **options, resume=None)
    # The regular one was kept although a later one was written between the regular ones.
    regular = [name for name in os.listdir(tmp_path / 'a') if name in ('epoch_2.pth', 'iter_12.pth', 'iter_8.pth')]
    resumed = run(tmp_path / 'a', resume=str(tmp_path / 'a' / regular[0]), **options)
    assert torch.equal(weights(resumed), weights(straight))


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['no workers', 'workers', 'persistent workers', 'aspect ratios'])
def test_from_a_checkpoint_within_an_epoch(kind, tmp_path):
    """Epochs are counted, and checkpoints are written by iterations."""
    options = dict(KINDS[kind], checkpoint_by_epoch=False, max_keep_ckpts=-1)
    straight = run(tmp_path / 'straight', **options)
    for done in (3, PER_EPOCH, 2 * PER_EPOCH - 1):
        resumed = run(tmp_path / 'resumed', resume=str(tmp_path / f'straight/iter_{done}.pth'), **options)
        assert torch.equal(weights(resumed), weights(straight))


@pytest.mark.parametrize('interval', [1, 2])
@pytest.mark.parametrize('kind', ['no workers', 'persistent workers', 'by iterations'])
def test_interrupted_in_a_validation(kind, interval, tmp_path):
    straight = run(tmp_path / 'straight', interval=interval, **KINDS[kind])
    at = 4 if kind == 'by iterations' else PER_EPOCH
    run(tmp_path / 'cut', in_validation=at, interval=interval, **KINDS[kind])
    resumed = run(tmp_path / 'cut', resume=latest_checkpoint(str(tmp_path / 'cut')), interval=interval, **KINDS[kind])
    assert torch.equal(weights(resumed), weights(straight))


def test_checkpoints_between_regular_ones_are_replaced(tmp_path):
    (tmp_path / '.epoch_1.pth.1.part').touch()  # of a process that was killed
    run(tmp_path, at=6)
    assert sorted(p.name for p in tmp_path.iterdir() if '.pth' in p.name) == ['epoch_1.pth', 'iter_7.pth']
    run(tmp_path, at=7, resume=latest_checkpoint(str(tmp_path)))
    assert sorted(p.name for p in tmp_path.glob('*.pth')) == ['epoch_1.pth', 'iter_8.pth']
    run(tmp_path, resume=latest_checkpoint(str(tmp_path)))
    assert sorted(p.name for p in tmp_path.glob('*.pth')) == ['epoch_3.pth']


@pytest.mark.parametrize('save_best', [None, 'n'])
def test_full_disk(save_best, tmp_path, capfd):
    """With a single checkpoint to keep, the good one is there until the next is whole."""
    with pytest.raises(UserError) as caught:
        run(tmp_path, full_at=PER_EPOCH + 1, save_best=save_best, rule='greater')
    best = [] if save_best is None else ['best_n_epoch_1.pth']
    assert sorted(p.name for p in tmp_path.iterdir() if 'epoch' in p.name) == [*best, 'epoch_1.pth']
    assert str(caught.value) == (
        f'{tmp_path}/epoch_2.pth cannot be written (File too large); {tmp_path}/epoch_1.pth is whole: make room and go '
        'on from it with --resume'
    )
    torch.load(tmp_path / 'epoch_1.pth', weights_only=False)
    assert run(tmp_path, resume=latest_checkpoint(str(tmp_path))).iter == 3 * PER_EPOCH


def test_logs_on_a_full_disk(tmp_path, capfd):
    handler = LogFile(tmp_path / 'log', 'w')
    handler.stream.close()
    handler.stream = open('/dev/full', 'w')  # noqa: SIM115  (the handler closes it)
    logger = logging.Logger('full')
    logger.addHandler(handler)
    for _ in range(3):
        logger.warning('x')
    assert capfd.readouterr().err == f'{tmp_path}/log cannot be written (No space left on device): the run goes on\n'


def test_scalars_on_a_full_disk(tmp_path, monkeypatch):
    visualizer = PanopticVisualizer(vis_backends=[dict(type='LocalVisBackend')], save_dir=str(tmp_path))
    visualizer.add_scalars(dict(a=1.0), step=1)
    (scalars,) = tmp_path.rglob('scalars.json')
    scalars.unlink()
    scalars.symlink_to('/dev/full')
    for step in range(3):
        visualizer.add_scalars(dict(a=1.0), step=step)


def test_other_data_within_an_epoch_are_refused(tmp_path):
    run(tmp_path, at=6)
    with pytest.raises(UserError, match='lies within an epoch of 5 batches, which has 6 now: leave dataset'):
        run(tmp_path, num=NUM + 1, resume=latest_checkpoint(str(tmp_path)))


def test_checkpoint_without_random_states(tmp_path):
    """Of mmengine or of an earlier version: the epoch goes on where it was."""
    run(tmp_path, at=6)
    path = latest_checkpoint(str(tmp_path))
    content = torch.load(path, weights_only=False)
    del content['meta']['random_states']
    torch.save(content, path)
    assert run(tmp_path, resume=path).iter == 3 * PER_EPOCH


NAMES = 'panoptic/PQ panoptic/PQ_th coco/segm_mAP cityscapes/AP50 mIoU x/SQ AP AP50 AP_car PQ RQ_st coco/AR_s@1000'


@pytest.mark.parametrize('name', NAMES.split())
def test_scores_are_better_when_larger(name):
    for save_best in (name, [name, 'loss']):
        hook = CheckpointHook(save_best=save_best)
        assert hook.rules[0] == 'greater' and hook.is_better_than[name](2, 1)
    hook = CheckpointHook(save_best='auto')
    hook._init_rule(hook.rules, [name])
    assert hook.rules == ['greater']


def test_save_best_of_what_there_is_not(tmp_path):
    with pytest.raises(UserError) as caught:
        run(tmp_path, save_best='PQ')
    assert str(caught.value) == (
        "default_hooks.checkpoint.save_best is 'PQ', and the validation gives n: choose one of them, or 'auto' for the "
        f'first; {tmp_path}/epoch_1.pth is whole, go on with --resume'
    )


def test_save_best_auto(tmp_path):
    run(tmp_path, save_best='auto', greater_keys=['n'])
    assert (tmp_path / 'best_n_epoch_1.pth').exists()


def test_last_link(tmp_path):
    """It follows the newest checkpoint, also one that an interruption wrote; files of that name in the way are left."""
    run(tmp_path, at=6, last_link='last.pth')
    assert (tmp_path / 'last.pth').readlink() == Path('iter_7.pth')
    run(tmp_path, resume=str(tmp_path / 'last.pth'), last_link='last.pth')
    assert (tmp_path / 'last.pth').readlink() == Path('epoch_3.pth')
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['epoch_3.pth', 'last.pth']
    assert not list(tmp_path.glob('.*part'))


@pytest.mark.parametrize(('kind', 'words'), [('no workers', '3 of 3 epochs'), ('by iterations', '15 of 15 iters')])
def test_a_finished_training_says_so(kind, words, tmp_path):
    run(tmp_path, **KINDS[kind])
    runner = toy_runner(tmp_path, latest_checkpoint(str(tmp_path)), **KINDS[kind])
    messages = []
    runner.logger.info = messages.append
    runner.train()
    (told,) = (message for message in messages if message.startswith('This training is finished: '))
    unit = words.split()[-1]
    assert words in told and f'train_cfg.max_{unit}={2 * int(words.split()[0])}' in told


@pytest.mark.parametrize(
    ('save_best', 'rule', 'kept'),
    [
        ('PQ', None, {'best_PQ_epoch_3.pth'}),
        ('panoptic/PQ', None, {'best_panoptic_PQ_epoch_3.pth'}),
        ('auto', None, {'best_panoptic_PQ_epoch_3.pth'}),
        (['auto'], None, {'best_panoptic_PQ_epoch_3.pth'}),
        (['PQ'], ['less'], {'best_PQ_epoch_1.pth'}),
        (['PQ', 'mine/error'], ['greater', 'less'], {'best_PQ_epoch_3.pth', 'best_mine_error_epoch_1.pth'}),
        (['panoptic/PQ', 'error'], 'greater', {'best_panoptic_PQ_epoch_3.pth', 'best_error_epoch_3.pth'}),
    ],
)
def test_save_best_in_every_form(save_best, rule, kept, tmp_path, monkeypatch):
    """A score that rises from epoch to epoch, and an error that does too."""
    epochs = iter(range(1, 4))

    def rising(self, results):
        return dict.fromkeys(('panoptic/PQ', 'mine/error'), next(epochs))

    monkeypatch.setattr('helpers.toy_training.Count.compute_metrics', rising)
    run(tmp_path, save_best=save_best, rule=rule)
    assert {path.name for path in tmp_path.glob('best_*.pth')} == kept


def test_save_best_of_several_of_a_name(tmp_path, monkeypatch):
    both = {'a/PQ': 1.0, 'b/PQ': 2.0}
    monkeypatch.setattr('helpers.toy_training.Count.compute_metrics', lambda self, results: both)
    with pytest.raises(UserError, match="save_best is 'PQ', and the validation gives a/PQ, b/PQ"):
        run(tmp_path, save_best='PQ')


def test_save_best_without_validation(tmp_path):
    """What every shipped config says, 'auto', is no wish for a score."""
    for save_best in ('auto', None):
        runner = toy_runner(tmp_path, save_best=save_best)
        runner._val_loop = None
        runner.train()
    runner = toy_runner(tmp_path / 'other', save_best=['PQ'])
    runner._val_loop = None
    with pytest.raises(UserError, match=r"save_best is 'PQ', and the config has no val_dataloader"):
        runner.train()


def test_save_best_of_what_may_be_better_when_smaller(tmp_path):
    with pytest.raises(UserError, match=r'save_best: is n better when larger\? set default_hooks\.checkpoint\.rule'):
        run(tmp_path, save_best='auto')


def test_intervals_of_nothing(tmp_path):
    runner = toy_runner(tmp_path)
    runner._train_loop['val_interval'] = 0
    with pytest.raises(UserError, match='val_interval is 0: 1 or more is needed'):
        runner.train()


@pytest.mark.parametrize('ignored', [True, False])
def test_signals_that_the_process_ignores(ignored):
    """A shell starts jobs in the background so that Ctrl-C, which is for the foreground, does not end them."""
    old = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    hook = StopHook()
    try:
        hook.before_train(None)
        assert (signal.getsignal(signal.SIGINT) is signal.SIG_IGN) == ignored
        assert callable(signal.getsignal(signal.SIGTERM))
        hook.after_train(None)
        assert (signal.getsignal(signal.SIGINT) is signal.SIG_IGN) == ignored
    finally:
        signal.signal(signal.SIGINT, old)
