"""The logger hook where several processes test together."""

from types import SimpleNamespace

import pytest

from mmpanoptic.engine.hooks import LoggerHook, logger_hook
from mmpanoptic.registry import HOOKS


@pytest.mark.parametrize('is_main', [True, False])
def test_the_first_process_alone_writes_the_scores_of_a_test(is_main, tmp_path, monkeypatch):
    """tests/test_tools/test_distributed.py counts what two processes write."""
    hook = HOOKS.build(dict(type='LoggerHook'))
    assert type(hook) is LoggerHook
    hook.json_log_path = 'scores.json'
    monkeypatch.setattr(logger_hook, 'is_main_process', lambda: is_main)
    said = []
    runner = SimpleNamespace(
        log_processor=SimpleNamespace(get_log_after_epoch=lambda *_, **__: ({'panoptic/PQ': 0.5}, 'PQ: .5')),
        logger=SimpleNamespace(info=said.append),
        test_dataloader=[],
        log_dir=str(tmp_path),
    )
    hook.after_test_epoch(runner)
    assert said == (['PQ: .5'] if is_main else [])
    written = [path.read_text() for path in tmp_path.iterdir()]
    assert written == (['{"panoptic/PQ": 0.5}'] if is_main else [])
