"""What a user reads when a tool ends."""

import os
import signal
import time
from urllib.error import URLError

import pytest

from mmpanoptic.engine import cli
from mmpanoptic.utils import DatasetError, UserError


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (UserError('a.pth holds\n objects', argument='trust_checkpoint'), 'a.pth holds objects (--trust-checkpoint)'),
        (UserError('work_dir: a cannot be made'), 'work_dir: a cannot be made'),
        (DatasetError('a.png is truncated'), 'a.png is truncated'),
        (OSError(28, 'No space left on device'), '[Errno 28] No space left on device'),
        (PermissionError(13, 'Permission denied', 'a.png'), "[Errno 13] Permission denied: 'a.png'"),
        (URLError('no route'), 'a file could not be fetched (no route): give a local path instead'),
    ],
)
def test_errors_are_one_line_with_the_flag_that_mends_them(error, line, capsys):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as ending:
        cli.run(main)
    assert ending.value.code == 1
    assert capsys.readouterr().err == f'error: {line}\n'


@pytest.mark.parametrize('error', [ZeroDivisionError(), OSError('could not get source code')])
def test_other_errors_keep_their_traceback(error):
    def main() -> None:
        raise error

    with pytest.raises(type(error)):
        cli.run(main)


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_that_a_library_makes_an_error_of(number, status, capsys):
    """As mmengine does while it formats a config: ``except:`` and then ``raise SyntaxError``."""

    def main() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        except BaseException:
            raise SyntaxError('in the config') from None

    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has background jobs ignore it
    try:
        with pytest.raises(SystemExit) as ending:
            cli.run(main)
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    assert ending.value.code == status
    assert capsys.readouterr().err == f'stopped by {number.name} at once\n'
