"""The logger hook: readable scores on the terminal, everything in the file, and one process that reports."""

import logging
from types import SimpleNamespace

import pytest
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmpanoptic.engine.hooks import LoggerHook, logger_hook
from mmpanoptic.engine.terminal import is_for_terminal
from mmpanoptic.evaluation.tables import ClassScores, main_scores
from mmpanoptic.registry import HOOKS

SCORES = {'panoptic/PQ': 12.24, 'panoptic/PQ_th': 8.0, 'panoptic/PQ_st': 20.5, 'coco/bbox_mAP': 0.0104}
CLASSES = ClassScores({'PQ': {'cat': 5.0, 'sky': 19.5}}, {'PQ': 12.24})


@pytest.fixture
def runner(tmp_path):
    """What the hook sees of a runner; ``terminal`` and ``file`` are what its logger has written there."""
    shown, written = [], []
    logger = logging.Logger('test')
    for messages in (shown, written):
        handler = logging.Handler()
        handler.emit = lambda record, messages=messages: messages.append(record.getMessage())
        if messages is shown:
            handler.addFilter(is_for_terminal)
        logger.addHandler(handler)
    loop = SimpleNamespace(evaluator=SimpleNamespace(metrics=[object(), SimpleNamespace(class_scores=CLASSES)]))
    return SimpleNamespace(
        log_processor=SimpleNamespace(get_log_after_epoch=lambda *_, **__: (SCORES, 'one long line'), by_epoch=True),
        logger=logger, log_dir=str(tmp_path), terminal=shown, file=written, test_loop=loop, val_loop=loop,
        test_dataloader=[], val_dataloader=[], _train_loop=object(), epoch=3,
        visualizer=SimpleNamespace(add_scalars=lambda *_, **__: None, _vis_backends={}), iter=12,
    )  # fmt: skip


@pytest.mark.parametrize('is_main', [True, False])
def test_the_first_process_alone_writes_the_scores_of_a_test(is_main, runner, tmp_path, monkeypatch):
    """tests/test_tools/test_distributed.py counts what two processes write."""
    hook = HOOKS.build(dict(type='LoggerHook'))
    assert type(hook) is LoggerHook
    hook.json_log_path = 'scores.json'
    monkeypatch.setattr(logger_hook, 'is_main_process', lambda: is_main)
    hook.after_test_epoch(runner, SCORES)
    assert [path.name for path in tmp_path.iterdir()] == (['scores.json'] if is_main else [])
    if not is_main:
        assert runner.file == []
        return
    assert runner.file[0] == 'one long line' and runner.file[1:] == runner.terminal
    (tables,) = runner.terminal
    assert '│ PQ     │ 12.24 │   8.00 │ 20.50 │' in tables and '│ box AP │       │   1.04 │       │' in tables
    assert '│ sky      │ 19.50 │' in tables and '│ mean     │ 12.24 │' in tables


def test_a_validation_is_one_line(runner):
    HOOKS.build(dict(type='LoggerHook')).after_val_epoch(runner, SCORES)
    assert runner.terminal == ['Validation after epoch 3: PQ 12.24 (things 8.00, stuff 20.50)  box AP 1.04']
    assert runner.file[0] == 'one long line' and '│ sky ' in runner.file[1]


def recorded(folder) -> dict[str, list[tuple[int, float]]]:
    """Step and value of all scalars that TensorBoard reads there."""
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()['scalars']}


@pytest.mark.parametrize(
    ('by_epoch', 'train_loop', 'meta', 'step'),
    [
        (True, {}, dict(epoch=7, iter=99), 7),
        (False, None, dict(epoch=7, iter=99), 99),
        (True, None, None, 0),
        (True, None, ['no', 'dict'], 0),
        (True, None, dict(epoch='seven'), 0),
        (True, object(), dict(epoch=7), 3),  # the training goes on from the checkpoint
        (False, object(), dict(iter=99), 12),
    ],
)
def test_tensorboard_has_the_main_scores_of_a_test(by_epoch, train_loop, meta, step, runner, tmp_path):
    backends = dict(
        local=LocalVisBackend(str(tmp_path / 'local')), board=TensorboardVisBackend(str(tmp_path / 'board'))
    )
    runner.visualizer._vis_backends, runner._train_loop = backends, train_loop
    hook = HOOKS.build(dict(type='LoggerHook', log_metric_by_epoch=by_epoch))
    hook.json_log_path = 'scores.json'
    hook.after_load_checkpoint(runner, dict(meta=meta))
    left_out = {'coco/cat_precision': 0.5, 'coco/bbox_mAP_s': -1.0, 'panoptic/SQ': float('nan'), 'x/copied': '0.1 0.2'}
    hook.after_test_epoch(runner, SCORES)
    backends['board'].close()
    assert recorded(tmp_path / 'board') == {
        f'test/{key}': [(step, pytest.approx(value, rel=1e-6))] for key, value in SCORES.items()
    }
    assert not (tmp_path / 'local').exists()
    assert main_scores(SCORES | left_out) == SCORES


def test_a_full_disk_costs_the_curves_alone(runner):
    def full(*_, **__):
        raise OSError(28, 'No space left on device')

    runner.visualizer._vis_backends = dict(board=SimpleNamespace(add_scalars=full))
    hook = HOOKS.build(dict(type='LoggerHook'))
    hook.json_log_path = 'scores.json'
    hook.after_test_epoch(runner, SCORES)
    assert '│ PQ     │ 12.24 │' in runner.terminal[0]
    assert runner.terminal[1:] == ['Scores cannot be recorded (No space left on device): the run goes on']
