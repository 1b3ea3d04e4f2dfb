"""Configs as tools read them, and errors on one line."""

import sys

import pytest
from helpers.repo import CONFIGS

from mmpanoptic.engine.configs import load_config, value_at
from mmpanoptic.utils import DatasetError, UserError, one_line


def test_messages_of_workers():
    """Torch puts the traceback of a worker around the message."""
    caught = 'Caught DatasetError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
    caught += '  File "a.py", line 3, in f\nmmpanoptic.utils.errors.DatasetError: a.png: IOError: bad\n  second line\n'
    assert one_line(DatasetError(caught)) == 'a.png: IOError: bad second line'
    assert one_line(UserError('SyntaxError: x\n y')) == 'SyntaxError: x y'
    assert one_line(UserError('a  b.png')) == 'a  b.png', 'names stay as they are'


def test_value_at_a_key():
    config = load_config(str(CONFIGS / 'panoptic_fpn/panoptic-fpn_r18_fpn_shapes.py'))
    assert value_at(config, 'train_cfg.max_epochs') == 3
    assert value_at(config, 'param_scheduler.1').get('type') == 'CosineAnnealingLR'
    assert value_at(config, 'optim_wrapper').optim_wrapper.optimizer.lr == 1e-3
    for key, words in {
        'optim_wrapper.optimzer': "optim_wrapper has no 'optimzer': there are type, optimizer, clip_grad",
        'param_scheduler.7': "param_scheduler has no '7': there are 0, 1",
        'train_cfg.max_epochs.x': "train_cfg.max_epochs has no 'x': there is nothing below it",
        'nothing': "the config has no 'nothing': there are ",
    }.items():
        with pytest.raises(UserError) as caught:
            value_at(config, key)
        assert str(caught.value).startswith(words)


def test_modules_beside_a_config_are_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'a_module_beside_a_config.py').write_text('VALUE = 1\n')
    (tmp_path / 'mine' / 'mine.py').write_text("custom_imports = dict(imports=['a_module_beside_a_config'])\n")
    monkeypatch.setattr('sys.path', [*sys.path])
    monkeypatch.chdir(tmp_path)
    load_config('mine/mine.py')
    assert sys.modules.pop('a_module_beside_a_config').VALUE == 1
    assert sys.path[-1] == str(tmp_path / 'mine')


def test_a_module_of_the_same_name_beside_another_config_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr('sys.path', [*sys.path])
    for folder in ('first', 'second'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'a_module_of_two.py').touch()
        (tmp_path / folder / 'c.py').write_text("custom_imports = dict(imports=['a_module_of_two'])\n")
    load_config(str(tmp_path / 'first' / 'c.py'))
    with pytest.raises(UserError, match=r'a_module_of_two is .*first.*, not .*second.*: give one of the files another'):
        load_config(str(tmp_path / 'second' / 'c.py'))
    del sys.modules['a_module_of_two']
