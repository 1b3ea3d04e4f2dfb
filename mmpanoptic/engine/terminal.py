"""Short output of a run on the terminal; the log file has all messages."""

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

from mmpanoptic.utils.logs import is_file_only

# Beginnings of libraries' messages that go to the log file only: hundreds of lines, repetitions, and deprecations
# inside of mmengine.
_FILE_ONLY = (
    f'\n{"-" * 60}\nSystem environment',
    'Config:\n',
    'Hooks will be executed',
    'Distributed training is not used',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Exp name: ',
    'Loads checkpoint by ',
    'paramwise_options -- ',
)
# Beginnings of lines that libraries print instead of logging them.
_PRINTED = ('Loads checkpoint by ',)
# Beginnings of libraries' warnings about things that a user cannot change.
_WARNINGS = (
    'Default ``avg_non_ignore``',  # of the averaging that mmdet's own Panoptic FPN uses
    'Panoptic segmentation map will not be compressed',  # the help of --out says so
    'Setting ..._NUM_THREADS environment variable',
    'Initializing zero-element tensors',  # an error about the classes follows
    'Image size .* exceeds limit',  # from Pillow; an error follows
    '`broadcast_buffers` is deprecated',
    'torch.meshgrid: in an upcoming release',  # from mmdet
)


def silence_warnings() -> None:
    """Drop, in this process, libraries' warnings that a user cannot act on."""
    for message in _WARNINGS:
        warnings.filterwarnings('ignore', message=message)


def is_for_terminal(record: logging.LogRecord) -> bool:
    """Filter of the terminal's log handler: whether a message is shown."""
    return not is_file_only(record) and not record.getMessage().startswith(_FILE_ONLY)


class _WithoutLines(io.TextIOBase):
    """Passes text on to a stream, without lines that begin with one of :data:`_PRINTED`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._line = stream, ''

    def write(self, text: str) -> int:
        """Pass whole lines on."""
        *lines, self._line = (self._line + text).split('\n')
        for line in lines:
            if not line.startswith(_PRINTED):
                self._stream.write(f'{line}\n')
        return len(text)

    def flush(self) -> None:
        """Pass on the beginning of an unfinished line."""
        if self._line and not any(text.startswith(self._line) for text in _PRINTED):
            self._stream.write(self._line)
            self._line = ''
        self._stream.flush()


@contextlib.contextmanager
def without_printed_noise() -> Iterator[None]:
    """Drop lines that libraries print inside and that begin with one of :data:`_PRINTED`."""
    stream = _WithoutLines(sys.stdout)
    try:
        with contextlib.redirect_stdout(stream):
            yield
    finally:
        stream.flush()


class LogFile(logging.FileHandler):
    """A log file. If it cannot be written, one message says so, and the run continues."""

    _said = False

    @classmethod
    def like(cls, handler: logging.FileHandler) -> 'LogFile':
        """Make a handler that continues the file of another handler."""
        new = cls(handler.baseFilename, 'a')
        new.setFormatter(handler.formatter)
        new.setLevel(handler.level)
        for log_filter in handler.filters:
            new.addFilter(log_filter)
        return new

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (of logging)
        """Print the reason once."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._said:
            self._said = True
            print(f'{self.baseFilename} cannot be written ({error.strerror}): the run goes on', file=sys.stderr)
