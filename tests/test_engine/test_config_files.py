"""Configs as tools read them, and errors on one line."""

from mmpanoptic.engine.configs import one_line
from mmpanoptic.utils import DatasetError, UserError


def test_messages_of_workers():
    """Torch puts the traceback of a worker around the message."""
    caught = 'Caught DatasetError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
    caught += '  File "a.py", line 3, in f\nmmpanoptic.utils.errors.DatasetError: a.png: IOError: bad\n  second line\n'
    assert one_line(DatasetError(caught)) == 'a.png: IOError: bad second line'
    assert one_line(UserError('SyntaxError: x\n y')) == 'SyntaxError: x y'
    assert one_line(UserError('a  b.png')) == 'a  b.png', 'names stay as they are'
