"""The runner that the tools use."""

import copy
import time
from pathlib import Path

import pytest
from helpers.toy_training import toy_runner

from mmpanoptic.engine.runner import ToolRunner


def test_runs_of_one_second_share_neither_log_nor_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """mmengine finds loggers and message hubs by the names of runs, which end with the second they began in."""
    strftime = time.strftime
    fixed = {'%Y%m%d_%H%M%S': '20260101_000000'}
    monkeypatch.setattr(time, 'strftime', lambda form, *args: fixed.get(form) or strftime(form, *args))
    first = toy_runner(tmp_path / 'first')
    first.train()
    config = copy.deepcopy(first.cfg)
    config.work_dir = str(tmp_path / 'second')
    second = ToolRunner.from_cfg(config)
    assert second.experiment_name == first.experiment_name
    assert first.message_hub.get_info('epoch') == 2 and second.message_hub.get_info('epoch') is None
    assert {handler.baseFilename for handler in second.logger.handlers if hasattr(handler, 'baseFilename')} == {
        str(tmp_path / 'second/20260101_000000/20260101_000000.log')
    }
