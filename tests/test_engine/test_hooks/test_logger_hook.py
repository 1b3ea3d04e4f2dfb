"""The logger hook: readable scores on the terminal, everything in the file, and one process that reports."""

import logging
from types import SimpleNamespace

import pytest

from mmpanoptic.engine.hooks import LoggerHook, logger_hook
from mmpanoptic.engine.terminal import is_for_terminal
from mmpanoptic.evaluation.tables import ClassScores
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
        visualizer=SimpleNamespace(add_scalars=lambda *_, **__: None),
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
