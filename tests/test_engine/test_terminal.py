"""What is kept from the terminal, and what is not."""

import logging
import re
import sys
import warnings

import pytest
from helpers.repo import ROOT

from mmpanoptic.engine import terminal
from mmpanoptic.utils.logs import file_only, printed_to_log


@pytest.fixture
def logs():
    """A logger, and what it has written to the terminal and to a file."""
    logger, shown, written = logging.Logger('test'), [], []
    for messages in (shown, written):
        handler = logging.Handler()
        handler.emit = lambda record, messages=messages: messages.append(record.getMessage())
        logger.addHandler(handler)
    logger.handlers[0].addFilter(terminal.is_for_terminal)
    return logger, shown, written


def test_messages_that_are_for_the_file(logs):
    logger, shown, written = logs
    logger.info('Exp name: a')
    logger.info('paramwise_options -- a:lr=1')
    logger.info('Epoch(train) [1]')
    with file_only():
        logger.info('long')
        logger.warning('wrong')
    logger.info('short')
    assert shown == ['Epoch(train) [1]', 'wrong', 'short']
    assert len(written) == 6


def test_what_is_printed_goes_to_the_file(logs, capsys):
    logger, shown, written = logs
    with pytest.raises(ValueError), printed_to_log(logger):
        print('creating index...')
        raise ValueError
    with printed_to_log(logger):
        pass
    assert shown == [] and written == ['\ncreating index...'] and capsys.readouterr().out == ''


def test_printed_noise_is_dropped_line_by_line(capsys):
    with terminal.without_printed_noise():
        print('Loads checkpoint by local backend from path: a.pth')
        print('size mismatch for a', end='')
        sys.stdout.flush()
        print(': b')
        print('Loads', end='', flush=True)
        print(' checkpoint by x')
        print('the end', end='')
    assert capsys.readouterr().out == 'size mismatch for a: b\nthe end'


def test_no_tool_imports_what_prints_before_the_package_can_keep_it_quiet():
    """mmdet.datasets says on import that OneDL is not there."""
    for path in (ROOT / 'tools').rglob('*.py'):
        assert not re.search(r'^(from|import) mmdet\.(datasets|apis)', path.read_text(), re.MULTILINE), path


def test_warnings_of_libraries():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        terminal.silence_warnings()
        warnings.warn('torch.meshgrid: in an upcoming release, it will be required', stacklevel=1)
        warnings.warn('Default ``avg_non_ignore`` is False, if you would like', stacklevel=1)
        warnings.warn('something else', stacklevel=1)
    assert [str(one.message) for one in caught] == ['something else']
